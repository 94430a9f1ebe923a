//! The echo service: what load generators call and what a new deployment answers first.
//!
//! ```
//! use corewire::{Bytes, ClientShard, Placement, Server, block_on_shard, echo};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .address("127.0.0.1:0")
//!     .placement(Placement::Unpinned(1))
//!     .service(|_shard| echo::EchoServer::new(echo::Echoer))
//!     .start()?;
//! let address = server.addresses()[0].clone();
//! block_on_shard(ClientShard::default(), move || async move {
//!     // A health check: whoever replies serves.
//!     let health = echo::EchoClient::connect(address).await?;
//!     assert_eq!(health.echo(Bytes::from_static(b"well?")).await?, "well?");
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! })?
//! # }
//! ```

use crate::Bytes;
use crate::Status;

/// Gives back what it gets.
#[crate::service(name = "corewire.Echo")]
pub trait Echo {
    /// Answers with the request's own bytes. From 4 KiB on they are not copied either way.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
}

/// The implementation.
///
/// ```
/// use corewire::echo::{Echo, Echoer};
/// use corewire::Bytes;
///
/// let reply = futures_lite::future::block_on(Echoer.echo(Bytes::from_static(b"hi")));
/// assert_eq!(reply.unwrap(), "hi");
/// ```
#[doc(alias("health", "health check", "liveness"))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Echoer;

impl Echo for Echoer {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }
}
