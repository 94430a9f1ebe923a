//! A call through three servers: what its caller says reaches the last, and so does its end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    CallOptions, Channel, ChannelConfig, Context, Placement, Running, Server, Status, StatusCode,
    TraceContext, spawn,
};
use futures_lite::future::yield_now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{address, client, count, end, until};

/// Passes on what it is asked, to the next of its kind.
#[corewire::service]
pub trait Hop {
    /// What the last in the chain knows: µs left, priority, trace.
    async fn look(&self, context: &Context) -> Result<Look, Status>;
    /// Never answers; the last in the chain waits for ever.
    async fn hang(&self, context: &Context) -> Result<(), Status>;
    /// As `hang`, but each hop gives its own call an hour.
    async fn hang_long(&self, context: &Context) -> Result<(), Status>;
}

/// For each hop, the last first: µs left, priority, trace.
pub type Look = Vec<(Option<u64>, u8, Option<String>)>;

/// Handlers that began and that were dropped, at one server.
#[derive(Clone, Debug, Default)]
struct Seen {
    begun: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
}

struct Guard(Seen);

impl Seen {
    fn guard(&self) -> Guard {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }

    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::SeqCst), self.dropped.load(Ordering::SeqCst))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

struct Node {
    next: Option<HopClient>,
    seen: Seen,
}

impl Hop for Node {
    async fn look(&self, context: &Context) -> Result<Look, Status> {
        let left = context.remaining().map(|left| u64::try_from(left.as_micros()).unwrap());
        let trace = context.trace().map(|trace| trace.to_string());
        let mut look = match &self.next {
            Some(next) => next.in_context(context).look().await?,
            None => Look::new(),
        };
        look.push((left, context.priority(), trace));
        Ok(look)
    }

    async fn hang(&self, context: &Context) -> Result<(), Status> {
        let _guard = self.seen.guard();
        match &self.next {
            Some(next) => Ok(next.in_context(context).hang().await?),
            None => std::future::pending().await,
        }
    }

    async fn hang_long(&self, context: &Context) -> Result<(), Status> {
        let _guard = self.seen.guard();
        let hour = CallOptions::new().timeout(Duration::from_secs(3600));
        match &self.next {
            Some(next) => Ok(next.with(hour).in_context(context).hang_long().await?),
            None => std::future::pending().await,
        }
    }
}

/// Three servers of one shard each; the first is called.
struct Chain {
    servers: Vec<Running>,
    seen: Vec<Seen>,
    first: SocketAddr,
}

impl Chain {
    fn start() -> Self {
        let (mut servers, mut seen) = (Vec::new(), Vec::new());
        let mut next: Option<SocketAddr> = None;
        for _ in 0..3 {
            let (to, here) = (next, Seen::default());
            let make = here.clone();
            let server = Server::builder()
                .address("127.0.0.1:0")
                .placement(Placement::Unpinned(1))
                .service(move |_| {
                    let connect = |to| Channel::new(to, ChannelConfig::default()).unwrap();
                    let next = to.map(|to: SocketAddr| HopClient::new(connect(to)));
                    HopServer::new(Node { next, seen: make.clone() })
                })
                .start()
                .unwrap();
            next = Some(address(&server));
            servers.insert(0, server);
            seen.insert(0, here);
        }
        Self { servers, seen, first: next.unwrap() }
    }

    /// Waits until every handler that began was dropped, `calls` on each server.
    #[track_caller]
    fn until_dropped(&self, calls: u64) {
        until("all handlers are dropped", || {
            self.seen.iter().all(|seen| seen.counts() == (calls, calls))
        });
        // A handler is counted after it was dropped.
        until("all of them are counted", || {
            self.servers.iter().all(|it| count(it, |it| it.calls_dropped.value()) == calls)
        });
    }

    fn end(self) {
        self.servers.into_iter().for_each(end);
    }
}

#[test]
fn time_priority_and_trace_are_inherited() {
    let chain = Chain::start();
    let to = chain.first;
    let trace: TraceContext =
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    client(move || async move {
        let first = HopClient::connect(to).await.unwrap();
        let options = CallOptions::new().timeout(Duration::from_secs(7)).priority(5).trace(trace);
        let look = first.with(options).look().await.unwrap();
        let left: Vec<_> = look.iter().map(|hop| hop.0.unwrap()).collect();
        // Each hop passes on what is left, and not its own default of ten seconds.
        assert!(left.is_sorted() && left.iter().all(|us| (1..=7_000_000).contains(us)), "{left:?}");
        assert!(look.iter().all(|hop| hop.1 == 5));
        let traces: Vec<TraceContext> =
            look.iter().map(|hop| hop.2.as_ref().unwrap().parse().unwrap()).collect();
        assert!(traces.iter().all(|it| it.trace_id == trace.trace_id && it.flags == 1));
        assert_eq!(traces[2], trace, "the first hop sees its caller's span");
        assert!(traces[0].span_id != traces[1].span_id && traces[1].span_id != trace.span_id);
        // A caller that sets no options passes on only the defaults.
        let look = first.look().await.unwrap();
        assert!(look.iter().all(|hop| hop.1 == 3 && hop.2.is_none()));
    });
    chain.end();
}

#[test]
fn a_client_that_loses_interest_stops_the_third_server() {
    let chain = Chain::start();
    let (to, last) = (chain.first, chain.seen[2].clone());
    client(move || async move {
        let first = HopClient::connect(to).await.unwrap();
        let hanging = first.clone();
        let call = spawn(async move { hanging.hang().await });
        let start = Instant::now();
        while last.counts().0 == 0 {
            assert!(start.elapsed() < support::PATIENCE);
            corewire::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(last.counts(), (1, 0), "it runs");
        let asked = Instant::now();
        first.look().await.unwrap();
        let round_trip = asked.elapsed();
        let dropped = Instant::now();
        drop(call);
        // The connection stays, so that the cancel is what ends the call.
        while last.counts() != (1, 1) {
            assert!(start.elapsed() < support::PATIENCE);
            yield_now().await;
        }
        let took = dropped.elapsed();
        eprintln!(
            "the third hop stopped after {took:?}; a call through all three takes {round_trip:?}"
        );
    });
    chain.until_dropped(1);
    chain.end();
}

#[test]
fn a_deadline_ends_all_three_hops() {
    let chain = Chain::start();
    let to = chain.first;
    client(move || async move {
        let first = HopClient::connect(to).await.unwrap();
        // The hops connect to one another when they are first called.
        first.look().await.unwrap();
        let hasty = first.with(CallOptions::new().timeout(Duration::from_millis(200)));
        let start = Instant::now();
        let failed = hasty.hang_long().await.unwrap_err();
        assert_eq!(failed.code(), StatusCode::DeadlineExceeded);
        assert!(start.elapsed() >= Duration::from_millis(200));
    });
    chain.until_dropped(1);
    chain.end();
}
