use corewire::Status;

type Short = Result<(), Status>;

#[corewire::service]
pub trait Store {
    async fn nothing(&self);
    async fn bare(&self) -> u64;
    async fn alias(&self) -> Short;
    async fn one(&self) -> std::io::Result<u64>;
    async fn other(&self) -> Result<u64, std::io::Error>;
    async fn generic(&self) -> Result<u64, Box<Status>>;
}

fn main() {}
