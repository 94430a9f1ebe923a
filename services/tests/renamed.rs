//! A package that knows the crate by another name.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests; a trait and its server are public, as in a library"
)]

mod support;

/// Nothing in here is called `corewire` but what the macro is told.
mod shop {
    extern crate corewire as cw;

    use cw::{Context, Status, Streaming};

    #[cw::service(crate = cw, name = "Shop")]
    pub trait Shop {
        async fn price(&self, context: &Context, name: String) -> Result<u64, Status>;
        async fn prices(&self, names: Streaming<String>) -> Result<Streaming<u64>, Status>;
        #[one_way]
        async fn forget(&self, name: String);
    }

    pub struct Prices;

    impl Shop for Prices {
        async fn price(&self, _: &Context, name: String) -> Result<u64, Status> {
            Ok(name.len() as u64)
        }

        async fn prices(&self, _: Streaming<String>) -> Result<Streaming<u64>, Status> {
            Err(Status::unimplemented("not today"))
        }

        async fn forget(&self, _: String) {}
    }

    #[cw::test(crate = cw, seeds = 2)]
    async fn a_simulated_test(sim: cw::testing::Simulation) -> Result<(), cw::ConnectError> {
        sim.server("shop", cw::Server::builder().service(|_| ShopServer::new(Prices)));
        let shop = ShopClient::connect("shop:1").await?;
        assert_eq!(shop.price("tea".into()).await, Ok(3));
        Ok(())
    }

    #[cw::test(crate = cw)]
    async fn a_test_on_a_shard() {
        cw::sleep(std::time::Duration::from_millis(1)).await;
    }

    /// What a `main` would be: it keeps its return type.
    #[cw::main(crate = cw, spin = cw::Spin::Off)]
    async fn entry() -> Result<u8, cw::StartError> {
        cw::sleep(std::time::Duration::from_millis(1)).await;
        Ok(7)
    }

    #[test]
    fn an_async_main_returns_what_it_says() {
        assert_eq!(entry().ok(), Some(7));
    }
}

#[test]
fn a_service_under_another_crates_name_is_called() {
    let server = corewire::Server::builder()
        .address("127.0.0.1:0")
        .placement(corewire::Placement::Unpinned(1))
        .service(|_| shop::ShopServer::new(shop::Prices))
        .start()
        .unwrap();
    let to = support::address(&server);
    let price = support::client(move || async move {
        let shop = shop::ShopClient::connect(to).await.unwrap();
        shop.without_timeout().price("tea".into()).await
    });
    assert_eq!(price, Ok(3));
    support::end(server);
}
