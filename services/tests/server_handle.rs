//! The handle of a server on threads that drive connections, and the phases of a server's end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    ChannelConfig, Context, Placement, Running, Server, ServerBuilder, SharedChannel, StartError,
    Status, Streaming, drain_begun, is_draining, is_ready, spawn,
};
use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::child::{ServerChild, role, serve};
use support::{PATIENCE, address, builder, client, until};

/// Streams until it is told to end, or for ever.
#[corewire::service]
pub trait Feed {
    /// A stream that ends when the server drains, if `polite`.
    async fn watch(&self, context: &Context, polite: bool) -> Result<Streaming<u64>, Status>;
    /// Whether the server is ready, and whether it drains.
    async fn state(&self, context: &Context) -> Result<(bool, bool), Status>;
    /// Whether the server drains, for a task and for the handler, when both were told so.
    async fn drained(&self) -> Result<(bool, bool), Status>;
}

/// Counts the signs of a drain that handlers and tasks have seen.
#[derive(Clone, Default)]
struct Feeder(Arc<AtomicU64>);

impl Feed for Feeder {
    async fn watch(&self, context: &Context, polite: bool) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        let (begun, signs) = (context.drain_begun(), Arc::clone(&self.0));
        spawn(async move {
            if sender.send(1).await.is_ok() {
                match polite {
                    true => begun.await,
                    false => std::future::pending().await,
                }
                signs.fetch_add(1, Ordering::SeqCst);
            }
        })
        .detach();
        Ok(stream)
    }

    async fn state(&self, context: &Context) -> Result<(bool, bool), Status> {
        assert_eq!(context.is_draining(), is_draining());
        Ok((is_ready(), context.is_draining()))
    }

    async fn drained(&self) -> Result<(bool, bool), Status> {
        assert!(!is_draining());
        let task = spawn(async {
            drain_begun().await;
            is_draining()
        });
        self.0.fetch_add(1, Ordering::SeqCst);
        drain_begun().await;
        Ok((task.await, is_draining()))
    }
}

fn feeder(feeder: &Feeder) -> ServerBuilder {
    let feeder = feeder.clone();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| FeedServer::new(feeder.clone()))
}

/// The client's connection is a task of the very thread that drops the server.
#[test]
fn dropping_a_server_on_a_runtime_does_not_block_its_clients() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(drop_with_an_open_stream());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(drop_with_an_open_stream());
    runtime.block_on(async { tokio::spawn(drop_with_an_open_stream()).await.unwrap() });
}

async fn drop_with_an_open_stream() {
    let server = feeder(&Feeder::default()).start().unwrap();
    let channel = SharedChannel::on_tokio(address(&server), ChannelConfig::default()).unwrap();
    let mut stream = FeedClient::new(channel).watch(false).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), 1);
    assert_drop_is_short(server);
    drop(stream);
}

/// It waits for nothing, and its drain would last 25 s.
#[track_caller]
fn assert_drop_is_short(server: Running) {
    let begun = Instant::now();
    drop(server);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "the drop took {took:?}");
}

#[test]
fn dropping_a_server_on_a_shard_does_not_block_its_clients() {
    client(|| async {
        let server = feeder(&Feeder::default()).start().unwrap();
        let feed = FeedClient::connect(address(&server)).await.unwrap();
        let mut stream = feed.watch(false).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        assert_drop_is_short(server);
        drop(stream);
    });
}

#[test]
fn a_runtimes_thread_awaits_the_end_and_is_refused_to_wait_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = builder(1).start().unwrap();
        let refused = server.wait().unwrap_err();
        assert!(refused.to_string().contains("await ended()"), "{refused}");
        assert_eq!(format!("{refused:?}"), refused.to_string());
        let server = refused.into_running();
        let _ = TcpStream::connect(address(&server)).unwrap();
        server.stop();
        assert_eq!(server.ended().await.shards_lost, 0);
        assert!(matches!(builder(1).run(), Err(StartError::WouldBlock)));
    });
    let lost = client(|| async {
        let server = builder(1).start().unwrap().wait().unwrap_err().into_running();
        server.stop();
        server.ended().await.shards_lost
    });
    assert_eq!(lost, 0);
}

/// The drain would last an hour if the stream were not ended by its handler.
#[test]
fn an_endless_stream_ends_when_its_handler_sees_the_drain() {
    let seen = Feeder::default();
    let server = feeder(&seen).drain_within(Duration::from_secs(3600)).start().unwrap();
    let to = address(&server);
    let (sender, opened) = std::sync::mpsc::channel();
    let caller = std::thread::spawn(move || {
        client(move || async move {
            let mut stream = FeedClient::connect(to).await.unwrap().watch(true).await.unwrap();
            assert_eq!(stream.next().await.unwrap(), Ok(1));
            sender.send(()).unwrap();
            assert!(stream.next().await.is_none(), "it ends well");
        });
    });
    opened.recv().unwrap();
    support::end(server);
    caller.join().unwrap();
    assert_eq!(seen.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_handler_and_a_task_hear_of_the_drain() {
    let seen = Feeder::default();
    let server = feeder(&seen).start().unwrap();
    let to = address(&server);
    let caller = std::thread::spawn(move || {
        client(move || async move { FeedClient::connect(to).await.unwrap().drained().await })
    });
    until("the handler waits", || seen.0.load(Ordering::SeqCst) == 1);
    support::end(server);
    assert_eq!(caller.join().unwrap(), Ok((true, true)));
}

/// The child's `main`: a lame duck for this many milliseconds after a signal.
#[test]
fn a_child() {
    let Some(ms) = role() else { return };
    serve(feeder(&Feeder::default()).lame_duck(Duration::from_millis(ms.parse().unwrap())));
}

/// Calls until the server is not ready any more; it serves all the while, also new connections.
fn until_not_ready(to: SocketAddr) -> (bool, bool) {
    client(move || async move {
        loop {
            // The shard hears of it a moment later than others.
            let state = FeedClient::connect(to).await.unwrap().state().await.unwrap();
            if !state.0 {
                return state;
            }
        }
    })
}

#[test]
fn a_signal_makes_a_lame_duck_first() {
    let child = ServerChild::start("a_child", "3000");
    let (to, begun) = (child.address(), Instant::now());
    child.signal(Signal::TERM);
    assert_eq!(until_not_ready(to), (false, false), "not ready, and no drain yet");
    let status = child.end(PATIENCE).0;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(to).is_err());
}

#[test]
fn a_second_signal_ends_a_lame_duck() {
    let child = ServerChild::start("a_child", "3600000");
    child.signal(Signal::TERM);
    until_not_ready(child.address());
    child.signal(Signal::TERM);
    assert_eq!(child.end(PATIENCE).0.code(), Some(128 + Signal::TERM.as_raw()));
}

#[test]
fn a_lame_duck_is_not_ready_and_still_serves() {
    let server = feeder(&Feeder::default()).lame_duck(Duration::from_secs(2)).start().unwrap();
    let (to, readiness) = (address(&server), server.readiness());
    assert!(readiness.is_ready());
    server.stop();
    until("it is not ready", || !readiness.is_ready());
    assert_eq!(until_not_ready(to), (false, false), "not ready, and no drain yet");
    assert_eq!(server.wait().unwrap().shards_lost, 0);
    assert!(TcpStream::connect(to).is_err());
}

/// Elsewhere than on a server's shard nothing begins to drain.
#[test]
fn without_a_server_there_is_no_drain() {
    assert!(is_ready() && !is_draining());
    let first = client(|| async {
        let drain = async {
            drain_begun().await;
            "drain"
        };
        let other = async {
            corewire::sleep(Duration::from_millis(1)).await;
            "other"
        };
        futures_lite::future::or(drain, other).await
    });
    assert_eq!(first, "other");
}

#[test]
fn a_lost_shard_is_told_to_the_program() {
    let (sender, told) = std::sync::mpsc::channel();
    let habits = support::service::Habits::default();
    let stuck = habits.clone();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .drain_within(Duration::ZERO)
        .on_shard_lost(move |lost| sender.send(lost.clone()).unwrap())
        .service(move |_| {
            let target = support::service::Target::new(stuck.clone());
            support::service::SubjectServer::new(target)
        })
        .start()
        .unwrap();
    let mut peer = support::peer::Peer::polite(address(&server));
    peer.send(&support::peer::request(1, "block", b""));
    until("the handler has the thread", || habits.begun() == 1);
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 1);
    let lost = told.recv().unwrap();
    assert_eq!(lost.shard.id.0, 0);
    assert!(lost.reason.contains("drain deadline"), "{}", lost.reason);
    habits.unblock.store(true, Ordering::SeqCst);
}
