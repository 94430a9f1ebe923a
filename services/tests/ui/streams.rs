use corewire::{Status, Streaming};

#[corewire::service]
pub trait Store {
    async fn available(&self) -> Result<(), Status>;
    async fn nested(&self, parts: Vec<Streaming<u8>>) -> Result<Option<Streaming<u8>>, Status>;
    async fn twice(&self, one: Streaming<u8>, two: Streaming<u8>) -> Result<(), Status>;
    async fn in_itself(&self) -> Result<Streaming<Streaming<u8>>, Status>;
    async fn borrowed(&self, keys: Streaming<&str>) -> Result<(), Status>;
}

fn main() {}
