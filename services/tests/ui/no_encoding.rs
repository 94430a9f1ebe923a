use corewire::Status;

pub struct Price {
    pub cents: u64,
}

#[corewire::service]
pub trait Shop {
    async fn set(&self, name: String, price: Price) -> Result<(), Status>;
    async fn price(&self, name: String) -> Result<Price, Status>;
}

fn main() {}
