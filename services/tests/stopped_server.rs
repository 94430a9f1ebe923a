//! A server that is stopped while clients go on calling, and then continued: what the clients hold meanwhile
//! is bounded, and of the calls that ended meanwhile only those run that had been on their way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, CallError, Channel, ChannelConfig, ClientShard, ClientThread, SharedChannel, Transport,
    blocking,
};
use futures_lite::future::block_on;
use rustix::process::Signal;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use support::child::{ServerChild, role, serve};
use support::service::SubjectClient;
use support::{PATIENCE, builder, client, pause};

const BODY: usize = 1024 * 1024;

/// The calls that are made while the server is stopped. A blocking channel makes them one after the other.
#[derive(Clone, Copy)]
struct Load {
    calls: usize,
    at_once: usize,
    timeout: Duration,
    /// Whether the server is stopped for longer than it takes until it is given up.
    outlasts_patience: bool,
}

const SOME: Load =
    Load { calls: 96, at_once: 8, timeout: Duration::from_millis(100), outlasts_patience: false };
const SOME_BLOCKING: Load = Load { calls: 24, ..SOME };
/// 100 calls a second for a minute.
const A_MINUTE: Load =
    Load { calls: 6000, at_once: 20, timeout: Duration::from_millis(200), outlasts_patience: true };
const A_MINUTE_BLOCKING: Load = Load { calls: 300, ..A_MINUTE };

/// What this process may grow by: bodies of the calls at once, what a channel holds, and some air for
/// allocators. Before there was a bound it was all of the calls.
const GROWTH_MAX: usize = 40 * 1024 * 1024;

/// The child's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    if role().is_some() {
        serve(builder(1));
    }
}

/// Memory is the process's, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn rss() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// How the calls ended that were made while the server was stopped.
#[derive(Debug, Default)]
struct Ended {
    unsent: u64,
    sent: u64,
    /// The server was given up, which takes nothing for longer than the write timeout.
    unknown: u64,
    grown: usize,
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<Bytes, CallError>> + 'a>>;

/// Waits for all of them; returns how they ended.
async fn all(mut calls: Vec<Boxed<'_>>) -> Vec<Result<Bytes, CallError>> {
    let mut ended = Vec::new();
    std::future::poll_fn(|context: &mut Context<'_>| {
        calls.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Ready(outcome) => {
                ended.push(outcome);
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended
}

async fn call_in_vain<C: Transport + Clone>(client: &SubjectClient<C>, load: Load) -> Ended {
    let client = client.clone().with_timeout(load.timeout);
    let (before, mut ended) = (rss(), Ended::default());
    for _ in 0..load.calls / load.at_once {
        let begun = Instant::now();
        let call = || -> Boxed<'_> { Box::pin(client.echo(Bytes::from(vec![7; BODY]))) };
        let outcomes = all((0..load.at_once).map(|_| call()).collect()).await;
        ended.grown = ended.grown.max(rss().saturating_sub(before));
        for outcome in outcomes {
            match outcome.unwrap_err() {
                CallError::DeadlineExceeded { sent: true } => ended.sent += 1,
                CallError::DeadlineExceeded { sent: false } | CallError::NotSent(_) => {
                    ended.unsent += 1;
                }
                CallError::Unknown(_) if load.outlasts_patience => ended.unknown += 1,
                other => panic!("{other:?}"),
            }
        }
        // Calls that fail at once make no more load than the others.
        if let Some(rest) = load.timeout.checked_sub(begun.elapsed()) {
            pause(rest).await;
        }
    }
    ended
}

async fn stopped_and_continued<C: Transport + Clone>(
    load: Load,
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
) {
    let mut server = ServerChild::start("child", "stopped");
    let channel = connect(server.address(), ChannelConfig::default());
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    assert_eq!(client.add(1, 2).await, Ok(3));
    let before = server.counters()["calls"];
    server.signal(Signal::STOP);
    let ended = call_in_vain(&client, load).await;
    assert!(ended.grown <= GROWTH_MAX, "{ended:?}");
    // What the kernel takes for a server that does not read, and the one that was cut.
    assert!(ended.unsent >= load.calls as u64 / 2, "{ended:?}");
    server.signal(Signal::CONT);
    let start = Instant::now();
    while let Err(failed) = client.add(2, 3).await {
        assert!(load.outlasts_patience, "{failed}");
        pause(Duration::from_millis(1)).await;
    }
    let first = start.elapsed();
    assert!(first < Duration::from_secs(2), "the first success took {first:?}");
    let ran = server.counters()["calls"] - before - 1;
    eprintln!("{ended:?}, the first success after {first:?}, {ran} ran");
    assert!(ran <= ended.sent + ended.unknown, "{ran} calls ran, {ended:?}");
}

fn on_a_shard_with(load: Load) {
    let _turn = turn();
    client(move || stopped_and_continued(load, |to, config| Channel::new(to, config).unwrap()));
}

fn from_a_thread_with(load: Load) {
    let _turn = turn();
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    block_on(stopped_and_continued(load, |to, config| thread.channel(to, config).unwrap()));
}

fn on_tokio_with(load: Load) {
    let _turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(stopped_and_continued(load, |to, config| {
        SharedChannel::on_tokio(to, config).unwrap()
    }));
}

fn blocking_with(load: Load) {
    let _turn = turn();
    block_on(stopped_and_continued(load, |to, config| blocking::Channel::new(to, config).unwrap()));
}

#[test]
fn on_a_shard() {
    on_a_shard_with(SOME);
}

#[test]
fn from_a_thread() {
    from_a_thread_with(SOME);
}

#[test]
fn on_tokio() {
    on_tokio_with(SOME);
}

#[test]
fn blocking() {
    blocking_with(SOME_BLOCKING);
}

/// `cargo test --release -p corewire --test stopped_server -- --ignored --nocapture` says what each kind of
/// channel held.
#[test]
#[ignore = "takes four minutes"]
fn a_minute_of_calls() {
    on_a_shard_with(A_MINUTE);
    from_a_thread_with(A_MINUTE);
    on_tokio_with(A_MINUTE);
    blocking_with(A_MINUTE_BLOCKING);
}
