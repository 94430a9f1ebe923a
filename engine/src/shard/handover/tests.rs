//! Who has a connection that was given, and whether its client hears of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::channel::ChannelContext;
use crate::shard::mesh::tests::group;
use corewire_client::address::Peer;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

fn turn(context: &Rc<ChannelContext>) {
    let _entered = context.enter();
    context.mesh.take();
    context.shard.sleepers.wake_due(Instant::now());
    context.shard.run_tasks();
    context.mesh.settle();
}

/// Gives one end of a connection from shard 0 to shard 1; the other end is its client.
fn give_one(shards: &[Rc<ChannelContext>]) -> UnixStream {
    let (client, socket) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _entered = shards[0].enter();
    assert!(has_room(&shards[0].mesh, 1));
    give(&shards[0].mesh, 1, Given::new(socket.into(), Peer::Unix, None));
    turn(&shards[0]);
    client
}

/// Whether this is the other end of a client's connection.
fn is_of(socket: OwnedFd, client: &mut UnixStream) -> bool {
    client.write_all(b"!").unwrap();
    let mut byte = [0];
    UnixStream::from(socket).read_exact(&mut byte).is_ok() && byte == *b"!"
}

#[test]
fn a_connection_goes_to_the_other_shard() {
    let shards = group(2);
    let mut client = give_one(&shards);
    turn(&shards[1]);
    assert!(shards[1].shard.handovers.take_news());
    let [taken] = shards[1].shard.handovers.taken().try_into().unwrap();
    turn(&shards[0]);
    assert!(shards[0].shard.handovers.take_news());
    assert!(matches!(shards[0].shard.handovers.ended()[..], [Outcome::Gone]));
    assert!(is_of(taken.socket, &mut client));
    // Nobody has it any more.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// The other shard dies before it looks: the connection is here again, as it was.
#[test]
fn a_connection_comes_back_from_a_shard_that_dies() {
    let shards = group(2);
    let mut client = give_one(&shards);
    shards[1].mesh.leave();
    turn(&shards[0]);
    let Some(Outcome::Back(taken)) = shards[0].shard.handovers.ended().pop() else {
        panic!("it was not claimed");
    };
    assert!(is_of(taken.socket, &mut client));
    assert_eq!(
        client.read(&mut [0]).unwrap(),
        0,
        "the parcel that stays in the ring holds nothing"
    );
    let _entered = shards[0].enter();
    assert!(!has_room(&shards[0].mesh, 1));
}

/// The other shard dies with it: its client is told at once, although the dead shard's descriptor may live on.
#[test]
fn a_connection_that_dies_with_its_shard_is_shut_down() {
    let shards = group(2);
    let mut client = give_one(&shards);
    {
        let _entered = shards[1].enter();
        shards[1].mesh.take();
    }
    let kept = shards[1].shard.handovers.taken();
    // Its answer is not sent: it panics before the end of its turn.
    {
        let _entered = shards[0].enter();
        shards[0].mesh.waiting.lose(1);
    }
    turn(&shards[0]);
    assert!(matches!(shards[0].shard.handovers.ended()[..], [Outcome::Lost]));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(kept);
}

/// A shard that does not turn does not hold the connection up.
#[test]
fn a_connection_comes_back_from_a_shard_that_is_held_up() {
    let shards = group(2);
    let mut client = give_one(&shards);
    let began = Instant::now();
    let ended = loop {
        turn(&shards[0]);
        let ended = shards[0].shard.handovers.ended();
        if !ended.is_empty() {
            break ended;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it waits for ever");
        std::thread::yield_now();
    };
    assert!(began.elapsed() >= CLAIM_WITHIN / 2);
    let Some(Outcome::Back(taken)) = ended.into_iter().next() else {
        panic!("nobody claimed it");
    };
    // Then it turns, and finds that it came too late.
    turn(&shards[1]);
    assert!(shards[1].shard.handovers.taken().is_empty());
    turn(&shards[0]);
    assert!(shards[0].shard.handovers.ended().is_empty());
    assert!(is_of(taken.socket, &mut client));
}
