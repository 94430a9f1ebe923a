//! The router for the benchmarks of this repository, which have no other way to it. Not part of the public API: it
//! exists only with the feature `bench-hooks`, and changes without notice.

pub use corewire_engine::Dispatch;
pub use corewire_engine::testing::bench_hooks::{InlineCalls, Outcome, TimerHeap};

use crate::server::router::Router;
use crate::server::service::Service;
use crate::server::slot::Methods;

/// The dispatcher of a shard that has this one service.
///
/// # Errors
///
/// When two of its methods have the same id.
pub fn router(service: impl Service) -> Result<impl Dispatch, String> {
    let mut methods = Methods::default();
    service.register(&mut methods);
    Router::new(methods)
}
