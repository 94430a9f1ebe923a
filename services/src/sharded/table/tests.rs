//! Connections that lead to the shards that a test says.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use corewire_client::{CallFailure, NotSent, Outcome, Pending, Transport};
use corewire_codec::{FrameWriter, RequestHead, Status};
use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

/// A connection: its number, and what its server said.
#[derive(Clone, Debug, Default)]
struct Fake {
    number: usize,
    said: Rc<Cell<Option<(u16, u16)>>>,
}

impl Transport for Fake {
    fn call<E>(&self, _: RequestHead, _: Option<Duration>, _: E) -> impl Pending + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let outcome: Outcome = Err(CallFailure::NotSent(NotSent::Closed));
        ready(outcome)
    }
}

impl ShardMember for Fake {
    type Opener = ();

    fn open((): &()) -> Result<Self, NotSent> {
        Ok(Self::default())
    }

    fn begin_connect(&self) {}

    fn server_shard(&self) -> Option<(u16, u16)> {
        self.said.get()
    }
}

/// A table, and all connections that it ever opened.
struct World {
    table: Table<Fake>,
    opened: Vec<Fake>,
}

impl World {
    fn new() -> Self {
        let first = Fake::default();
        Self { table: Table::new(first.clone()), opened: vec![first] }
    }

    /// Looks at the table until nothing changes.
    fn tend(&mut self) {
        let opened = &mut self.opened;
        for _ in 0..100 {
            let next = self.table.next(|| {
                let fake = Fake { number: opened.len(), ..Fake::default() };
                opened.push(fake.clone());
                Some(fake)
            });
            match next {
                Some(next) => self.table = next,
                None => return,
            }
        }
        panic!("the table never rests");
    }

    /// The servers of all connections that have not heard anything say hello.
    fn hello(&mut self, mut shard: impl FnMut(usize) -> (u16, u16)) {
        for fake in self.opened.iter().filter(|fake| fake.said.get().is_none()) {
            fake.said.set(Some(shard(fake.number)));
        }
        self.tend();
    }

    fn numbers(&self) -> Vec<usize> {
        self.table.channels().map(|fake| fake.number).collect()
    }

    fn lane_of(&self, hash: u64) -> Option<usize> {
        self.table.right_lane(Some(hash)).map(|lane| lane.channel.number)
    }
}

/// A hash whose owner of 4 is this one.
fn of_four(owner: u64) -> u64 {
    owner << 62 | 1
}

#[test]
fn the_first_hello_says_how_many_more_are_wanted_and_surplus_is_dropped() {
    let mut world = World::new();
    world.tend();
    assert_eq!(world.opened.len(), 1, "nothing is known yet");
    assert!(world.table.right_lane(None).is_none() && !world.table.is_complete());
    world.hello(|_| (2, 4));
    assert_eq!(world.opened.len(), 4, "three shards are missing");
    // One of them leads to the same shard.
    world
        .hello(|number| if number == 1 { (2, 4) } else { (u16::try_from(number).unwrap() % 2, 4) });
    assert_eq!(world.numbers(), [0, 2, 3, 4]);
    world.hello(|_| (3, 4));
    assert_eq!(world.numbers(), [0, 2, 3, 4]);
    assert!(world.table.is_complete());
    assert_eq!(
        (0..4).map(|owner| world.lane_of(of_four(owner))).collect::<Vec<_>>(),
        [Some(2), Some(3), Some(0), Some(4)]
    );
}

/// REQ-102: the tries are bounded, also if the kernel never chooses one of the shards.
#[test]
fn a_shard_that_is_never_reached_is_given_up() {
    let mut world = World::new();
    for _ in 0..1000 {
        world.hello(|number| (u16::try_from(number % 3).unwrap(), 4));
    }
    assert_eq!(world.opened.len(), 1 + 4 * 8);
    assert_eq!(world.numbers().len(), 3, "the rest is closed");
    assert_eq!((world.table.reached(), world.table.is_complete()), (3, false));
    assert_eq!(world.lane_of(of_four(3)), None);
    let any = world.table.any_lane();
    assert!(any.noted.is_some());
}

#[test]
fn a_connection_that_came_back_elsewhere_is_learnt_and_its_shard_reached_again() {
    let mut world = World::new();
    world.hello(|_| (0, 2));
    world.hello(|_| (1, 2));
    assert!(world.table.is_complete());
    // Its next connection leads to the other shard.
    world.opened[1].said.set(Some((0, 2)));
    assert_eq!(world.lane_of(u64::MAX), None, "it does not lead there any more");
    assert_eq!(world.lane_of(0), Some(0));
    world.tend();
    world.hello(|_| (1, 2));
    assert_eq!((world.lane_of(0), world.lane_of(u64::MAX)), (Some(0), Some(2)));
    assert_eq!(world.numbers(), [0, 2]);
}

#[test]
fn another_number_of_shards_is_learnt_from_a_hello_and_from_a_reply() {
    let mut world = World::new();
    world.hello(|_| (0, 2));
    world.hello(|_| (1, 2));
    // The server came back with four shards.
    world.opened[0].said.set(Some((3, 4)));
    world.tend();
    assert_eq!(world.table.shards(), 4);
    world.hello(|number| (u16::try_from(number % 4).unwrap(), 4));
    assert_eq!(world.lane_of(of_four(3)), Some(0));
    // A reply says that there are three.
    world.table.lanes[0].load.told.store(3, Ordering::Relaxed);
    assert_eq!(world.lane_of(of_four(3)), None);
    world.tend();
    assert_eq!(world.table.shards(), 3);
    assert!(
        world.numbers().len() >= 2,
        "what leads to no shard of three is gone: {:?}",
        world.numbers()
    );
}

#[test]
fn calls_without_a_key_take_the_least_busy_and_have_turns() {
    let mut world = World::new();
    world.hello(|_| (0, 2));
    world.hello(|_| (1, 2));
    let pick = |world: &World| world.table.right_lane(None).unwrap().channel.number;
    let picked: Vec<usize> = (0..4).map(|_| pick(&world)).collect();
    assert!(picked == [0, 1, 0, 1] || picked == [1, 0, 1, 0], "{picked:?}");
    world.table.lanes[0].load.in_flight.store(1, Ordering::Relaxed);
    assert_eq!((0..4).map(|_| pick(&world)).collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn a_server_that_does_not_say_its_shard_gets_one_connection() {
    let mut world = World::new();
    for _ in 0..10 {
        world.tend();
    }
    assert_eq!((world.opened.len(), world.table.shards()), (1, 0));
    assert_eq!(world.table.any_lane().channel.number, 0);
    assert!(world.table.right_lane(Some(7)).is_none());
}

/// Two servers with different numbers of shards behind one address: each connection, and each reply, says another number. That must
/// end, or the channel would connect for ever.
#[test]
fn servers_that_differ_use_up_the_tries() {
    let mut world = World::new();
    let said = |number: usize| if number.is_multiple_of(2) { (0, 2) } else { (1, 4) };
    for round in 0..1000_u16 {
        world.hello(said);
        let told = 2 + 2 * (round % 2);
        world.table.lanes[0].load.told.store(told, Ordering::Relaxed);
        world.tend();
    }
    let opened = world.opened.len();
    assert!(opened < 100, "{opened} connections were opened");
    // A connection that was lost brings all tries again.
    let lane = world.table.lanes[0].channel.clone();
    lane.said.set(Some((1, 2)));
    world.tend();
    assert!(world.opened.len() > opened, "a server that came back is not looked for");
}
