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
use support::{PATIENCE, builder, client};

/// Calls in all, and how many are made at once. A blocking channel makes them one after the other.
const CALLS: usize = 96;
const CALLS_BLOCKING: usize = 24;
const AT_ONCE: usize = 8;
const BODY: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_millis(100);

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

async fn call_in_vain<C: Transport + Clone>(client: &SubjectClient<C>, count: usize) -> Ended {
    let client = client.clone().with_timeout(TIMEOUT);
    let (before, mut ended) = (rss(), Ended::default());
    for _ in 0..count / AT_ONCE {
        let call = || -> Boxed<'_> { Box::pin(client.echo(Bytes::from(vec![7; BODY]))) };
        let outcomes = all((0..AT_ONCE).map(|_| call()).collect()).await;
        ended.grown = ended.grown.max(rss().saturating_sub(before));
        for outcome in outcomes {
            match outcome.unwrap_err() {
                CallError::DeadlineExceeded { sent: true } => ended.sent += 1,
                CallError::DeadlineExceeded { sent: false } => ended.unsent += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    ended
}

async fn stopped_and_continued<C: Transport + Clone>(
    count: usize,
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
) {
    let mut server = ServerChild::start("child", "stopped");
    let channel = connect(server.address(), ChannelConfig::default());
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    assert_eq!(client.add(1, 2).await, Ok(3));
    let before = server.counters()["calls"];
    server.signal(Signal::STOP);
    let ended = call_in_vain(&client, count).await;
    eprintln!("{ended:?}");
    assert!(ended.grown <= GROWTH_MAX, "{ended:?}");
    // What the kernel takes for a server that does not read, and the one that was cut.
    assert!(ended.unsent >= count as u64 / 2, "{ended:?}");
    server.signal(Signal::CONT);
    let start = Instant::now();
    assert_eq!(client.add(2, 3).await, Ok(5));
    let first = start.elapsed();
    assert!(first < Duration::from_secs(2), "the first success took {first:?}");
    let ran = server.counters()["calls"] - before - 1;
    assert!(ran <= ended.sent, "{ran} calls ran, {ended:?}");
}

#[test]
fn on_a_shard() {
    let _turn = turn();
    client(|| stopped_and_continued(CALLS, |to, config| Channel::new(to, config).unwrap()));
}

#[test]
fn from_a_thread() {
    let _turn = turn();
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    block_on(stopped_and_continued(CALLS, |to, config| thread.channel(to, config).unwrap()));
}

#[test]
fn on_tokio() {
    let _turn = turn();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(stopped_and_continued(CALLS, |to, config| {
        SharedChannel::on_tokio(to, config).unwrap()
    }));
}

#[test]
fn blocking() {
    let _turn = turn();
    block_on(stopped_and_continued(CALLS_BLOCKING, |to, config| {
        blocking::Channel::new(to, config).unwrap()
    }));
}
