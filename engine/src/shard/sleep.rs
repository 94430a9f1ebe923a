//! Sleeping on a shard: timers of the driver's own.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::shard::context::ShardContext;

/// Completes when its time has come. Made by [`sleep`].
///
/// ```
/// # use corewire_engine as corewire;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::{ClientShard, now, run_on_shard, sleep};
/// use std::time::Duration;
///
/// let slept = run_on_shard(ClientShard::default(), || async {
///     let begun = now();
///     sleep(Duration::from_millis(2)).await;
///     now() - begun
/// })?;
/// assert!(slept >= Duration::from_millis(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sleep {
    local: Option<Rc<ShardContext>>,
    until: Option<Instant>,
    place: Option<(u64, usize)>,
}

/// Completes after `duration`, never earlier and up to about a millisecond later: a shard that dozes
/// counts in milliseconds, and one that is busy looks at its sleeps once per turn.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// use corewire::{ClientShard, block_on_shard, sleep, spawn};
/// use std::time::Duration;
///
/// block_on_shard(ClientShard::default(), || async {
///     let meanwhile = spawn(async { 42 });
///     sleep(Duration::from_millis(5)).await; // the shard's other tasks run
///     assert!(meanwhile.is_finished());
/// })?;
/// # Ok::<(), corewire::StartError>(())
/// ```
///
/// # Panics
///
/// When it is awaited on a thread that is not a shard's.
pub fn sleep(duration: Duration) -> Sleep {
    // A time past what the clock can represent is never.
    Sleep { local: None, until: crate::shard::clock::clock().checked_add(duration), place: None }
}

/// Completes at `until`, or at once if that is over.
pub(crate) fn sleep_until(until: Instant) -> Sleep {
    Sleep { local: None, until: Some(until), place: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        if until <= crate::shard::clock::clock() {
            return Poll::Ready(());
        }
        let local = match &self.local {
            Some(local) => Rc::clone(local),
            #[allow(clippy::panic, reason = "a mistake in the program, documented")]
            None => ShardContext::current().unwrap_or_else(|| {
                panic!(
                    "corewire::sleep works on shards; run this code with corewire::block_on_shard"
                )
            }),
        };
        local.note_known_wait();
        match self.place {
            Some((_, place)) => {
                local.sleepers.set_waker(place, context.waker());
            }
            None => {
                self.place = Some(local.sleepers.insert(until, context.waker().clone()));
                self.local = Some(local);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(local), Some((_, place))) = (&self.local, self.place) {
            local.sleepers.remove(place);
        }
    }
}
