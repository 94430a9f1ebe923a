//! Several shards on one thread, which turn in an order that a seed decides: what one has sent arrives at the other after an
//! arbitrary time, and in order. Every call must end once, with what it deserves, and nothing may be left.

use std::cell::Cell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::task::{Wake, Waker};

use super::super::*;
use super::group;
use crate::channel::ChannelContext;
use crate::shard::errand::{OnShardError, Work, pack};
use crate::shard::on::On;

/// What a call does at its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Answers,
    Panics,
    /// A future that ends after so many polls.
    Waits(u32),
    WaitsAndPanics,
    /// A future that never ends.
    Hangs,
}

/// What was seen of one call at its owner.
#[derive(Debug, Default)]
struct Seen {
    runs: AtomicU32,
    /// Its future exists.
    lives: AtomicBool,
}

struct Lives(Arc<Seen>);

impl Lives {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.lives.store(true, Ordering::Relaxed);
        Self(Arc::clone(seen))
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        self.0.lives.store(false, Ordering::Relaxed);
    }
}

/// A caller's waker that only notes that it was used.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Call {
    number: usize,
    from: usize,
    to: usize,
    kind: Kind,
    on: On<usize>,
    woken: Arc<Woken>,
    /// Whether it was polled at all.
    begun: bool,
}

/// A small generator (splitmix64, Steele and others 2014): runs are to be repeatable.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }
}

struct World {
    dice: Dice,
    shards: Vec<Rc<ChannelContext>>,
    gone: Vec<bool>,
    calls: Vec<Call>,
    /// What was seen of each call that was made.
    seen: Vec<Arc<Seen>>,
    ended: Vec<Result<usize, OnShardError>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let shards = group(2 + dice.below(3));
        let gone = vec![false; shards.len()];
        Self { dice, shards, gone, calls: Vec::new(), seen: Vec::new(), ended: Vec::new() }
    }

    fn within<R>(&self, at: usize, body: impl FnOnce() -> R) -> R {
        let _entered = self.shards[at].enter();
        let outcome = body();
        self.shards[at].mesh.settle();
        outcome
    }

    fn turn(&self, at: usize) {
        if !self.gone[at] {
            self.within(at, || {
                self.shards[at].mesh.take();
                self.shards[at].mesh.settle();
                self.shards[at].shard.run_tasks();
            });
        }
    }

    fn make(&mut self) {
        let (count, number) = (self.shards.len(), self.seen.len());
        let (from, to) = (self.dice.below(count), self.dice.below(count));
        if self.gone[from] {
            return;
        }
        let seen = Arc::new(Seen::default());
        self.seen.push(Arc::clone(&seen));
        let kind = match self.dice.below(8) {
            0 => Kind::Panics,
            1 => Kind::WaitsAndPanics,
            2 => Kind::Hangs,
            3 | 4 => Kind::Waits(u32::try_from(self.dice.below(4)).unwrap()),
            _ => Kind::Answers,
        };
        let on = On::new(ShardId(u16::try_from(to).unwrap()), None, errand(seen, number, kind));
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.calls.push(Call { number, from, to, kind, on, woken, begun: false });
    }

    /// Polls a call if it was woken.
    fn poll(&mut self, place: usize) {
        let call = &mut self.calls[place];
        if !call.woken.0.swap(false, Ordering::Relaxed) || self.gone[call.from] {
            return;
        }
        call.begun = true;
        let waker = Waker::from(Arc::clone(&call.woken));
        let shard = Rc::clone(&self.shards[call.from]);
        let entered = shard.enter();
        let polled = Pin::new(&mut call.on).poll(&mut Context::from_waker(&waker));
        shard.mesh.settle();
        drop(entered);
        if let Poll::Ready(outcome) = polled {
            let call = self.calls.swap_remove(place);
            self.judge(&call, outcome);
            self.ended.push(outcome);
        }
    }

    fn judge(&self, call: &Call, outcome: Result<usize, OnShardError>) {
        let runs = self.seen[call.number].runs.load(Ordering::Relaxed);
        let what = format!("call {} of {:?} to {}", call.number, call.kind, call.to);
        assert!(runs <= 1, "{what} ran {runs} times");
        match outcome {
            Ok(value) => {
                assert_eq!((value, runs), (call.number, 1), "{what}");
                assert!(matches!(call.kind, Kind::Answers | Kind::Waits(_)), "{what}");
            }
            Err(OnShardError::Panicked) => {
                assert!(matches!(call.kind, Kind::Panics | Kind::WaitsAndPanics), "{what}");
            }
            Err(OnShardError::Lost) => assert!(self.gone[call.to], "{what} is lost"),
            Err(error) => panic!("{what}: {error}"),
        }
    }

    fn drop_call(&mut self, place: usize) {
        let call = self.calls.swap_remove(place);
        let shard = Rc::clone(&self.shards[call.from]);
        let _entered = shard.enter();
        drop(call);
        shard.mesh.settle();
    }

    fn kill(&mut self, at: usize) {
        // Its callers go with it.
        while let Some(place) = self.calls.iter().position(|call| call.from == at) {
            self.drop_call(place);
        }
        self.within(at, || {
            self.shards[at].mesh.leave();
            self.shards[at].shard.drop_tasks();
        });
        self.gone[at] = true;
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..5 => self.make(),
            5..11 if !self.calls.is_empty() => {
                let place = self.dice.below(self.calls.len());
                self.poll(place);
            }
            11 if !self.calls.is_empty() => {
                let place = self.dice.below(self.calls.len());
                self.drop_call(place);
            }
            12 if self.dice.below(200) == 0 && !self.gone.contains(&true) => {
                let at = self.dice.below(self.shards.len());
                self.kill(at);
            }
            _ => {
                let at = self.dice.below(self.shards.len());
                self.turn(at);
            }
        }
    }

    /// Nothing new: what can end ends, and what hangs is given up.
    fn settle(&mut self) {
        for _ in 0..200 {
            for place in (0..self.calls.len()).rev() {
                self.poll(place);
            }
            (0..self.shards.len()).for_each(|at| self.turn(at));
        }
        assert!(
            self.calls.iter().all(|call| call.kind == Kind::Hangs),
            "{:?} did not end",
            self.calls
                .iter()
                .find(|call| call.kind != Kind::Hangs)
                .map(|call| (call.number, call.kind))
        );
        while !self.calls.is_empty() {
            self.drop_call(0);
        }
        for _ in 0..10 {
            (0..self.shards.len()).for_each(|at| self.turn(at));
        }
        for (at, shard) in self.shards.iter().enumerate().filter(|(at, _)| !self.gone[*at]) {
            assert!(shard.mesh.is_empty(), "shard {at} has something left: {:?}", shard.mesh);
        }
        let lives = self.seen.iter().position(|seen| seen.lives.load(Ordering::Relaxed));
        assert_eq!(lives, None, "its future lives, and nobody waits for it");
    }
}

/// What runs at the owner.
fn errand(
    seen: Arc<Seen>,
    number: usize,
    kind: Kind,
) -> Box<dyn crate::shard::errand::Trip<usize>> {
    let work = move |_: &Rc<Mesh>| {
        seen.runs.fetch_add(1, Ordering::Relaxed);
        let lives = || Lives::new(&seen);
        let blow_up = || std::panic::resume_unwind(Box::new("planned"));
        match kind {
            Kind::Answers => Work::Done(number),
            Kind::Panics => blow_up(),
            Kind::Hangs => {
                let lives = lives();
                Work::Later(Box::pin(async move {
                    let _lives = lives;
                    std::future::pending().await
                }))
            }
            Kind::Waits(polls) => {
                let lives = lives();
                Work::Later(Box::pin(async move {
                    let _lives = lives;
                    after(polls).await;
                    number
                }))
            }
            Kind::WaitsAndPanics => {
                let lives = lives();
                Work::Later(Box::pin(async move {
                    let _lives = lives;
                    after(1).await;
                    std::panic::resume_unwind(Box::new("planned"))
                }))
            }
        }
    };
    pack(work, Location::caller())
}

/// Pending for so many polls.
async fn after(polls: u32) {
    let left = Cell::new(polls);
    std::future::poll_fn(|context| {
        if left.get() == 0 {
            return Poll::Ready(());
        }
        left.set(left.get() - 1);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn every_call_ends_once_whatever_the_order_of_turns() {
    let mut ended = [0_usize; 3];
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.settle();
        for outcome in &world.ended {
            ended[match outcome {
                Ok(_) => 0,
                Err(OnShardError::Panicked) => 1,
                Err(_) => 2,
            }] += 1;
        }
    }
    assert!(ended.iter().all(|count| *count > 50), "each outcome is seen: {ended:?}");
}
