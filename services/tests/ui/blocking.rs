use corewire::{Bytes, Context, Status, Streaming};

#[corewire::service]
pub trait Store {
    #[blocking]
    fn fine(&self, key: Bytes) -> Result<Vec<u8>, Status>;
    #[blocking]
    fn alone(key: u32) -> Result<u32, Status>;
    #[blocking]
    #[one_way]
    fn note(&self, key: String);
    #[blocking]
    async fn awaits(&self) -> Result<(), Status>;
    #[blocking(threads = 4)]
    fn options(&self) -> Result<(), Status>;
    #[blocking]
    fn context(&self, context: &Context) -> Result<(), Status>;
    #[blocking]
    fn takes(&self, parts: Streaming<u8>) -> Result<(), Status>;
    #[blocking]
    fn gives(&self) -> Result<Streaming<u8>, Status>;
    fn forgotten(&self) -> Result<(), Status>;
}

fn main() {}
