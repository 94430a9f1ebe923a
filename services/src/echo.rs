//! The echo service: what load generators call and what a new deployment answers first.

use crate::Bytes;
use crate::Status;

/// Gives back what it gets.
#[crate::service(name = "corewire.Echo")]
pub trait Echo {
    /// Answers with the request's own bytes. From 4 KiB on they are not copied either way.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
}

/// The implementation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echoer;

impl Echo for Echoer {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }
}
