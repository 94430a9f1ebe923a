use corewire::Status;

#[corewire::service]
pub trait Shop {
    async fn price(&self, name: String) -> Result<u64, Status>;
}

async fn ask(shop: ShopClient) {
    tokio::spawn(async move { shop.price("tea".into()).await });
}

fn main() {}
