//! The age of connections, and what is spread by jitter; how large a connection is.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::{GoAway, Head, SendBuffer};

use super::flow::{client_config, server_config};
use super::pair::{Outcome, Pair, said_later, secs};
use crate::client::ClientConnection;
use crate::close::CloseReason;
use crate::config::{ClientConfig, ServerConfig, ServerIdentity};
use crate::server::ServerConnection;
use crate::streams::table::StreamKind;

fn aging() -> ServerConfig {
    let mut config = server_config();
    config.timeouts.age = Some(secs(590));
    config.timeouts.age_grace = secs(20);
    config
}

/// REQ-62: at its age a connection goes away once, takes nothing new, and finishes what it has.
#[test]
fn a_connection_that_reaches_its_age() {
    let mut pair = Pair::with(aging(), client_config());
    pair.settle();
    let call = pair.stream(StreamKind::Bidirectional, 1);
    pair.drive(secs(590) - Duration::from_nanos(1));
    assert!(!pair.server.conn.is_draining());
    pair.wait(Duration::from_nanos(1));
    assert_eq!(said_later(&pair.server.out), [Head::GoAway(GoAway { accepted: 1, rule: 0 })]);
    pair.settle();
    assert!(pair.client.conn.is_draining() && !pair.client.conn.has_slot());
    pair.client_sends(call, b"streams go on", true).unwrap();
    pair.settle();
    assert_eq!(pair.server_takes(call), ["streams go on"]);
    pair.server_ends(call, None);
    pair.settle();
    assert!(matches!(pair.outcome(1), Some(Outcome::StreamEnd(..))));
    assert!(pair.client.conn.is_drained());
}

/// REQ-62, REQ-76: a call that does not end within the grace is told so, and given up.
#[test]
fn the_grace_is_over() {
    let mut pair = Pair::with(aging(), client_config());
    pair.settle();
    pair.stream(StreamKind::Server, 1);
    pair.call(2);
    pair.drive(secs(610) - Duration::from_nanos(1));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.drive(Duration::from_nanos(1));
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::DrainDeadline));
    assert_eq!(pair.server.conn.poll_timeout(), None);
    let status = corewire_codec::Status::unavailable("the grace is over");
    let mut works = pair.server.conn.finish_all(&status, &mut pair.server.out);
    works.sort_unstable();
    assert_eq!(works, [1, 2]);
    assert_eq!(pair.server.conn.unpark_all().count(), 0);
    pair.settle();
    assert_eq!((pair.status(1).1, pair.status(2).1), (status.clone(), status));
    assert!(pair.client.conn.is_drained());
}

/// REQ-61, REQ-62: a server that shuts down has a deadline of its own; age no longer matters.
#[test]
fn age_while_draining() {
    let mut pair = Pair::with(aging(), client_config());
    pair.settle();
    pair.call(1);
    pair.drive(secs(585));
    pair.server.conn.drain(&mut pair.server.out);
    pair.drive(secs(600));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.server.conn.in_flight(), 1);
}

/// REQ-61, REQ-76: a drain leaves open streams their time: they go on in both directions, and those that are
/// still open at its deadline get a status instead of silence.
#[test]
fn a_drain_with_streams_open() {
    let mut pair = Pair::streaming_ready();
    let upload = pair.stream(StreamKind::Client, 1);
    let watch = pair.stream(StreamKind::Server, 2);
    let stuck = pair.stream(StreamKind::Bidirectional, 3);
    pair.settle();
    pair.server.conn.drain(&mut pair.server.out);
    pair.settle();
    pair.client_sends(upload, b"more", true).unwrap();
    pair.server_sends(watch, b"change").unwrap();
    pair.settle();
    assert_eq!(pair.server_takes(upload), ["more"]);
    pair.answer(upload);
    pair.server_ends(watch, None);
    pair.settle();
    assert_eq!(pair.client_takes(watch), ["change"]);
    assert!(pair.echoed(1) && pair.outcome(2).is_some());
    assert!(!pair.client.conn.is_drained());
    pair.client_sends(stuck, b"x", false).unwrap();
    let status = corewire_codec::Status::unavailable("the drain is over");
    assert_eq!(pair.server.conn.finish_all(&status, &mut pair.server.out), [3]);
    pair.settle();
    assert_eq!(pair.status(3).1, status);
    assert!(pair.client.conn.is_drained());
    pair.assert_no_streams();
}

/// When the ping and the go-away of a connection's age come, counted from its hello.
fn times(seed: u64, id: u64) -> (Duration, Duration) {
    let mut config = ServerConfig { jitter_seed: seed, ..aging() };
    config.timeouts.jitter_percent = 20;
    let now = Instant::now();
    let mut server = super::pair::ServerSide::new(config, now);
    let identity = ServerIdentity { connection_id: id };
    server.conn = ServerConnection::new(Rc::new(config), identity, now);
    let mut hello = SendBuffer::new();
    let _ = ClientConnection::<()>::new(Arc::default(), 0, &mut hello, now);
    server.feed(hello.first_chunk(), now);
    let ping = server.conn.poll_timeout().unwrap();
    // Kept busy, it pings no more until its age.
    let mut at = now;
    loop {
        at += secs(1);
        server.feed(&super::pair::bytes(|out| out.ping(0)), at);
        server.fire(at);
        if server.conn.is_draining() {
            return (ping - now, at - now);
        }
    }
}

/// REQ-72: connections that were made together ping and go away at times of their own, earlier than
/// asked for by no more than the percentage, and always the same ones.
#[test]
fn jitter_spreads_pings_and_ages() {
    let all: Vec<_> = (0..50).map(|id| times(7, id)).collect();
    for (ping, age) in &all {
        assert!((secs(48)..=secs(60)).contains(ping), "{ping:?}");
        assert!((secs(472)..=secs(590)).contains(age), "{age:?}");
    }
    let pings: std::collections::BTreeSet<_> = all.iter().map(|(ping, _)| ping).collect();
    let ages: std::collections::BTreeSet<_> = all.iter().map(|(_, age)| age).collect();
    assert!(pings.len() > 45 && ages.len() > 25, "{} and {}", pings.len(), ages.len());
    assert_eq!(times(7, 11), all[11]);
    assert_ne!(times(8, 11), all[11]);
    // A client's follow from its own seed, and differ from connection to connection.
    let ping = |jitter_seed, id| {
        let config = ClientConfig { jitter_seed, ..client_config() };
        let (mut out, now) = (SendBuffer::new(), Instant::now());
        let mut client = ClientConnection::<()>::new(Arc::new(config), id, &mut out, now);
        let mut recv = corewire_codec::RecvBuffer::new();
        let mut server = super::pair::ServerSide::new(server_config(), now);
        server.feed(out.first_chunk(), now);
        recv.extend_from_slice(server.out.first_chunk());
        let _ = client.handle_frame(&mut recv, &mut out, now);
        client.poll_timeout().unwrap() - now
    };
    assert_eq!(ping(1, 0), ping(1, 0));
    assert_ne!(ping(1, 0), ping(2, 0));
    let pings: std::collections::BTreeSet<_> = (0..50).map(|id| ping(0, id)).collect();
    assert!(pings.len() > 45, "{}", pings.len());
    assert!(pings.iter().all(|ping| (secs(54)..=secs(60)).contains(ping)));
}

/// Idle connections are many: what streams and one-way calls need is made when the first one comes.
#[test]
fn an_idle_connection_is_small() {
    assert_eq!(size_of::<ServerConnection<[u64; 2]>>(), SERVER_BYTES);
    assert_eq!(size_of::<ClientConnection<usize>>(), CLIENT_BYTES);
}

/// On a machine of 64 bits.
const SERVER_BYTES: usize = 248;
const CLIENT_BYTES: usize = 352;
