//! SIGTERM: no call is without an outcome at its caller, and the process ends in time.
//!
//! The servers run in processes of their own, so that signals and exit codes are real.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, CallError, StatusCode, spawn};
use futures_lite::future::poll_once;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::child::{ServerChild, announce, role, serve};
use support::peer::{Peer, Said, hello, request};
use support::service::SubjectClient;
use support::{builder, client, until};

const ROOMY: Duration = Duration::from_secs(5);
const TIGHT: Duration = Duration::from_millis(700);

/// The children's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    let Some(role) = role() else { return };
    if role == "busy" {
        return serve_and_do_something_else();
    }
    let (shards, within) = match &*role {
        "roomy" => (2, ROOMY),
        _ => (1, TIGHT),
    };
    serve(builder(shards).drain_within(within))
}

/// A `main` that comes to wait for its server only when that has stopped listening.
fn serve_and_do_something_else() {
    let server = builder(1).drain_within(TIGHT).drain_on_signal().start().unwrap();
    announce(&server);
    let address = support::address(&server);
    until("the server drains", || TcpStream::connect(address).is_err());
    std::process::exit(i32::from(server.wait().unwrap().shards_lost != 0))
}

/// How the calls of a load ended.
#[derive(Debug, Default)]
struct Outcomes {
    answered: u32,
    refused: u32,
    not_sent: u32,
    unknown: u32,
}

#[test]
fn sigterm_under_load_leaves_no_call_without_an_outcome() {
    const CONNECTIONS: usize = 8;
    const CALLERS: usize = 25;
    let server = ServerChild::start("child", "roomy");
    let to = server.address();
    let (server, outcomes, slow, sent) = client(move || async move {
        let outcomes = Rc::new(RefCell::new(Outcomes::default()));
        let answered = Rc::new(Cell::new(0u32));
        let mut callers = Vec::new();
        let mut slow = Vec::new();
        for connection in 0..CONNECTIONS {
            let client = SubjectClient::connect(to).await.unwrap();
            for caller in 0..CALLERS {
                let (client, outcomes) = (client.clone(), Rc::clone(&outcomes));
                let answered = Rc::clone(&answered);
                callers.push(spawn(async move {
                    loop {
                        let outcome = match (connection + caller) % 3 {
                            0 => client.after(5).await.map(drop),
                            1 => client.later(7).await.map(drop),
                            _ => client.echo(Bytes::from_static(b"load")).await.map(drop),
                        };
                        let mut outcomes = outcomes.borrow_mut();
                        match outcome {
                            Ok(()) => {
                                outcomes.answered += 1;
                                answered.set(answered.get() + 1);
                                continue;
                            }
                            Err(CallError::Refused(_)) => outcomes.refused += 1,
                            Err(CallError::NotSent(_)) => outcomes.not_sent += 1,
                            Err(CallError::Unknown(_)) => outcomes.unknown += 1,
                            Err(other) => panic!("{other:?} is no outcome of a drain"),
                        }
                        return;
                    }
                }));
            }
            // These are in flight when the signal comes, and end well within the deadline.
            slow.push(spawn(async move { client.after(800).await }));
        }
        while answered.get() < 2_000 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        let sent = Instant::now();
        server.signal(Signal::TERM);
        for caller in callers {
            caller.await;
        }
        let mut ends = Vec::new();
        for call in slow {
            ends.push(call.await);
        }
        let outcomes = outcomes.take();
        (server, outcomes, ends, sent)
    });
    // A graceful drain leaves nothing unknown: what was taken is answered, the rest refused.
    assert!(outcomes.answered >= 2_000, "{outcomes:?}");
    assert_eq!(outcomes.unknown, 0, "{outcomes:?}");
    assert_eq!(outcomes.refused + outcomes.not_sent, 200, "{outcomes:?}");
    assert!(slow.iter().all(|end| *end == Ok(800)), "{slow:?}");
    let (status, _) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
    assert!(sent.elapsed() < ROOMY, "{:?}", sent.elapsed());
}

/// While a shard drains, nobody new gets in, not even into the kernel's queue.
#[test]
fn a_draining_server_refuses_new_connections() {
    let mut server = ServerChild::start("child", "roomy");
    let mut peer = Peer::polite(server.address());
    peer.send(&request(1, "after", &2_000u64.to_le_bytes()));
    peer.send(&request(2, "echo", b"first"));
    assert_eq!(peer.reply().0.call, 2);
    server.signal(Signal::TERM);
    let said = peer.said();
    let Said::GoAway(go_away, _) = said else { panic!("a go-away was to come, not {said:?}") };
    assert_eq!((go_away.rule, go_away.accepted), (0, 2));
    let address = server.address();
    until("the listener refuses", || match TcpStream::connect(address) {
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        Ok(_) => false,
    });
    assert!(server.is_running(), "it refuses because it drains, not because it is gone");
    // What was in flight is answered; what comes later is refused.
    peer.send(&request(3, "echo", b"late"));
    let (head, status) = peer.failure();
    assert_eq!((head.call, head.flags), (3, corewire_codec::reply_flags::REFUSED), "{status}");
    assert_eq!(peer.reply().0.call, 1);
    let (status, _) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
}

/// Signals are watched for from before the first connection: a process that learns the address may
/// send one at once, whatever the process does meanwhile.
#[test]
fn a_signal_drains_before_anybody_waits_for_it() {
    let server = ServerChild::start("child", "busy");
    let mut peer = Peer::polite(server.address());
    server.signal(Signal::TERM);
    let said = peer.said();
    assert!(matches!(said, Said::GoAway(..)), "a go-away was to come, not {said:?}");
    drop(peer);
    let (status, _) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
}

/// REQ-61: a connection that has said nothing yet learns that nothing of it was taken.
#[test]
fn req_61_a_client_without_hello_is_told() {
    let server = ServerChild::start("child", "roomy");
    let mut silent = Peer::silent(server.address());
    let mut polite = Peer::polite(server.address());
    polite.assert_serves(1);
    server.signal(Signal::TERM);
    silent.hello();
    let said = silent.said();
    let Said::GoAway(go_away, _) = said else { panic!("a go-away was to come, not {said:?}") };
    assert_eq!((go_away.rule, go_away.accepted), (0, 0));
    silent.send(&hello());
    drop((silent, polite));
    let (status, took) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
    assert!(took < ROOMY / 2, "nothing was in flight, and it took {took:?}");
}

#[test]
fn a_handler_that_never_returns_is_dropped_at_the_deadline() {
    let server = ServerChild::start("child", "tight");
    let to = server.address();
    let (server, outcome, sent) = client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let mut call = Box::pin(client.never());
        assert!(poll_once(&mut call).await.is_none(), "it waits for its reply");
        // Calls are sent and handled in order: this answer says that the other call is in its handler.
        client.add(1, 1).await.unwrap();
        let sent = Instant::now();
        server.signal(Signal::TERM);
        (server, call.await, sent)
    });
    // REQ-76: its caller is told, and no connection simply ends.
    let Err(CallError::Status(told)) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(told.code(), StatusCode::Unavailable);
    let (status, _) = server.end(ROOMY);
    let took = sent.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took >= TIGHT && took < TIGHT + Duration::from_secs(1), "{took:?}");
}

/// REQ-76: every call that is left gets its one reply, and then the connection ends in good order.
#[test]
fn at_the_deadline_every_call_gets_a_status() {
    let server = ServerChild::start("child", "tight");
    let mut peer = Peer::polite(server.address());
    let calls = 1..=200;
    calls.clone().for_each(|call| peer.send(&request(call, "never", b"")));
    peer.assert_serves(201);
    server.signal(Signal::TERM);
    let Said::GoAway(go_away, _) = peer.said() else { panic!("a go-away was to come") };
    assert_eq!((go_away.rule, go_away.accepted), (0, 201));
    let mut told: Vec<u32> = calls
        .clone()
        .map(|_| {
            let (head, status) = peer.failure();
            // They ran: nothing says that it is safe to try them again.
            assert_eq!((head.code, head.flags), (StatusCode::Unavailable, 0), "{status}");
            head.call
        })
        .collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(calls));
    assert!(matches!(peer.said(), Said::End));
    drop(peer);
    let (status, took) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
    assert!(took < TIGHT + Duration::from_secs(1), "{took:?}");
}

/// REQ-76: a client that reads nothing is not told, and holds up the end for a second only.
#[test]
fn a_peer_that_reads_nothing_does_not_hold_the_drain() {
    let server = ServerChild::start("child", "tight");
    let mut greedy = Peer::polite(server.address());
    for call in 1..=8 {
        greedy.send(&request(call, "blob", &(8u32 << 20).to_le_bytes()));
    }
    greedy.send(&request(9, "never", b""));
    let mut polite = Peer::polite(server.address());
    polite.assert_serves(1);
    server.signal(Signal::TERM);
    let (status, took) = server.end(ROOMY);
    assert_eq!(status.code(), Some(0));
    assert!(took < TIGHT + Duration::from_millis(1800), "{took:?}");
    drop((greedy, polite));
}

/// A handler that keeps its thread cannot be dropped: its shard is given up two seconds after the
/// deadline, the exit code says so, and its caller does not wait for ever.
#[test]
fn a_handler_that_keeps_its_thread_is_given_up() {
    let mut server = ServerChild::start("child", "tight");
    let to = server.address();
    let (server, outcome) = client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        client.add(1, 1).await.unwrap();
        let before = server.counters()["bytes_received"];
        let mut call = Box::pin(client.block());
        assert!(poll_once(&mut call).await.is_none(), "it waits for its reply");
        // In the turn that receives the request, its handler gets the thread and keeps it.
        while server.counters()["bytes_received"] == before {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        server.signal(Signal::TERM);
        (server, call.await)
    });
    assert!(matches!(outcome, Err(CallError::Unknown(_))), "{outcome:?}");
    let (status, took) = server.end(ROOMY);
    assert_eq!(status.code(), Some(1));
    assert!(took < ROOMY, "{took:?}");
}

/// A second signal does not wait.
#[test]
fn a_second_signal_ends_at_once() {
    let server = ServerChild::start("child", "roomy");
    let mut peer = Peer::polite(server.address());
    peer.send(&request(1, "never", b""));
    peer.assert_serves(2);
    server.signal(Signal::TERM);
    assert!(matches!(peer.said(), Said::GoAway(..)));
    server.signal(Signal::TERM);
    let (status, _) = server.end(ROOMY / 2);
    assert_eq!(status.code(), Some(128 + 15));
}
