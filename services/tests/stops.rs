//! Processes that are stopped for longer than every timeout, and go on; and handlers that keep a shard's
//! thread for as long. What arrived meanwhile lies in the sockets: nobody is blamed, and what was answered
//! is answered.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Channel, ChannelConfig, ClientConfig, ClientShard, ClientThread, ServerBuilder, SharedChannel,
    StatusCode, Timeouts, Transport, blocking,
};
use futures_lite::future::{block_on, zip};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::time::Duration;
use support::child::{ServerChild, role, say, serve};
use support::peer::{Peer, request};
use support::service::{Habits, SubjectClient};
use support::{PATIENCE, address, builder, count, end, server_with, until};

/// Longer than all that follows together.
const STOP: Duration = Duration::from_millis(2_500);

/// All of a connection's timeouts, short enough for a stop to be longer.
fn short() -> Timeouts {
    Timeouts {
        hello: Duration::from_millis(800),
        frame: Duration::from_millis(800),
        ping_after: Duration::from_millis(200),
        ping: Duration::from_millis(800),
        write: Duration::from_millis(800),
        idle: Some(Duration::from_millis(1_200)),
        ..Timeouts::default()
    }
}

fn config(timeouts: Timeouts) -> ChannelConfig {
    let connection = ClientConfig { timeouts, ..ClientConfig::default() };
    ChannelConfig { connection, ..ChannelConfig::default() }
}

fn hasty() -> ServerBuilder {
    builder(1).timeouts(short())
}

/// The children's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    let Some(role) = role() else { return };
    let Some((kind, to)) = role.split_once(' ') else { serve(hasty()) };
    let to: SocketAddr = to.parse().unwrap();
    match kind {
        "shard" => support::client(move || async move {
            let channel = Channel::new(to, config(short())).unwrap();
            be_stopped(channel.clone()).await;
            channel.close().await;
        }),
        "thread" => {
            let thread = ClientThread::start(ClientShard::default()).unwrap();
            let channel = thread.channel(to, config(short())).unwrap();
            block_on(be_stopped(channel.clone()));
            be_stopped_while_waiting(channel.clone());
            block_on(channel.close());
        }
        "tokio" => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            let channel = {
                let _runtime = runtime.enter();
                SharedChannel::on_tokio(to, config(short())).unwrap()
            };
            runtime.block_on(be_stopped(channel.clone()));
            be_stopped_while_waiting(channel.clone());
            block_on(channel.close());
        }
        _ => {
            let channel = blocking::Channel::new(to, config(short())).unwrap();
            block_on(be_stopped(channel.clone()));
            channel.close();
        }
    }
    say("over", "");
}

/// A client whose process is stopped while a call is in flight, and goes on when that is answered and its
/// time long over.
async fn be_stopped<C: Transport + Clone>(channel: C) {
    let client = SubjectClient::new(channel.clone()).with_timeout(PATIENCE);
    let hasty = client.clone().with_timeout(STOP / 2);
    client.add(1, 2).await.unwrap();
    assert_eq!(hasty.gate(7).await.unwrap(), 7);
    assert_eq!(client.add(3, 4).await.unwrap(), 7);
}

/// The same by a thread that waits for its call, and wakes up on its own when its time is over.
fn be_stopped_while_waiting<C: Transport>(channel: C) {
    let hasty = SubjectClient::new(channel).with_timeout(STOP / 2);
    assert_eq!(hasty.gate(8).wait().unwrap(), 8);
}

/// REQ-86: stops a client of this kind in the middle of each of its calls to the gate, which is open before it
/// goes on.
fn stop_a_client(kind: &str, gates: u64) {
    let habits = Habits::default();
    let server = server_with(&habits);
    let mut child = ServerChild::start_silent("child", &format!("{kind} {}", address(&server)));
    for gate in 1..=gates {
        until("the call is in flight", || habits.begun() == gate);
        child.signal(Signal::STOP);
        habits.open();
        std::thread::sleep(STOP);
        habits.shut();
        child.signal(Signal::CONT);
    }
    child.said("over");
    assert!(child.end(PATIENCE).0.success());
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    assert_eq!(count(&server, |counters| counters.connections_accepted.value()), 1);
    end(server);
}

#[test]
fn a_stopped_client_on_a_shard() {
    stop_a_client("shard", 1);
}

#[test]
fn a_stopped_client_with_a_thread() {
    stop_a_client("thread", 2);
}

#[test]
fn a_stopped_client_on_tokio() {
    stop_a_client("tokio", 2);
}

#[test]
fn a_stopped_client_that_blocks() {
    stop_a_client("blocking", 1);
}

/// REQ-86: a server that is stopped while calls come: they lie in its socket when it goes on.
async fn stop_a_server<C: Transport>(channel: impl FnOnce(SocketAddr) -> C) {
    let mut server = ServerChild::start("child", "server");
    let client = SubjectClient::new(channel(server.address())).with_timeout(PATIENCE);
    client.add(1, 2).await.unwrap();
    server.signal(Signal::STOP);
    let pid = server.pid();
    let waker = std::thread::spawn(move || {
        std::thread::sleep(STOP);
        rustix::process::kill_process(pid, Signal::CONT).unwrap();
    });
    let answers = zip(client.add(2, 2), client.add(3, 2)).await;
    assert_eq!((answers.0.unwrap(), answers.1.unwrap()), (4, 5));
    waker.join().unwrap();
    assert_eq!(client.add(4, 2).await.unwrap(), 6);
    let counters = server.counters();
    assert_eq!((counters["connections_faulted"], counters["connections_accepted"]), (0, 1));
}

#[test]
fn a_stopped_server_of_a_shard() {
    support::client(|| stop_a_server(|to| Channel::new(to, ChannelConfig::default()).unwrap()));
}

#[test]
fn a_stopped_server_of_a_thread() {
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    block_on(stop_a_server(|to| thread.channel(to, ChannelConfig::default()).unwrap()));
}

#[test]
fn a_stopped_server_of_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = |to| SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap();
    runtime.block_on(stop_a_server(connect));
}

#[test]
fn a_stopped_server_of_one_that_blocks() {
    block_on(stop_a_server(|to| blocking::Channel::new(to, ChannelConfig::default()).unwrap()));
}

/// REQ-23, REQ-58, REQ-86: a handler keeps the thread for longer than every timeout. The rest of a request that
/// was begun before lies in the socket when it ends, and a pong, and a request on a quiet connection.
#[test]
fn a_handler_that_blocks_blames_nobody() {
    let habits = Habits::default();
    let target = habits.clone();
    let server = corewire::Server::builder()
        .address("127.0.0.1:0")
        .placement(corewire::Placement::Unpinned(1))
        .timeouts(Timeouts { ping_after: PATIENCE, ..short() })
        .service(move |_| {
            let target = support::service::Target::new(target.clone());
            support::service::SubjectServer::new(target)
        })
        .start()
        .unwrap();
    let to = address(&server);
    let (mut half, mut quiet, mut other) = (Peer::polite(to), Peer::polite(to), Peer::polite(to));
    quiet.assert_serves(1);
    let whole = request(1, "echo", b"the whole of it");
    half.send(&whole[..10]);
    // It is read by the time that the call behind it is answered.
    other.assert_serves(1);
    other.send(&request(2, "block", b""));
    until("the handler has the thread", || habits.begun() == 1);
    half.send(&whole[10..]);
    quiet.send(&request(2, "echo", b"still here"));
    std::thread::sleep(STOP);
    habits.unblock.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(half.answer().1[..], b"the whole of it"[..]);
    assert_eq!(quiet.answer().1[..], b"still here"[..]);
    assert_eq!(other.answer().0.code, StatusCode::Ok);
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}

/// What a client does that writes a byte out of band: it is not part of the stream, and the request behind
/// it is answered like any other, though a receive stops in front of it.
#[test]
fn an_urgent_byte_hides_no_request() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    let (mut urgent, mut other) = (Peer::polite(to), Peer::polite(to));
    urgent.assert_serves(1);
    // All of it is there before the shard looks.
    other.send(&request(1, "block", b""));
    until("the handler has the thread", || habits.begun() == 1);
    urgent.send(&request(2, "echo", b"in front"));
    rustix::net::send(&urgent.stream, b"!", rustix::net::SendFlags::OOB).unwrap();
    urgent.send(&request(3, "echo", b"behind"));
    habits.unblock.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(urgent.answer().1[..], b"in front"[..]);
    assert_eq!(urgent.answer().1[..], b"behind"[..]);
    assert_eq!(other.answer().0.code, StatusCode::Ok);
    end(server);
}
