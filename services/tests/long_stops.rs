//! Servers and clients that are stopped for up to two minutes, at default settings. It takes as long, so it is
//! run by hand:
//!
//! ```text
//! cargo test --release -p corewire --test long_stops -- --ignored --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "it prints a table")]

mod support;

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use corewire::{
    CallError, Channel, ChannelConfig, ClientShard, ClientThread, SharedChannel, Transport,
    blocking,
};
use futures_lite::future::{block_on, zip};
use rustix::process::Signal;
use support::child::{ServerChild, role, say, serve};
use support::service::{Habits, SubjectClient};
use support::{address, builder, client, count, end, pause, server_with, until};

/// Up to here nobody may be given up: less than a ping is answered in, even if a call that timed out asked for
/// one.
const BRIEF: u64 = 31;
/// Up to here nobody may be given up who is not doubted: a ping is sent after 54 to 60 s, and has 20 s.
const QUIET: u64 = 60;
const STOPS: [u64; 4] = [5, BRIEF, QUIET, 120];
const KINDS: [&str; 4] = ["shard", "thread", "tokio", "blocking"];
const PATIENT: Duration = Duration::from_secs(300);
const HURRIED: Duration = Duration::from_secs(5);

/// The children's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    let Some(role) = role() else { return };
    let Some((kind, to)) = role.split_once(' ') else { serve(builder(1)) };
    let to: SocketAddr = to.parse().unwrap();
    match kind {
        "shard" => client(move || be_stopped(shard(to))),
        "thread" => {
            let thread = ClientThread::start(ClientShard::default()).unwrap();
            block_on(be_stopped(thread.channel(to, ChannelConfig::default()).unwrap()));
        }
        "tokio" => runtime().block_on(async { be_stopped(tokio(to)).await }),
        _ => block_on(be_stopped(blocking(to))),
    }
}

async fn be_stopped<C: Transport>(channel: C) {
    let client = SubjectClient::new(channel).with_timeout(PATIENT);
    client.add(1, 2).await.unwrap();
    let outcome = client.gate(7).await;
    let after = client.add(1, 2).await;
    say("ended", &format!("{outcome:?} {after:?}"));
}

fn shard(to: SocketAddr) -> Channel {
    Channel::new(to, ChannelConfig::default()).unwrap()
}

fn tokio(to: SocketAddr) -> SharedChannel {
    SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap()
}

fn blocking(to: SocketAddr) -> blocking::Channel {
    blocking::Channel::new(to, ChannelConfig::default()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// How calls ended.
#[derive(Debug, Default)]
struct Ended {
    ok: u32,
    late: u32,
    unknown: u32,
    not_sent: u32,
    other: Vec<CallError>,
}

impl Ended {
    fn note<T>(&mut self, outcome: Result<T, CallError>) {
        match outcome {
            Ok(_) => self.ok += 1,
            Err(CallError::DeadlineExceeded { .. }) => self.late += 1,
            Err(CallError::Unknown(_)) => self.unknown += 1,
            Err(CallError::NotSent(_)) => self.not_sent += 1,
            Err(other) => self.other.push(other),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, late, unknown, not_sent, .. } = self;
        write!(f, "{ok} ok, {late} late, {unknown} unknown, {not_sent} not sent")
    }
}

/// Calls at a server that is stopped for `seconds`: one that waits for its outcome, and alongside it, if the
/// caller is hurried, others that do not.
async fn call_a_stopped_server<C: Transport + Clone>(
    what: String,
    seconds: u64,
    is_hurried: bool,
    connect: impl FnOnce(SocketAddr) -> C,
) {
    let mut server = ServerChild::start("child", "server");
    let channel = SubjectClient::new(connect(server.address()));
    let (patient, hurried) = (channel.clone().with_timeout(PATIENT), channel.with_timeout(HURRIED));
    patient.add(1, 2).await.unwrap();
    server.signal(Signal::STOP);
    let (begun, pid) = (Instant::now(), server.pid());
    let stop = Duration::from_secs(seconds);
    let waker = thread::spawn(move || {
        thread::sleep(stop);
        rustix::process::kill_process(pid, Signal::CONT).unwrap();
    });
    let (mut waited, mut others) = (Ended::default(), Ended::default());
    if is_hurried && what.contains("blocking") {
        hurry(&hurried, begun, stop, &mut others).await;
    } else if is_hurried {
        let wait = async { waited.note(patient.add(2, 2).await) };
        zip(wait, hurry(&hurried, begun, stop, &mut others)).await;
    } else {
        waited.note(patient.add(2, 2).await);
    }
    waker.join().unwrap();
    let first = loop {
        if hurried.add(1, 1).await.is_ok() {
            break begun.elapsed().saturating_sub(stop);
        }
        pause(Duration::from_millis(1)).await;
    };
    let counters = server.counters();
    let (faulted, accepted) = (counters["connections_faulted"], counters["connections_accepted"]);
    println!(
        "{what}: {waited}; hurried: {others}; first success {first:?} after; {accepted} connections, {faulted} faulted"
    );
    assert!(waited.other.is_empty() && others.other.is_empty(), "{what}: {waited:?} {others:?}");
    assert!(first < Duration::from_secs(10), "{what}: {first:?}");
    if seconds <= if is_hurried { BRIEF } else { QUIET } {
        assert_eq!((waited.unknown, waited.not_sent, others.unknown), (0, 0, 0), "{what}");
        assert_eq!((faulted, accepted), (0, 1), "{what}");
    }
}

async fn hurry<C: Transport + Clone>(
    client: &SubjectClient<C>,
    begun: Instant,
    stop: Duration,
    ended: &mut Ended,
) {
    while begun.elapsed() < stop {
        let before = Instant::now();
        let outcome = client.add(1, 1).await;
        let failed = outcome.is_err();
        ended.note(outcome);
        if failed && before.elapsed() < HURRIED / 10 {
            pause(HURRIED / 10).await;
        }
    }
}

fn stop_a_server(kind: &str, seconds: u64, is_hurried: bool) {
    let how = if is_hurried { "hurried" } else { "patient" };
    let what = format!("a server stopped for {seconds} s, {how} calls by {kind}");
    match kind {
        "shard" => client(move || call_a_stopped_server(what, seconds, is_hurried, shard)),
        "thread" => {
            let thread = ClientThread::start(ClientShard::default()).unwrap();
            let connect = |to| thread.channel(to, ChannelConfig::default()).unwrap();
            block_on(call_a_stopped_server(what, seconds, is_hurried, connect));
        }
        "tokio" => {
            runtime().block_on(call_a_stopped_server(what, seconds, is_hurried, tokio));
        }
        _ => block_on(call_a_stopped_server(what, seconds, is_hurried, blocking)),
    }
}

fn stop_a_client(kind: &str, seconds: u64) {
    let habits = Habits::default();
    let server = server_with(&habits);
    let mut child = ServerChild::start_silent("child", &format!("{kind} {}", address(&server)));
    until("the call is in flight", || habits.begun() == 1);
    child.signal(Signal::STOP);
    habits.open();
    thread::sleep(Duration::from_secs(seconds));
    child.signal(Signal::CONT);
    let ended = child.said("ended");
    let faulted = count(&server, |counters| counters.connections_faulted.value());
    let accepted = count(&server, |counters| counters.connections_accepted.value());
    println!(
        "a {kind} client stopped for {seconds} s:{ended}; {accepted} connections, {faulted} faulted"
    );
    assert_eq!(ended.trim(), "Ok(7) Ok(3)", "{kind}, {seconds} s");
    if seconds <= QUIET {
        assert_eq!((faulted, accepted), (0, 1), "{kind}, {seconds} s");
    }
    end(server);
}

#[test]
#[ignore = "takes two minutes"]
fn at_default_settings() {
    // LONG_STOPS=120 is that row alone.
    let only = std::env::var("LONG_STOPS").ok().map(|text| text.parse::<u64>().unwrap());
    thread::scope(|scope| {
        for seconds in STOPS.into_iter().filter(|seconds| only.is_none_or(|only| only == *seconds))
        {
            for kind in KINDS {
                scope.spawn(move || stop_a_server(kind, seconds, false));
                scope.spawn(move || stop_a_server(kind, seconds, true));
                scope.spawn(move || stop_a_client(kind, seconds));
            }
        }
    });
}
