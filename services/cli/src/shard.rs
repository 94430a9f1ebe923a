//! Drives an [`OpenLoop`] on a Corewire client shard.
//!
//! One task paces: at each of its turns it sends whatever is due, and no call has a timer of its own. Between turns it
//! either *parks*, and is then woken by the shard's timers, which may be up to a millisecond late, or it *spins*: it runs
//! again after every turn of the shard's driver. What it missed in either way is told by
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

/// How long the pacing task may spin after the shard has looked after its timers. The shard does so every millisecond, and
/// it can only when no other task of it is ready: one that spins on through that would keep the shard from its sockets.
const SPIN_FOR: Duration = Duration::from_micros(975);

/// A timer that is due whenever the shard looks.
const SOON: Duration = Duration::from_micros(1);

/// Sends every call of the loop when it is due, waits for the replies, and closes the loop. `begun` is time 0 of the
/// loop; `call` makes one call and says what became of it. For `spins`, the shard must spin, too.
pub async fn drive<F>(
    open: &Rc<RefCell<OpenLoop>>,
    begun: Instant,
    spins: bool,
    call: impl Fn(Start) -> F,
) where
    F: Future<Output = Outcome> + 'static,
{
    let room = Rc::new(Signal::default());
    let rest = if spins { Rest::Spin(Spinner::new()) } else { Rest::Park };
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
        match (wait, &rest) {
            (Wait::Over, _) => break,
            (_, Rest::Spin(spinner)) => spinner.turn().await,
            (Wait::Until(at), Rest::Park) => sleep_until(begun, at).await,
            (Wait::Room(at), Rest::Park) => {
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

/// What the pacing task does when nothing is to be sent.
enum Rest {
    Park,
    Spin(Spinner),
}

/// Something that happened, for one task that waits for it.
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

/// A task that is nearly always ready, and steps back when the shard has to look after its timers.
struct Spinner {
    looked_at: Rc<Cell<Instant>>,
    looked: Rc<Signal>,
    /// Dropping it ends the task that notices those looks.
    _watch: corewire::Task<()>,
}

impl Spinner {
    fn new() -> Self {
        let looked_at = Rc::new(Cell::new(Instant::now()));
        let looked = Rc::new(Signal::default());
        let (at, signal) = (Rc::clone(&looked_at), Rc::clone(&looked));
        let watch = async move {
            loop {
                sleep(SOON).await;
                at.set(Instant::now());
                signal.raise();
            }
        };
        Self { looked_at, looked, _watch: spawn(watch) }
    }

    /// Lets the driver and all others of the shard have a turn.
    async fn turn(&self) {
        if self.looked_at.get().elapsed() >= SPIN_FOR {
            self.looked.lower();
            poll_fn(|context| self.looked.poll(context.waker())).await;
            return;
        }
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
