use corewire::{Status, Streaming};

#[derive(speedy::Readable, speedy::Writable)]
pub struct Account {
    pub number: u64,
}

#[corewire::service]
pub trait Bank {
    #[corewire(key = "acount")]
    async fn misspelt(&self, account: u64, amount: u64) -> Result<(), Status>;
    #[corewire(key = "account")]
    async fn nothing(&self) -> Result<(), Status>;
    #[corewire(key = "parts")]
    async fn stream(&self, parts: Streaming<u64>, account: u64) -> Result<(), Status>;
    #[corewire(key = "account", key = "amount")]
    async fn twice(&self, account: u64, amount: u64) -> Result<(), Status>;
    #[corewire(key)]
    async fn no_value(&self, account: u64) -> Result<(), Status>;
    #[corewire(key = 1)]
    async fn number(&self, account: u64) -> Result<(), Status>;
}

#[corewire::service(key = "account")]
pub trait OfTheService {
    async fn balance(&self, account: u64) -> Result<u64, Status>;
}

fn main() {}
