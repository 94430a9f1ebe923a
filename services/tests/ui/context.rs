use corewire::{Context, Status};

#[corewire::service]
pub trait Store {
    async fn late(&self, key: String, context: &Context) -> Result<(), Status>;
    async fn twice(&self, first: &Context, second: &corewire::Context) -> Result<(), Status>;
    async fn by_value(&self, context: Context, key: String) -> Result<(), Status>;
    async fn exclusive(&self, context: &mut Context) -> Result<(), Status>;
}

fn main() {}
