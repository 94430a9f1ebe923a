use corewire::{Server, Status};

#[corewire::service]
pub trait Shop {
    async fn price(&self, name: String) -> Result<u64, Status>;
}

struct Prices;

impl Shop for Prices {
    async fn price(&self, _: String) -> Result<u64, Status> {
        Ok(1)
    }
}

fn main() {
    let _ = Server::builder().service_with(|_| async { Ok::<_, Status>(Prices) });
    let _ = Server::builder().service_with(|_| async { Ok(Prices) });
}
