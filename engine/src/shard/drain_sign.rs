//! The sign that a server is about to end, for handlers and tasks of its shards.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::shard::context::ShardContext;
use crate::shard::phase::Phase;

/// Whether the server of this shard should get new clients, for a handler that reports health: until the server
/// is asked to stop. `true` where no server runs.
///
/// ```
/// # use corewire_engine as corewire;
/// assert!(corewire::is_ready()); // no server runs here
/// ```
#[must_use]
pub fn is_ready() -> bool {
    phase() == Phase::Serving
}

/// Whether the server of this shard drains: it takes no new calls, and drops what is not finished at the
/// drain's deadline. `false` where no server runs.
///
/// ```
/// # use corewire_engine as corewire;
/// assert!(!corewire::is_draining()); // no server runs here
/// ```
#[must_use]
pub fn is_draining() -> bool {
    phase() == Phase::Draining
}

fn phase() -> Phase {
    ShardContext::current().map_or(Phase::Serving, |local| local.phase.get())
}

/// Completes when the server of this shard begins to drain, at once if it drains already, and never where no
/// server runs. A handler that streams for ever, or a task in the background, ends itself then, so that the drain
/// does not wait for it until its deadline.
///
/// It costs a place in a list of the shard from its first poll on; dropping it takes time in proportion to how
/// many wait.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::drain_begun;
///
/// /// A task in the background that ends with its server.
/// async fn at_the_end(write_out: impl FnOnce()) {
///     drain_begun().await;
///     write_out();
/// }
/// ```
pub fn drain_begun() -> DrainBegun {
    DrainBegun { waits: None }
}

/// Completes when a drain begins; made by [`drain_begun`].
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::drain_begun;
///
/// /// A task in the background that ends with its server.
/// async fn at_the_end(write_out: impl FnOnce()) {
///     drain_begun().await;
///     write_out();
/// }
/// ```
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct DrainBegun {
    waits: Option<(Rc<ShardContext>, u64)>,
}

impl Future for DrainBegun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (local, number) = match self.waits.take() {
            Some((local, number)) => (local, Some(number)),
            None => match ShardContext::current() {
                Some(local) => (local, None),
                None => return Poll::Pending,
            },
        };
        if local.phase.get() == Phase::Draining {
            return Poll::Ready(());
        }
        local.note_known_wait();
        let number = local.phase.wait(number, context.waker());
        self.waits = Some((local, number));
        Poll::Pending
    }
}

impl Drop for DrainBegun {
    fn drop(&mut self) {
        if let Some((local, number)) = &self.waits {
            local.phase.forget(*number);
        }
    }
}
