//! Blocking a plain thread until a future is ready, and which threads must not be blocked.

use std::cell::Cell;

pub use parking::block_on;

/// Whether this thread runs a shard or belongs to a tokio runtime, so that connections may need it.
#[must_use]
pub fn is_driver() -> bool {
    #[cfg(feature = "tokio")]
    if tokio::runtime::Handle::try_current().is_ok() {
        return true;
    }
    is_shard()
}

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a shard: nothing may block it.
#[must_use]
pub fn is_shard() -> bool {
    IS_SHARD.try_with(Cell::get).unwrap_or(false)
}

/// Sets whether this thread runs a shard from now on.
pub fn set_shard(runs: bool) {
    // This fails only on a thread that is ending, and that thread runs no shard.
    let _ = IS_SHARD.try_with(|is_shard| is_shard.set(runs));
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
            // A wake since the poll makes the next park return at once.
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(left) if left.is_zero() => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}
