use corewire::Status;

#[corewire::service(nmae = "kv.Store", version = 2)]
#[corewire(name = "kv.Store")]
pub trait Store {
    #[corewire(rename = "get")]
    async fn fetch(&self) -> Result<(), Status>;
    #[corewire]
    async fn bare(&self) -> Result<(), Status>;
    #[corewire(name)]
    async fn no_value(&self) -> Result<(), Status>;
    #[corewire(name = 7)]
    async fn number(&self) -> Result<(), Status>;
    #[corewire(name = "")]
    async fn empty(&self) -> Result<(), Status>;
    #[corewire(name = "kv/get")]
    async fn slash(&self) -> Result<(), Status>;
    #[corewire(name = "a", name = "b")]
    async fn twice(&self) -> Result<(), Status>;
}

#[corewire::service("kv.Store")]
pub trait Positional {
    async fn fetch(&self) -> Result<(), Status>;
}

fn main() {}
