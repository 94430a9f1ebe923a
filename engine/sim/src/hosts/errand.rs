//! What handlers do on other shards of their server: they run code with the value that each shard has there.
//!
//! Nothing here knows the simulation, because what is sent must be `Send`: an errand returns what it saw, and its handler
//! judges.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use corewire_engine::{OnShardError, Sharded, Sleep, sleep};
use corewire_proto::{ShardId, ShardInfo};

/// How many pieces of code a burst sends at once.
const BURST: u8 = 24;

/// What an errand does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Runs a closure on a shard.
    Runs,
    /// The closure panics.
    Panics,
    /// Runs a future that takes a while.
    Waits,
    /// Runs one that never ends, until a deadline.
    Expires,
    /// Runs one that never ends, and gives it up after a while.
    GivesUp,
    /// Runs a closure on all shards.
    Everywhere,
    /// Runs many closures and futures at once.
    Burst,
}

impl Errand {
    /// That with this number, from 1 on.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Runs,
            2 => Self::Panics,
            3 => Self::Waits,
            4 => Self::Expires,
            5 => Self::GivesUp,
            6 => Self::Everywhere,
            7 => Self::Burst,
            _ => return None,
        })
    }
}

/// What each shard has for errands.
#[derive(Debug)]
pub(crate) struct Shelf {
    shard: u16,
    /// What has run here: calls, and which part of what they sent.
    ran: RefCell<BTreeSet<(u64, u8)>>,
    /// Futures that are here.
    living: Cell<usize>,
}

impl Shelf {
    pub(crate) fn new(info: ShardInfo) -> Self {
        Self { shard: info.id.0, ran: RefCell::default(), living: Cell::new(0) }
    }

    /// How many futures of errands are here.
    pub(crate) fn living(&self) -> usize {
        self.living.get()
    }

    fn run(&self, call: u64, part: u8) -> Ran {
        let is_first = self.ran.borrow_mut().insert((call, part));
        Ran { shard: self.shard, call, part, is_first }
    }
}

/// A future that is on a shelf.
struct Guest(Rc<Shelf>);

impl Guest {
    fn new(shelf: &Rc<Shelf>) -> Self {
        shelf.living.set(shelf.living.get() + 1);
        Self(Rc::clone(shelf))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.living.set(self.0.living.get() - 1);
    }
}

/// What code that was sent says of itself.
#[derive(Clone, Copy, Debug)]
struct Ran {
    shard: u16,
    call: u64,
    part: u8,
    is_first: bool,
}

/// What waits for it.
type Running = Pin<Box<dyn Future<Output = Result<Ran, OnShardError>>>>;

/// How an errand went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should.
    Well,
    /// A shard that it was to run on is gone.
    Lost,
    /// The deadline of its call has passed.
    Expired,
    /// It is not as it should be.
    Wrong(String),
}

/// What one server's handlers send errands with.
#[derive(Clone, Debug)]
pub(crate) struct Errands {
    pub(crate) shelves: Sharded<Shelf>,
    /// All code that is sent has a share of it.
    pub(crate) token: Arc<()>,
}

impl Errands {
    pub(crate) fn new(token: Arc<()>) -> Self {
        Self { shelves: Sharded::new(Shelf::new), token }
    }
}

/// An errand that is under way.
pub(crate) struct Sent {
    errand: Errand,
    parts: Vec<Part>,
    patience: Option<Sleep>,
}

/// One piece of code of it.
struct Part {
    /// Where it runs, and which part of the call's it is.
    expects: (u16, u64, u8),
    running: Option<Running>,
}

impl Sent {
    /// Begins one for a call whose deadline is `until`; nothing is sent before it is polled. `takes` is how long its futures take.
    pub(crate) fn new(
        errands: &Errands,
        errand: Errand,
        call: u64,
        until: Option<Instant>,
        takes: Duration,
    ) -> Self {
        let shelves = &errands.shelves;
        let count = shelves.shard_count().max(1);
        let owner = shelves.of(&call).0;
        let patience = (errand == Errand::GivesUp).then(|| sleep(takes));
        let parts = match errand {
            Errand::Everywhere => {
                (0..count).map(|to| Part::run(errands, to, (call, 0), until)).collect()
            }
            Errand::Burst => (0..BURST)
                .map(|part| {
                    let to = (owner + u16::from(part) / 12) % count;
                    match part % 3 {
                        0 => Part::wait(errands, to, (call, part), until, takes),
                        _ => Part::run(errands, to, (call, part), until),
                    }
                })
                .collect(),
            Errand::Runs => vec![Part::run(errands, owner, (call, 0), until)],
            Errand::Panics => vec![Part::panic(errands, owner, (call, 0), until)],
            Errand::Waits => vec![Part::wait(errands, owner, (call, 0), until, takes)],
            Errand::Expires => vec![Part::hang(errands, owner, (call, 0), Some(takes))],
            Errand::GivesUp => vec![Part::hang(errands, owner, (call, 0), None)],
        };
        Self { errand, parts, patience }
    }

    /// How many of its parts run.
    pub(crate) fn running(&self) -> usize {
        self.parts.iter().filter(|part| part.running.is_some()).count()
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut outcome = Outcome::Well;
        let mut pends = false;
        for part in &mut self.parts {
            let Some(running) = &mut part.running else { continue };
            match running.as_mut().poll(context) {
                Poll::Pending => pends = true,
                Poll::Ready(ran) => {
                    part.running = None;
                    let (errand, expects) = (self.errand, part.expects);
                    match judge(errand, expects, ran) {
                        Outcome::Well => {}
                        other => outcome = other,
                    }
                }
            }
        }
        if let Some(patience) = &mut self.patience
            && Pin::new(patience).poll(context).is_ready()
        {
            return Poll::Ready(Outcome::Well);
        }
        if outcome != Outcome::Well || !pends { Poll::Ready(outcome) } else { Poll::Pending }
    }
}

fn judge(errand: Errand, expects: (u16, u64, u8), ran: Result<Ran, OnShardError>) -> Outcome {
    match (errand, ran) {
        (_, Err(OnShardError::Lost)) => Outcome::Lost,
        (Errand::Panics, Err(OnShardError::Panicked))
        | (Errand::Expires, Err(OnShardError::Expired)) => Outcome::Well,
        (_, Err(OnShardError::Expired)) => Outcome::Expired,
        (Errand::Runs | Errand::Waits | Errand::Everywhere | Errand::Burst, Ok(ran))
            if ran.is_first && (ran.shard, ran.call, ran.part) == expects =>
        {
            Outcome::Well
        }
        (errand, ran) => Outcome::Wrong(format!("{errand:?} of {expects:?} gave {ran:?}")),
    }
}

impl Part {
    fn run(
        Errands { shelves, token }: &Errands,
        to: u16,
        (call, part): (u64, u8),
        until: Option<Instant>,
    ) -> Self {
        let token = Arc::clone(token);
        let on = shelves.on(ShardId(to), move |shelf| {
            drop(token);
            shelf.run(call, part)
        });
        Self { expects: (to, call, part), running: Some(Box::pin(on.until(until))) }
    }

    fn panic(
        Errands { shelves, token }: &Errands,
        to: u16,
        (call, part): (u64, u8),
        until: Option<Instant>,
    ) -> Self {
        let token = Arc::clone(token);
        let on = shelves.on(ShardId(to), move |shelf| {
            let ran = shelf.run(call, part);
            drop(token);
            if ran.is_first {
                // It bypasses the hook that would print it.
                std::panic::resume_unwind(Box::new("planned"));
            }
            ran
        });
        Self { expects: (to, call, part), running: Some(Box::pin(on.until(until))) }
    }

    fn wait(
        Errands { shelves, token }: &Errands,
        to: u16,
        (call, part): (u64, u8),
        until: Option<Instant>,
        takes: Duration,
    ) -> Self {
        let token = Arc::clone(token);
        let on = shelves.on_async(ShardId(to), async move |shelf| {
            let _guest = Guest::new(&shelf);
            sleep(takes).await;
            drop(token);
            shelf.run(call, part)
        });
        Self { expects: (to, call, part), running: Some(Box::pin(on.until(until))) }
    }

    /// A future that never ends, which `within` ends.
    fn hang(
        Errands { shelves, token }: &Errands,
        to: u16,
        (call, part): (u64, u8),
        within: Option<Duration>,
    ) -> Self {
        let token = Arc::clone(token);
        let on = shelves.on_async(ShardId(to), async move |shelf| {
            let _guest = Guest::new(&shelf);
            pending::<()>().await;
            drop(token);
            shelf.run(call, part)
        });
        let on = match within {
            Some(within) => on.within(within),
            None => on,
        };
        Self { expects: (to, call, part), running: Some(Box::pin(on)) }
    }
}
