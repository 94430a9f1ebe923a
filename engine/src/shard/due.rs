//! How a long loop lets others run.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::shard::clock::clock;
use crate::shard::context::ShardContext;

/// How long the shard may go without a look at its sockets before a loop that asks gives way.
const SLICE: Duration = Duration::from_micros(500);

/// Lets the shard's other work run, if the shard has not turned for 500 µs; otherwise goes on at once. For loops of
/// handlers and tasks that take long in all and little in each round:
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::yield_if_due;
///
/// async fn sum(numbers: &[u64]) -> u64 {
///     let mut sum = 0;
///     for part in numbers.chunks(10_000) {
///         sum += part.iter().sum::<u64>(); // some microseconds
///         yield_if_due().await;
///     }
///     sum
/// }
/// # assert_eq!(futures_lite_block_on(sum(&[1, 2, 3])), 6);
/// # fn futures_lite_block_on<F: Future>(future: F) -> F::Output {
/// #     let mut future = std::pin::pin!(future);
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop {
/// #         if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) { return value }
/// #     }
/// # }
/// ```
///
/// It costs a look at the clock, some 25 ns: call it every few microseconds of work, not for every item. When it gives way,
/// sockets are read, other calls are answered and other tasks run before the loop goes on. Dropping it does nothing.
/// Work that cannot be cut into rounds belongs into [`offload`](crate::offload). On a thread that is not a shard's it
/// always goes on at once.
#[doc(alias("yield_now", "cooperative", "preempt", "need_preempt"))]
pub fn yield_if_due() -> YieldIfDue {
    YieldIfDue { yielded: false }
}

/// Gives way once, if it is time; made by [`yield_if_due`].
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{YieldIfDue, yield_if_due};
///
/// fn after_each_item() -> YieldIfDue {
///     yield_if_due()
/// }
/// # drop(after_each_item());
/// ```
#[must_use = "it does nothing unless it is awaited"]
#[derive(Debug)]
pub struct YieldIfDue {
    yielded: bool,
}

impl Future for YieldIfDue {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        let due = ShardContext::current().is_some_and(|local| {
            let due = clock().saturating_duration_since(local.now()) >= SLICE;
            if due {
                local.note_known_wait();
            }
            due
        });
        if !due {
            return Poll::Ready(());
        }
        self.yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
