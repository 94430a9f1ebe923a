use corewire::{Status, Streaming};

pub struct Price {
    pub cents: u64,
}

#[corewire::service]
pub trait Shop {
    async fn load(&self, prices: Streaming<Price>) -> Result<u64, Status>;
    async fn set(&self, prices: Vec<Price>) -> Result<(), Status>;
}

fn main() {}
