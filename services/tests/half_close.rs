//! Clients that end their sending side and go on reading (REQ-79).
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{ServerBuilder, StatusCode, Timeouts};
use corewire_codec::Head;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use support::peer::{Peer, Said, request};
use support::service::{Habits, SubjectServer, Target};
use support::{PATIENCE, address, builder, count, end, server, server_with, until};

fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// What comes until the end, without pings: the statuses of the replies.
#[track_caller]
fn rest(peer: &mut Peer) -> Vec<StatusCode> {
    let mut codes = Vec::new();
    loop {
        match peer.said() {
            Said::Reply(head, _) => codes.push(head.code),
            Said::Other(Head::Ping(_)) => {}
            Said::End => return codes,
            other => panic!("replies and an end were to come, not {other:?}"),
        }
    }
}

/// REQ-79: a reply that no socket takes at once is not cut in the middle.
#[test]
fn a_large_reply_is_whole_behind_a_half_close() {
    let server = server();
    let mut peer = Peer::polite(address(&server));
    let body = vec![7; 8 << 20];
    peer.send(&request(1, "echo", &body));
    finish(&peer.stream);
    let (head, echoed) = peer.answer();
    assert_eq!((head.code, echoed.len()), (StatusCode::Ok, body.len()));
    assert!(rest(&mut peer).is_empty());
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}

/// REQ-79: calls whose handlers are pending are answered when these have ended.
#[test]
fn pending_calls_are_answered_behind_a_half_close() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let mut peer = Peer::polite(address(&server));
    for call in 0..3 {
        peer.send(&request(call, "gate", &call.to_le_bytes()));
    }
    finish(&peer.stream);
    // The server's ping says that it has read the end.
    assert!(matches!(peer.said(), Said::Other(Head::Ping(_))));
    assert_eq!(habits.at_gate(), 3);
    habits.open();
    assert_eq!(rest(&mut peer), [StatusCode::Ok; 3]);
    end(server);
}

fn with_write_timeout(habits: &Habits, write: Duration) -> ServerBuilder {
    let habits = habits.clone();
    corewire::Server::builder()
        .address("127.0.0.1:0")
        .placement(corewire::Placement::Unpinned(1))
        .timeouts(Timeouts { write, ..Timeouts::default() })
        .service(move |_| SubjectServer::new(Target::new(habits.clone())))
}

/// REQ-79: for as long as the write timeout.
#[test]
fn pending_calls_end_with_the_write_timeout() {
    let habits = Habits::default();
    let write = Duration::from_millis(500);
    let server = with_write_timeout(&habits, write).start().unwrap();
    let mut peer = Peer::polite(address(&server));
    peer.send(&request(1, "never", b""));
    finish(&peer.stream);
    let start = Instant::now();
    assert!(rest(&mut peer).is_empty());
    assert!(start.elapsed() >= write / 2);
    until("the handler is dropped", || habits.ended() == 1);
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}

/// A client that is gone altogether looks the same at first. It is found out at once, and its handlers are
/// dropped.
#[test]
fn a_client_that_is_gone_is_found_out() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let mut peer = Peer::polite(address(&server));
    peer.send(&request(1, "never", b""));
    until("the handler has begun", || habits.begun() == 1);
    let start = Instant::now();
    drop(peer);
    until("the handler is dropped", || habits.ended() == 1);
    // The write timeout is 30 s.
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}

/// REQ-79: half of a request is none.
#[test]
fn half_a_request_behind_which_the_client_ends() {
    let server = builder(1).start().unwrap();
    let mut peer = Peer::polite(address(&server));
    peer.send(&request(1, "later", &5u32.to_le_bytes()));
    peer.send(&request(2, "echo", &[7; 1_000])[..500]);
    finish(&peer.stream);
    assert_eq!(rest(&mut peer), [StatusCode::Ok]);
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}
