use corewire::{Bytes, Context, Status};

#[corewire::service]
pub trait Store {
    async fn put(&self, key: String, value: Bytes) -> Result<(), Status>;
    async fn join(&self, context: &Context, left: corewire::Bytes, right: Bytes) -> Result<Bytes, Status>;
}

fn main() {}
