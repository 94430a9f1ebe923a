use corewire::Status;

#[corewire::service]
pub trait Store {
    async fn available(&self) -> Result<(), Status>;
    #[one_way]
    async fn touch(&self, key: String);
    async fn watch(&self, prefix: String) -> Result<Streaming<Vec<u8>>, Status>;
    async fn upload(&self, parts: corewire::Streaming<Vec<u8>>) -> Result<(), Status>;
}

fn main() {}
