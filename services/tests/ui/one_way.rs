use corewire::{Status, Streaming};

#[corewire::service]
pub trait Store {
    #[one_way]
    async fn fine(&self, key: String);
    #[one_way]
    async fn answers(&self, key: String) -> Result<(), Status>;
    #[one_way]
    async fn streams(&self, parts: Streaming<u8>);
    #[one_way(lossy)]
    async fn options(&self);
}

fn main() {}
