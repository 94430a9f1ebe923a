use corewire::Status;

#[derive(speedy::Readable, speedy::Writable)]
pub struct Account {
    pub number: u64,
}

#[corewire::service]
pub trait Bank {
    #[corewire(key = "account")]
    async fn balance(&self, account: Account) -> Result<u64, Status>;
    #[corewire(key = "rate")]
    async fn rated(&self, name: String, rate: f64) -> Result<u64, Status>;
}

fn main() {}
