//! One table of scenarios for every kind of channel, over TCP and over Unix sockets: what a caller
//! sees must not depend on who drives the connection.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Address, Bytes, CallError, ChannelConfig, ClientShard, ClientThread, Limits, NotSent,
    Placement, Server, SharedChannel, StartError, StatusCode, Transport, blocking,
};
use futures_lite::future::{block_on, or, poll_fn, yield_now};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::shells::{Family, Shell, World, eventually, serve};
use support::streams::Seen;
use support::{PATIENCE, end, until};

table! {
    SubjectClient, Limits::default() =>
    a_large_first_call values statuses deadlines a_dropped_call a_server_that_is_gone
    the_end_of_a_drain a_server_that_drains a_server_that_comes_back a_thousand_calls_at_once
    ways_to_wait one_way_calls
}

/// All outcomes, of futures that run at once.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, output) in running.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

async fn values<C: Transport>(client: SubjectClient<C>, world: World) {
    assert_eq!(client.add(1, 2).await, Ok(3));
    for bytes in [0, 1, 4095, 4096, 65_536, 131_073, 8 << 20] {
        let body = Bytes::from((0..bytes).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
        assert!(client.echo(body.clone()).await.unwrap() == body, "{bytes} bytes");
    }
    let large = Bytes::from_static(&[0; 17 << 20]);
    let outcome = client.echo(large).await;
    assert!(matches!(outcome, Err(CallError::NotSent(NotSent::TooLarge(_)))), "{outcome:?}");
    let (peer, shard, ..) = client.who().await.unwrap();
    assert_eq!(peer == "unix", world.family == Family::Unix, "{peer}");
    assert_eq!(shard, 0);
}

async fn statuses<C: Transport>(client: SubjectClient<C>, _world: World) {
    for code in StatusCode::ALL.into_iter().skip(1) {
        let outcome = client.fail(code as u8).await;
        let Err(CallError::Status(status)) = outcome else {
            panic!("{code} was to come, not {outcome:?}");
        };
        assert_eq!((status.code(), status.message()), (code, "as the test wants"));
        assert_eq!(&status.details()[..], b"details");
        assert_eq!(status.retry_after(), Some(Duration::from_millis(1234)));
    }
    let panicked = client.panic(0).await.unwrap_err();
    assert_eq!((panicked.code(), panicked.may_have_run()), (StatusCode::Internal, true));
}

async fn deadlines<C: Transport + Clone>(client: SubjectClient<C>, world: World) {
    client.add(1, 1).await.unwrap();
    let start = Instant::now();
    let outcome = client.clone().with_timeout(Duration::from_millis(50)).never().await;
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // The server may tell first that the time is over.
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
    assert!(error.may_have_run());
    assert_eq!(client.add(1, 1).await, Ok(2), "the connection goes on");
    let habits = world.habits.clone();
    eventually("the handler is dropped", || habits.ended() == 1).await;
}

async fn a_dropped_call<C: Transport>(client: SubjectClient<C>, world: World) {
    if world.shell == Shell::Blocking {
        // Its calls are over when anybody could drop them; one that was not polled was not made.
        drop(client.never());
        assert_eq!(client.add(1, 1).await, Ok(2));
        assert_eq!(world.habits.begun(), 0);
        return;
    }
    let habits = world.habits.clone();
    let begun = eventually("the handler runs", || habits.begun() == 1);
    let call = client.never();
    or(async { drop(call.await) }, begun).await;
    let habits = world.habits.clone();
    eventually("the handler is dropped", || habits.ended() == 1).await;
    assert_eq!(client.add(1, 1).await, Ok(2), "the connection goes on");
}

/// What was written is handled in order, and before the call that follows; a server that is gone shows.
async fn one_way_calls<C: Transport>(client: SubjectClient<C>, mut world: World) {
    for _ in 0..2000 {
        client.touch(2).await.unwrap();
    }
    assert_eq!(client.add(1, 2).await, Ok(3));
    assert_eq!(world.habits.touched.load(Ordering::SeqCst), 4000);
    let large = client.touch_all(Bytes::from_static(&[0; 17 << 20])).await;
    assert!(matches!(large, Err(CallError::NotSent(NotSent::TooLarge(_)))), "{large:?}");
    world.stop();
    // What is written before this side has heard of the end is lost without a word.
    let start = Instant::now();
    let error = loop {
        match client.touch(1).await {
            Ok(()) => yield_now().await,
            Err(error) => break error,
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!(error.code(), StatusCode::Unavailable, "{error}");
}

async fn a_server_that_is_gone<C: Transport>(client: SubjectClient<C>, mut world: World) {
    assert_eq!(client.add(1, 2).await, Ok(3));
    world.stop();
    let start = Instant::now();
    for _ in 0..20 {
        let error = client.add(1, 2).await.unwrap_err();
        assert!(!error.may_have_run(), "{error}");
        assert_eq!(error.code(), StatusCode::Unavailable, "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "back-off is no wait for callers");
    if let Some(path) = world.address.path() {
        assert!(!path.exists(), "the socket's file is removed");
    }
}

/// REQ-76: the drain's end stops the handler, and its caller is told.
async fn the_end_of_a_drain<C: Transport>(client: SubjectClient<C>, mut world: World) {
    assert_eq!(client.add(1, 2).await, Ok(3));
    let server = world.server.take().unwrap();
    let habits = world.habits.clone();
    let stopper = std::thread::spawn(move || {
        until("the handler runs", || habits.begun() == 1);
        server.stop();
        let _ = server.wait().unwrap();
    });
    let error = client.with_timeout(PATIENCE).never().await.unwrap_err();
    assert!(error.may_have_run(), "{error}");
    assert!(matches!(&error, CallError::Status(_)), "{error:?}");
    assert_eq!(error.code(), StatusCode::Unavailable);
    stopper.join().unwrap();
}

/// REQ-77: while a server finishes what it took, new calls go to the one that took its place.
async fn a_server_that_drains<C: Transport>(client: SubjectClient<C>, mut world: World) {
    world.stop();
    let first = world.serve_until(PATIENCE);
    let client = client.with_timeout(PATIENCE);
    eventually_answers(&client).await;
    let alone = world.shell == Shell::Blocking;
    let mut held = Box::pin(client.gate(7));
    if !alone {
        let habits = world.habits.clone();
        poll_fn(|context| {
            assert!(held.as_mut().poll(context).is_pending());
            context.waker().wake_by_ref();
            if habits.at_gate() == 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    first.stop();
    let second = Habits::default();
    world.server = Some(world.serve_when_free(&second));
    eventually_answers(&client).await;
    client.touch(5).await.unwrap();
    eventually("the second server has it", || second.touched.load(Ordering::SeqCst) == 5).await;
    world.habits.open();
    if alone {
        // It is made when it is awaited.
        second.open();
    }
    assert_eq!(held.await, Ok(7), "the first server answers what it took");
    assert_eq!(first.ended().await.shards_lost, 0);
    assert_eq!(client.add(1, 2).await, Ok(3));
}

/// Makes calls until one is answered; the others have not run.
async fn eventually_answers<C: Transport>(client: &SubjectClient<C>) {
    let start = Instant::now();
    while let Err(error) = client.add(1, 2).await {
        assert!(!error.may_have_run(), "{error}");
        assert!(start.elapsed() < PATIENCE);
        yield_now().await;
    }
}

/// REQ-7: only the server's hello says whether it takes a large request, and the first call awaits it.
async fn a_large_first_call<C: Transport>(client: SubjectClient<C>, _world: World) {
    let body = Bytes::from(vec![7; 5 << 20]);
    assert!(client.echo(body.clone()).await.unwrap() == body);
}

async fn a_server_that_comes_back<C: Transport>(client: SubjectClient<C>, mut world: World) {
    assert_eq!(client.add(1, 2).await, Ok(3));
    world.stop();
    assert!(!client.add(1, 2).await.unwrap_err().may_have_run());
    world.server = Some(world.serve_again());
    let start = Instant::now();
    loop {
        match client.add(1, 2).await {
            Ok(sum) => break assert_eq!(sum, 3),
            Err(error) => assert!(!error.may_have_run(), "{error}"),
        }
        assert!(start.elapsed() < PATIENCE);
        yield_now().await;
    }
}

async fn a_thousand_calls_at_once<C: Transport>(client: SubjectClient<C>, _world: World) {
    client.add(0, 0).await.unwrap();
    let outcomes = all((0..1000).map(|n| client.later(n))).await;
    let wanted: Vec<Result<u32, CallError>> = (0..1000).map(Ok).collect();
    assert_eq!(outcomes, wanted);
}

async fn ways_to_wait<C: Transport>(client: SubjectClient<C>, world: World) {
    match client.add(1, 2).wait() {
        Ok(3) => assert!(matches!(world.shell, Shell::Thread | Shell::Blocking)),
        outcome => {
            assert!(matches!(world.shell, Shell::Shard | Shell::Tokio), "{outcome:?}");
            let error = outcome.unwrap_err();
            assert_eq!(error, CallError::NotSent(NotSent::WouldBlock));
            assert_eq!(error.code(), StatusCode::FailedPrecondition);
        }
    }
    let (done, results) = mpsc::channel();
    let also_done = done.clone();
    client.add(3, 4).then(move |result| done.send(result.unwrap()).unwrap());
    client.add(u32::MAX, 1).then(move |result| {
        assert_eq!(result.unwrap_err().code(), StatusCode::OutOfRange);
        also_done.send(0).unwrap();
    });
    let mut seen = Vec::new();
    eventually("both callbacks are called", || {
        seen.extend(results.try_iter());
        seen.len() == 2
    })
    .await;
    seen.sort_unstable();
    assert_eq!(seen, [0, 7]);
    assert!(results.recv().is_err(), "callbacks are called once, and dropped");
}

/// A thousand calls at once, by callbacks and by threads that block, over one handle.
#[test]
fn many_threads_share_one_channel() {
    let world = World::new(Shell::Thread, Family::Tcp, Limits::default());
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = thread.channel(&world.address, ChannelConfig::default()).unwrap();
    drop(thread);
    let client = SubjectClient::new(channel);
    std::thread::scope(|scope| {
        for caller in 0..10 {
            let client = client.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    assert_eq!(client.add(caller, n).wait(), Ok(caller + n));
                }
            });
        }
    });
    let (done, results) = mpsc::channel();
    for n in 0..1000 {
        let done = done.clone();
        client.later(n).then(move |result| done.send(result.unwrap()).unwrap());
    }
    // The handle goes; calls that were begun are carried to their end all the same.
    drop((client, done));
    let mut numbers: Vec<u32> = results.iter().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

/// Over the bound a call fails at once, is not sent, and nothing grows.
#[test]
fn a_queue_that_is_full_says_so() {
    const BOUND: usize = 4;
    const CALLS: usize = 100;
    let habits = Habits::default();
    let limits = Limits { in_flight: corewire::codec::InFlight::MIN, ..Limits::default() };
    let shared = habits.clone();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .limits(limits)
        .service(move |_| SubjectServer::new(Target::new(shared.clone())))
        .start()
        .unwrap();
    let to = server.addresses()[0].clone();
    let config = ChannelConfig { waiting_max: BOUND, ..ChannelConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let guard = runtime.enter();
    let on_tokio = SharedChannel::on_tokio(&to, config.clone()).unwrap();
    drop(guard);
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let on_thread = thread.channel(&to, config).unwrap();
    for channel in [on_tokio, on_thread] {
        let client = SubjectClient::new(channel);
        client.add(0, 0).wait().unwrap();
        let in_flight = limits.in_flight.get() as usize;
        let (done, results) = mpsc::channel();
        let call = || {
            let done = done.clone();
            client.gate(1).then(move |result| done.send(result).unwrap());
        };
        (0..in_flight).for_each(|_| call());
        until("the server's slots are taken", || habits.at_gate() == in_flight);
        (0..CALLS).for_each(|_| call());
        for _ in 0..CALLS - BOUND {
            let error = results.recv_timeout(PATIENCE).unwrap().unwrap_err();
            assert_eq!(error, CallError::NotSent(NotSent::QueueFull));
            assert_eq!(error.code(), StatusCode::ResourceExhausted);
        }
        habits.open();
        drop(done);
        assert_eq!(results.iter().filter(Result::is_ok).count(), in_flight + BOUND);
        habits.shut();
    }
    end(server);
}

/// A driver that takes nothing does not make its queue grow.
#[test]
fn a_queue_whose_driver_is_stuck_is_bounded() {
    let world = World::new(Shell::Thread, Family::Tcp, Limits::default());
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = thread.channel(&world.address, ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel);
    let (stuck, is_stuck) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    client.add(1, 1).then(move |_| {
        stuck.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    is_stuck.recv_timeout(PATIENCE).unwrap();
    let (done, results) = mpsc::channel();
    let mut queued = 0;
    let error = loop {
        let done = done.clone();
        client.add(queued, 1).then(move |result| done.send(result).unwrap());
        match results.try_recv() {
            Ok(result) => break result.unwrap_err(),
            Err(_) => queued += 1,
        }
        assert!(queued < 1_000_000, "the queue has no bound");
    };
    assert_eq!(error, CallError::NotSent(NotSent::QueueFull));
    go_on.send(()).unwrap();
    drop(done);
    assert_eq!(results.iter().filter(Result::is_ok).count(), queued as usize);
}

/// A socket file that nobody listens on is replaced; one that somebody listens on is not.
#[test]
fn stale_socket_files_are_replaced_and_live_ones_kept() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a socket's file outlives it");
    let address = Address::Unix(path.clone());
    let habits = Habits::default();
    let server = serve(&address, Limits::default(), &habits, &Seen::default());
    let second = Server::builder()
        .address(&address)
        .placement(Placement::Unpinned(1))
        .service(|_| SubjectServer::new(Target::default()))
        .start();
    assert!(matches!(second, Err(StartError::AddressInUse { .. })), "{second:?}");
    let client = SubjectClient::new(blocking::Channel::connect(&address).unwrap());
    assert_eq!(client.add(1, 2).wait(), Ok(3));
    end(server);
    assert!(!path.exists());
    std::fs::write(&path, "no socket").unwrap();
    let third = Server::builder()
        .address(&address)
        .placement(Placement::Unpinned(1))
        .service(|_| SubjectServer::new(Target::default()))
        .start();
    assert!(matches!(third, Err(StartError::Listen { .. })), "{third:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no socket");
}

/// Every shard takes clients of the one listener, and a drain of all of them loses nobody.
#[test]
fn shards_share_a_unix_socket() {
    let files = tempfile::tempdir().unwrap();
    let address = Address::Unix(files.path().join("shared.sock"));
    let server = Server::builder()
        .address(&address)
        .placement(Placement::Unpinned(3))
        .service(|_| SubjectServer::new(Target::default()))
        .start()
        .unwrap();
    let clients: Vec<_> = (0..64)
        .map(|_| SubjectClient::new(blocking::Channel::connect(&address).unwrap()))
        .collect();
    for client in &clients {
        assert_eq!(client.add(1, 2).wait(), Ok(3));
    }
    end(server);
    for client in &clients {
        assert!(!client.add(1, 2).wait().unwrap_err().may_have_run());
    }
}

/// An argument whose encoding panics.
#[derive(Debug)]
struct Bomb;

impl<C: speedy::Context> speedy::Writable<C> for Bomb {
    fn write_to<W: ?Sized + speedy::Writer<C>>(&self, _: &mut W) -> Result<(), C::Error> {
        panic!("an argument panics, as the test wants")
    }
}

impl<'a, C: speedy::Context> speedy::Readable<'a, C> for Bomb {
    fn read_from<R: speedy::Reader<'a, C>>(_: &mut R) -> Result<Self, C::Error> {
        Ok(Self)
    }
}

/// The subject's `add`, called with what cannot be encoded.
#[corewire::service(name = "Subject")]
trait Bombed {
    /// Panics in the caller.
    async fn add(&self, bomb: Bomb) -> Result<u32, corewire::Status>;
}

/// A panic of the caller's own code is the caller's, and leaves the connection as it was.
#[test]
fn an_argument_that_panics_harms_its_caller_only() {
    fn survives<C: Transport + Clone>(channel: C) {
        let bombed = BombedClient::new(channel.clone());
        let client = SubjectClient::new(channel);
        assert_eq!(client.add(1, 2).wait(), Ok(3));
        for _ in 0..3 {
            let call = std::panic::AssertUnwindSafe(|| bombed.add(Bomb).wait());
            assert!(std::panic::catch_unwind(call).is_err());
            assert_eq!(client.add(1, 2).wait(), Ok(3));
        }
    }
    let world = World::new(Shell::Thread, Family::Tcp, Limits::default());
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    survives(thread.channel(&world.address, ChannelConfig::default()).unwrap());
    survives(blocking::Channel::connect(&world.address).unwrap());
}

/// The client for any thread goes where it says: it, its calls and their callbacks are `Send`.
#[test]
fn the_shared_client_and_its_calls_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new(Shell::Thread, Family::Tcp, Limits::default());
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = thread.channel(&world.address, ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel);
    is_send(&client);
    let call = client.add(1, 2);
    is_send(&call);
    let answer = std::thread::spawn(move || block_on(call)).join().unwrap();
    assert_eq!(answer, Ok(3));
}
