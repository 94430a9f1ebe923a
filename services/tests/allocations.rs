//! Heap allocations of a small unary call in steady state, counted on each thread by the test's own
//! allocator.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, ChannelConfig, Placement, Running, Server, Status, spawn};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use support::service::pend_once;
use support::{address, client, end};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// How many of the next allocations are shown with where they come from.
    static SHOW: Cell<u32> = const { Cell::new(0) };
}

#[allow(clippy::print_stderr, reason = "where an allocation comes from goes to whoever looks")]
fn note() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let show = SHOW.try_with(|show| show.replace(0)).unwrap_or(0);
    if show > 0 {
        // Showing allocates, too; the count of what is left is set again behind it.
        eprintln!("an allocation in steady state:\n{}", Backtrace::force_capture());
        let _ = SHOW.try_with(|it| it.set(show - 1));
    }
}

// SAFETY: every method hands its arguments to the system's allocator unchanged, which keeps the
// contract of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System` with this layout, as `alloc` shows.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `memory` came from `System` with this layout, and the caller answers for `size`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// A service that knows what its thread allocates.
#[corewire::service]
pub trait Frugal {
    /// Gives raw bytes back.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    /// Adds.
    async fn add(&self, left: u32, right: u32) -> Result<u32, Status>;
    /// Pends once.
    async fn later(&self, number: u32) -> Result<u32, Status>;
    /// What the shard's thread has allocated so far; the next ones are shown if asked for.
    async fn allocations(&self, show: u32) -> Result<u64, Status>;
}

struct Thrift;

impl Frugal for Thrift {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn add(&self, left: u32, right: u32) -> Result<u32, Status> {
        Ok(left + right)
    }

    async fn later(&self, number: u32) -> Result<u32, Status> {
        pend_once().await;
        Ok(number)
    }

    async fn allocations(&self, show: u32) -> Result<u64, Status> {
        SHOW.with(|it| it.set(show));
        Ok(allocations())
    }
}

fn server() -> Running {
    let builder = Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1));
    builder.service(|_| FrugalServer::new(Thrift)).start().unwrap()
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Echo,
    Add,
    Later,
}

async fn call(client: &FrugalClient, kind: Kind, body: &Bytes, count: u32) {
    for number in 0..count {
        match kind {
            Kind::Echo => assert_eq!(client.echo(body.clone()).await.unwrap(), body),
            Kind::Add => assert_eq!(client.add(number, 1).await.unwrap(), number + 1),
            Kind::Later => assert_eq!(client.later(number).await.unwrap(), number),
        }
    }
}

/// Allocations of 10,000 calls, on the server's shard and on the client's.
fn measure(kind: Kind, connections: usize, in_flight: u32) -> (u64, u64, u64) {
    const CALLS: u32 = 10_000;
    let server = server();
    let to = address(&server);
    let counts = client(move || async move {
        let body = Bytes::from_static(&[7; 64]);
        let config = ChannelConfig::default();
        let mut clients = Vec::new();
        for _ in 0..connections {
            let channel = corewire::Channel::connect_with(to, config.clone()).await.unwrap();
            clients.push(FrugalClient::new(channel));
        }
        let callers = u32::try_from(connections).unwrap() * in_flight;
        let show = u32::from(std::env::var_os("SHOW_ALLOCATIONS").is_some());
        // Callers warm up, meet, and are counted between two meetings, so that the tasks that they
        // are in are not counted themselves.
        let before = std::rc::Rc::new(Cell::new((0, 0)));
        let start = std::rc::Rc::new(Cell::new(Instant::now()));
        let waiting = std::rc::Rc::new(Cell::new(callers));
        let mut tasks = Vec::new();
        for client in &clients {
            for _ in 0..in_flight {
                let (client, body) = (client.clone(), body.clone());
                let (before, waiting) = (before.clone(), waiting.clone());
                let start = start.clone();
                tasks.push(spawn(async move {
                    call(&client, kind, &body, 3_000).await;
                    waiting.set(waiting.get() - 1);
                    if waiting.get() == 0 {
                        let server = client.allocations(show).await.unwrap();
                        start.set(Instant::now());
                        before.set((server, allocations()));
                        SHOW.with(|it| it.set(show));
                    }
                    // The others go on calling until the last one is warm.
                    while before.get() == (0, 0) {
                        call(&client, kind, &body, 1).await;
                    }
                    call(&client, kind, &body, CALLS / callers).await;
                    // The first to finish counts: nobody has ended yet, and all still call.
                    let after = client.allocations(0).await.unwrap();
                    (after, allocations())
                }));
            }
        }
        let mut first = (u64::MAX, u64::MAX);
        for task in tasks {
            let (server, client) = task.await;
            first = (first.0.min(server), first.1.min(client));
        }
        let before = before.get();
        let ms = u64::try_from(start.get().elapsed().as_millis()).unwrap();
        (first.0 - before.0, first.1 - before.1, ms)
    });
    end(server);
    counts
}

/// The calls of one test at a time, because the allowance below depends on how long they take.
static TURN: Mutex<()> = Mutex::new(());

/// Asserts how many allocations 10,000 calls make at most, in addition to those of glommio's reactor: the
/// driver lets it look at its rings once in a millisecond, whatever is called meanwhile, and three to six
/// allocations a millisecond were seen. One allocation per call would be 10,000 more than those three, which the
/// allowance must stay below; on a machine that is busy otherwise it may not, and the calls are made again.
#[track_caller]
#[allow(clippy::print_stderr, reason = "the figures are what is asked for")]
fn assert_frugal(kind: Kind, connections: usize, in_flight: u32, server_max: u64, client_max: u64) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..5 {
        let (server, client, ms) = measure(kind, connections, in_flight);
        eprintln!(
            "{kind:?}, {connections} connections × {in_flight} in flight, 10,000 calls in {ms} ms: server {server}, client {client} allocations"
        );
        let reactor = 8 * ms + 100;
        if reactor - 3 * ms < 9_000 {
            assert!(
                server <= server_max + reactor,
                "the server allocates {server} times in {ms} ms"
            );
            assert!(
                client <= client_max + reactor,
                "the client allocates {client} times in {ms} ms"
            );
            return;
        }
    }
    panic!("too busy a machine to tell calls from the reactor");
}

#[test]
fn a_raw_call_at_a_time() {
    assert_frugal(Kind::Echo, 1, 1, 0, 0);
}

#[test]
fn a_speedy_call_at_a_time() {
    assert_frugal(Kind::Add, 1, 1, 0, 0);
}

#[test]
fn raw_calls_on_one_connection() {
    assert_frugal(Kind::Echo, 1, 50, 0, 0);
}

// On many connections a client's bodies outlive the turn that received them, and each such turn
// needs a piece of a buffer of its own: less than one allocation in four calls.

#[test]
fn speedy_calls_on_many_connections() {
    assert_frugal(Kind::Add, 16, 5, 0, 2_500);
}

#[test]
fn raw_calls_on_many_connections() {
    assert_frugal(Kind::Echo, 16, 5, 0, 2_500);
}

// Wakers of handlers that pend are used again, like the memory that the handlers are in.

#[test]
fn a_call_that_pends_once_at_a_time() {
    assert_frugal(Kind::Later, 1, 1, 0, 0);
}

#[test]
fn calls_that_pend_once_on_many_connections() {
    assert_frugal(Kind::Later, 8, 10, 0, 2_500);
}
