//! One declaration with several faults, used as if it had none: each fault is reported once, at its token, and nothing
//! else is.

use corewire::{Channel, Status};

#[corewire::service(nmae = "kv.Store")]
pub trait Store {
    async fn get(&self, key: &str) -> Result<Vec<u8>, Status>;
    fn put(&mut self, key: String) -> Result<(), String>;
    #[one_way]
    async fn touch(&self, key: String);
    async fn count(&self) -> Result<u64, Status>;
}

struct Memory;

impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Vec<u8>, Status> {
        Ok(key.as_bytes().to_vec())
    }

    fn put(&mut self, _: String) -> Result<(), String> {
        Ok(())
    }

    async fn touch(&self, _: String) {}

    async fn count(&self) -> Result<u64, Status> {
        Ok(1)
    }
}

async fn count(channel: Channel) -> u64 {
    let _ = StoreServer::new(Memory);
    StoreClient::new(channel).count().await.unwrap()
}

fn main() {
    let _ = count;
}
