use corewire::{Status, Streaming};

pub struct Price {
    pub cents: u64,
}

#[corewire::service]
pub trait Shop {
    async fn prices(&self, name: String) -> Result<Vec<Price>, Status>;
    async fn follow(&self) -> Result<Streaming<Price>, Status>;
}

fn main() {}
