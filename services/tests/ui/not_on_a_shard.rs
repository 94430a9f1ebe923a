use corewire::{SharedChannel, Status, Streaming};

#[corewire::service]
pub trait Store {
    async fn watch(&self, prefix: String) -> Result<Streaming<u8>, Status>;
}

fn watch(store: &StoreClient<SharedChannel>) {
    let _ = store.watch("a".to_owned());
}

fn main() {}
