//! Two shards on one thread, which turn when the test says so.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::Waker;

#[allow(clippy::unwrap_used, reason = "tests")]
mod simulation;

use super::lane::AWAY_MAX;
use super::*;
use crate::channel::ChannelContext;
use crate::shard::errand::{OnShardError, Work, pack};
use crate::shard::on::On;
use crate::shard::sharded::Sharded;

struct Pair {
    shards: [Rc<ChannelContext>; 2],
}

/// The shards of a server.
pub(in crate::shard) fn group(count: usize) -> Vec<Rc<ChannelContext>> {
    let count = u16::try_from(count).expect("a few");
    let members: Vec<_> = (0..count)
        .map(|id| {
            let info = ShardInfo { id: ShardId(id), count, cpu: None };
            (info, Arc::new(Doorbell::new().expect("there are descriptors")))
        })
        .collect();
    let ends = make(&members).into_iter().zip(members);
    ends.map(|(end, (_, doorbell))| ChannelContext::in_mesh(ShardContext::new(doorbell), end))
        .collect()
}

impl Pair {
    fn new() -> Self {
        Self { shards: group(2).try_into().expect("two") }
    }

    /// What a shard does in a turn, as far as the mesh is concerned.
    fn turn(&self, at: usize) -> bool {
        let shard = &self.shards[at];
        let _entered = shard.enter();
        let took = shard.mesh.take();
        let ran = shard.shard.run_tasks();
        shard.mesh.settle();
        took || ran
    }

    fn turn_until_quiet(&self) {
        while self.turn(0) | self.turn(1) {}
    }

    fn within<R>(&self, at: usize, body: impl FnOnce() -> R) -> R {
        let _entered = self.shards[at].enter();
        let outcome = body();
        self.shards[at].mesh.settle();
        outcome
    }

    /// Polls a call of shard 0.
    fn poll<R: Send + 'static>(&self, on: &mut On<R>) -> Poll<Result<R, OnShardError>> {
        self.within(0, || Pin::new(on).poll(&mut Context::from_waker(Waker::noop())))
    }
}

/// A call of a closure on shard 1.
fn on<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> On<R> {
    On::new(ShardId(1), None, pack(move |_: &Rc<Mesh>| Work::Done(work()), Location::caller()))
}

#[test]
fn a_call_goes_there_and_comes_back() {
    let pair = Pair::new();
    let mut call = on(|| 42);
    assert!(pair.poll(&mut call).is_pending());
    assert!(!pair.turn(0), "nothing has come back");
    assert!(pair.turn(1), "it has arrived");
    assert!(pair.poll(&mut call).is_pending(), "it is on its way back");
    assert!(pair.turn(0));
    assert_eq!(pair.poll(&mut call), Poll::Ready(Ok(42)));
    assert!(!pair.turn(1), "and nothing is left");
}

/// The bell of a shard is rung once for a batch, and only if the shard sleeps.
#[test]
fn a_batch_costs_one_wake() {
    let pair = Pair::new();
    let _ = pair.poll(&mut on(|| ()));
    pair.turn_until_quiet();
    let bell = &pair.shards[1].shard.wakes.doorbell;
    bell.silence();
    while bell.take().is_some() {}
    let mut calls: Vec<_> = (0..10).map(|_| on(|| ())).collect();
    pair.within(0, || {
        for call in &mut calls {
            assert!(Pin::new(call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    });
    assert!(!bell.has_orders(), "it is awake");
    assert_eq!(pair.shards[1].mesh.sleep_for(Duration::MAX), Duration::ZERO, "there is news");
    pair.turn_until_quiet();
    assert_eq!(pair.shards[1].mesh.sleep_for(Duration::MAX), Duration::MAX);
    assert!(pair.poll(&mut on(|| ())).is_pending());
    assert!(bell.has_orders(), "it sleeps");
}

/// One more than may be away waits, and goes when one is back; so does the next one if that one is given up.
#[test]
fn too_many_calls_wait_for_room_in_order() {
    let pair = Pair::new();
    let mut away: Vec<_> = (0..AWAY_MAX).map(|_| on(|| ())).collect();
    for call in &mut away {
        assert!(pair.poll(call).is_pending());
    }
    let (mut first, mut second, mut third) = (on(|| 1), on(|| 2), on(|| 3));
    for call in [&mut first, &mut second, &mut third] {
        assert!(pair.poll(call).is_pending());
    }
    let lane = &pair.shards[0].mesh.lanes[1];
    assert_eq!(lane.waiting(), 3);
    pair.turn_until_quiet();
    assert_eq!(lane.waiting(), 0, "all were woken, because all came back");
    drop(first);
    assert!(pair.poll(&mut third).is_pending());
    assert!(pair.poll(&mut second).is_pending());
    pair.turn_until_quiet();
    assert_eq!(pair.poll(&mut second), Poll::Ready(Ok(2)));
    assert_eq!(pair.poll(&mut third), Poll::Ready(Ok(3)));
}

#[test]
fn who_is_woken_for_room_and_goes_away_wakes_the_next() {
    let pair = Pair::new();
    let mut away: Vec<_> = (0..AWAY_MAX).map(|_| on(|| ())).collect();
    for call in &mut away {
        assert!(pair.poll(call).is_pending());
    }
    let (mut first, mut second) = (on(|| 1), on(|| 2));
    assert!(pair.poll(&mut first).is_pending());
    assert!(pair.poll(&mut second).is_pending());
    let lane = &pair.shards[0].mesh.lanes[1];
    lane.note_back();
    assert_eq!(lane.waiting(), 1, "the first one was woken");
    pair.within(0, || drop(first));
    assert_eq!(lane.waiting(), 0, "and the second in its place");
}

/// More parcels than a ring has places: what comes back is never lost.
#[test]
fn what_finds_the_ring_full_goes_later() {
    let pair = Pair::new();
    static ARRIVED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    struct Note;
    impl Parcel for Note {
        fn arrive(self: Box<Self>, _: Option<usize>) {
            ARRIVED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let sent = 10_000;
    pair.within(0, || (0..sent).for_each(|_| pair.shards[0].mesh.send(1, Box::new(Note))));
    assert!(pair.shards[0].mesh.backlog.get());
    assert_eq!(pair.shards[0].mesh.sleep_for(Duration::MAX), RETRY_EVERY, "it looks again soon");
    for _ in 0..100 {
        pair.turn(1);
        pair.turn(0);
    }
    assert_eq!(ARRIVED.load(Ordering::Relaxed), sent);
    assert!(!pair.shards[0].mesh.backlog.get());
}

/// A shard that is gone: what it had is lost, at once and for all that comes later.
#[test]
fn a_shard_that_dies_fails_what_it_had() {
    let pair = Pair::new();
    let mut call = on(|| ());
    let mut away: Vec<_> = (0..AWAY_MAX).map(|_| on(|| ())).collect();
    for call in &mut away {
        assert!(pair.poll(call).is_pending());
    }
    assert!(pair.poll(&mut call).is_pending(), "it waits for room");
    pair.shards[1].mesh.leave();
    assert!(pair.turn(0), "the others are told");
    assert_eq!(pair.poll(&mut call), Poll::Ready(Err(OnShardError::Lost)));
    for call in &mut away {
        assert_eq!(pair.poll(call), Poll::Ready(Err(OnShardError::Lost)));
    }
    assert_eq!(pair.poll(&mut on(|| ())), Poll::Ready(Err(OnShardError::Lost)));
}

/// What runs for a shard that is gone is dropped.
#[test]
fn what_runs_for_a_shard_that_dies_is_cancelled() {
    let pair = Pair::new();
    let (sender, receiver) = flume::bounded::<()>(1);
    let mut call: On<()> = On::new(
        ShardId(1),
        None,
        pack(
            move |_: &Rc<Mesh>| {
                Work::Later(Box::pin(async move {
                    std::future::pending::<()>().await;
                    drop(sender);
                }))
            },
            Location::caller(),
        ),
    );
    assert!(pair.poll(&mut call).is_pending());
    pair.turn_until_quiet();
    assert!(!receiver.is_disconnected(), "it runs");
    pair.shards[0].mesh.leave();
    pair.turn(1);
    assert!(receiver.is_disconnected());
}

/// Drained shards wait for each other.
#[test]
fn a_shard_is_over_when_all_are_drained() {
    let pair = Pair::new();
    assert!(!pair.shards[0].mesh.is_drained());
    assert!(pair.shards[1].mesh.is_drained());
    assert!(pair.shards[0].mesh.is_drained());
}

/// Futures that run for others are the user's: what their drops do keeps no shard from saying that it is gone.
#[test]
fn a_shard_leaves_although_what_it_drops_panics() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("planned"));
        }
    }
    let pair = Pair::new();
    let hang = || async {
        let _panics = Panics;
        std::future::pending::<()>().await;
    };
    let work =
        move |_: &Rc<Mesh>| Work::Later(Box::pin(hang()) as Pin<Box<dyn Future<Output = ()>>>);
    let mut calls: Vec<On<()>> =
        (0..2).map(|_| On::new(ShardId(1), None, pack(work, Location::caller()))).collect();
    calls.iter_mut().for_each(|call| assert!(pair.poll(call).is_pending()));
    pair.turn_until_quiet();
    pair.within(1, || pair.shards[1].mesh.leave());
    pair.turn_until_quiet();
    for call in &mut calls {
        assert_eq!(pair.poll(call), Poll::Ready(Err(OnShardError::Lost)));
    }
}

/// A handle whose server has ended belongs to the next server that needs a value of it, whoever asks first and for whichever
/// shard.
#[test]
fn a_handle_goes_on_to_the_next_server() {
    let handle = Sharded::new(|info: ShardInfo| info.id);
    for _ in 0..2 {
        let pair = Pair::new();
        let mut call = handle.on(ShardId(1), |id| *id);
        assert!(pair.poll(&mut call).is_pending());
        pair.turn_until_quiet();
        assert_eq!(pair.poll(&mut call), Poll::Ready(Ok(ShardId(1))));
        pair.shards.iter().for_each(|shard| shard.mesh.leave());
        pair.shards.iter().for_each(|shard| shard.mesh.values.clear());
    }
    let trio = group(3);
    let _entered = trio[0].enter();
    assert_eq!(handle.shard_count(), 3, "and it has as many shards as that one");
}

/// A waker whose drop comes back to the mesh, as that of a user's may.
struct ComesBack;

impl std::task::Wake for ComesBack {
    fn wake(self: Arc<Self>) {}
}

impl Drop for ComesBack {
    fn drop(&mut self) {
        let Some(mesh) = Mesh::current() else { return };
        let (mut number, context) = (None, Context::from_waker(Waker::noop()));
        let _ = mesh.poll_room(1, &mut number, &context);
        if let Some(number) = number {
            mesh.leave_queue(1, number);
        }
        let ticket = mesh.waiting.issue(1);
        assert!(mesh.waiting.poll(ticket, &context).is_pending());
        assert!(mesh.waiting.forget(ticket));
        let account = Rc::clone(&mesh.shard().client_streams);
        let slot = mesh.slots.open(SlotName::Own(ticket), account);
        assert!(slot.poll::<u8>(&context).is_pending());
    }
}

fn comes_back() -> Waker {
    Waker::from(Arc::new(ComesBack))
}

#[test]
fn wakers_that_come_back_when_they_are_dropped_find_nothing_borrowed() {
    let pair = Pair::new();
    let mesh = &pair.shards[0].mesh;
    pair.within(0, || {
        // A place for what comes back.
        let ticket = mesh.waiting.issue(1);
        for _ in 0..3 {
            let waker = comes_back();
            assert!(mesh.waiting.poll(ticket, &Context::from_waker(&waker)).is_pending());
        }
        assert!(mesh.waiting.forget(ticket));
        // The queue for room.
        for _ in 0..AWAY_MAX {
            mesh.lanes[1].note_away();
        }
        let mut number = None;
        for _ in 0..3 {
            let waker = comes_back();
            let room = mesh.poll_room(1, &mut number, &Context::from_waker(&waker));
            assert!(room.is_pending());
        }
        mesh.leave_queue(1, number.expect("it waits"));
        // A slot.
        let ticket = mesh.waiting.issue(1);
        let account = Rc::clone(&mesh.shard().client_streams);
        let slot = mesh.slots.open(SlotName::Own(ticket), account);
        for _ in 0..3 {
            let waker = comes_back();
            assert!(slot.poll::<u8>(&Context::from_waker(&waker)).is_pending());
        }
        drop(slot);
        mesh.waiting.forget(ticket);
    });
}

/// What comes back is charged to the account of who waits for it, until it is taken or nobody waits any more.
#[test]
fn what_comes_back_is_charged_until_it_is_taken() {
    struct Large;
    impl Parcel for Large {
        fn arrive(self: Box<Self>, _: Option<usize>) {}

        fn bytes(&self) -> usize {
            1000
        }
    }
    let pair = Pair::new();
    let mesh = &pair.shards[0].mesh;
    let account =
        crate::shard::account::StreamAccount::of_server(pair.shards[0].shard.totals.clone());
    let place = crate::shard::account::ReturnAccount::default();
    let _ = place.set(Rc::clone(&account));
    pair.within(0, || {
        let tickets = [mesh.waiting.issue(1), mesh.waiting.issue(1)];
        for ticket in tickets {
            mesh.waiting.charge(ticket, Rc::clone(&place));
        }
        assert_eq!(account.bytes(), 0);
        for ticket in tickets {
            mesh.waiting.give(ticket, Box::new(Large));
        }
        assert_eq!(account.bytes(), 2000);
        assert_eq!(pair.shards[0].shard.totals.held().0, 2000);
        let [taken, given_up] = tickets;
        let context = Context::from_waker(Waker::noop());
        assert!(matches!(mesh.waiting.poll(taken, &context), Poll::Ready(Ok(_))));
        assert_eq!(account.bytes(), 1000);
        assert!(!mesh.waiting.forget(given_up));
        assert_eq!(account.bytes(), 0);
        // Nobody waits: its charge ends when it is back.
        let ticket = mesh.waiting.issue(1);
        mesh.waiting.leave_unattended(ticket, Some(account.hold_incoming(7)));
        assert_eq!((mesh.waiting.unattended(), account.bytes()), (1, 7));
        mesh.waiting.give(ticket, Box::new(Large));
        assert_eq!((mesh.waiting.unattended(), account.bytes()), (0, 0));
        // Nor does it stay when its shard is gone.
        let ticket = mesh.waiting.issue(1);
        mesh.waiting.leave_unattended(ticket, Some(account.hold_incoming(7)));
        mesh.waiting.lose(1);
        assert_eq!((mesh.waiting.unattended(), account.bytes()), (0, 0));
        assert_eq!(mesh.waiting.len(), 0);
    });
}
