//! Drives an [`OpenLoop`] on a Corewire client shard.
//!
//! One task paces: at each of its turns it sends whatever is due, and no call has a timer of its own. Between turns it
//! either *parks* until the next call is due, and is late by what a wake-up takes, or it *spins*: the shard polls it once
//! after every turn of its driver. How late it was in either way is reported by
//! [`Figures::late_p99_us`](crate::open_loop::Figures::late_p99_us).

use corewire::{sleep, spawn};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::open_loop::{OpenLoop, Outcome, Start, Wait};

/// How long calls that are in flight at the end may still take.
const DRAIN: Duration = Duration::from_secs(10);

/// Sends every call of the loop when it is due, waits for the replies, and closes the loop. `begun` is time 0 of the
/// loop; `call` makes one call and returns how it ended. For `spins`, the shard must spin, too.
pub async fn drive<F>(
    open: &Rc<RefCell<OpenLoop>>,
    begun: Instant,
    spins: bool,
    call: impl Fn(Start) -> F,
) where
    F: Future<Output = Outcome> + 'static,
{
    let room = Rc::new(Signal::default());
    loop {
        let now = nanos(begun);
        loop {
            let start = open.borrow_mut().start(now);
            let Some(start) = start else { break };
            let (open, room, outcome) = (Rc::clone(open), Rc::clone(&room), call(start));
            let ended = async move {
                let outcome = outcome.await;
                open.borrow_mut().done(start, nanos(begun), outcome);
                room.raise();
            };
            spawn(ended).detach();
        }
        let wait = open.borrow().wait(now);
        match wait {
            Wait::Over => break,
            _ if spins => turn().await,
            Wait::Until(at) => sleep_until(begun, at).await,
            Wait::Room(at) => {
                let mut end = pin!(sleep_until(begun, at));
                room.lower();
                poll_fn(|context| match room.poll(context.waker()) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => end.as_mut().poll(context),
                })
                .await;
            }
        }
    }
    let drained_by = Instant::now() + DRAIN;
    while open.borrow().in_flight() > 0 && Instant::now() < drained_by {
        sleep(Duration::from_millis(1)).await;
    }
    open.borrow_mut().close();
}

/// Nanoseconds since the run began.
fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

async fn sleep_until(begun: Instant, at_ns: u64) {
    let at = begun + Duration::from_nanos(at_ns);
    sleep(at.saturating_duration_since(Instant::now())).await;
}

/// Lets the driver and the other tasks of the shard have their turn.
async fn turn() {
    let mut over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// An event that one task waits for.
#[derive(Default)]
struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn lower(&self) {
        self.raised.set(false);
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(waker.clone());
        Poll::Pending
    }
}
