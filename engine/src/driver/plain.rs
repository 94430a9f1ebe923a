//! A shard's thread without glommio: the driver waits in its epoll set, and nothing else runs there.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a shard's future on this thread, pinned to `cpu` if one is given. The future sleeps in the kernel where
/// others would be pending, so one poll is its whole life.
pub(super) fn run<T>(
    cpu: Option<usize>,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    if let Some(cpu) = cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        let cause = io::Error::last_os_error();
        return Err(io::Error::new(cause.kind(), format!("cannot pin it to CPU {cpu}: {cause}")));
    }
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::Error::other("a plain host cannot wait for another executor")),
    }
}
