//! Blocking a plain thread until a future is ready, and which threads must not be blocked.

pub use parking::block_on;

/// Whether this thread is a shard's or belongs to a tokio runtime, so that connections may need it.
#[must_use]
pub fn is_driver() -> bool {
    #[cfg(feature = "tokio")]
    if tokio::runtime::Handle::try_current().is_ok() {
        return true;
    }
    is_shard()
}

/// Whether this thread runs a shard: nothing may block it.
pub(crate) fn is_shard() -> bool {
    #[cfg(feature = "shard")]
    return crate::shard::context::Local::current().is_some();
    #[cfg(not(feature = "shard"))]
    false
}

mod parking {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};
    use std::time::Instant;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Polls `future` on this thread until it is ready, or until `until`, and sleeps in between.
    pub fn block_on<F: Future>(future: F, until: Option<Instant>) -> Option<F::Output> {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            // A wake that came since the poll makes the next park return at once.
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}
