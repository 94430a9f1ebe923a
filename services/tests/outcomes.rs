//! Each way in which a call can fail, from each kind of channel: whether it is told as not sent, as
//! refused before it ran, as unknown, or as a status. `engine/client/src/failure.rs` has the table.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    CallError, Channel, ChannelConfig, ClientShard, ClientThread, NotSent, SharedChannel, Status,
    StatusCode, Transport, blocking,
};
use futures_lite::future::{block_on, poll_fn, yield_now};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use support::fake::{Fake, Manner, full_listener};
use support::service::SubjectClient;
use support::{PATIENCE, address, builder, until};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    Shard,
    Thread,
    Tokio,
    Blocking,
}

/// Each scenario in each shell.
macro_rules! table {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            use super::*;

            #[test]
            fn on_a_shard() {
                support::client(|| async {
                    let connect = |to: SocketAddr, config| Channel::new(to, config).unwrap();
                    super::$scenario(connect, Shell::Shard).await;
                });
            }
            #[test]
            fn from_a_thread() {
                let thread = ClientThread::start(ClientShard::default()).unwrap();
                let connect = |to: SocketAddr, config| thread.channel(to, config).unwrap();
                block_on(super::$scenario(connect, Shell::Thread));
            }
            #[test]
            fn on_tokio() {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(async {
                    let connect = |to: SocketAddr, config| {
                        SharedChannel::on_tokio(to, config).unwrap()
                    };
                    super::$scenario(connect, Shell::Tokio).await;
                });
            }
            #[test]
            fn blocking() {
                let connect = |to: SocketAddr, config| blocking::Channel::new(to, config).unwrap();
                block_on(super::$scenario(connect, Shell::Blocking));
            }
        }
    )* };
}

table! {
    nobody_listens a_connect_that_takes_too_long a_deadline_while_connecting no_hello
    a_connection_that_is_reset a_deadline_in_flight a_deadline_in_the_line a_full_line
    a_go_away_that_did_not_count_it a_go_away_that_counted_it_and_an_end a_refusal
    the_end_of_a_drain
}

/// A client, and nothing of the default deadline.
fn client<C: Transport>(channel: C) -> SubjectClient<C> {
    SubjectClient::new(channel).with_timeout(PATIENCE)
}

#[track_caller]
fn assert_not_connected(outcome: &Result<u32, CallError>) {
    let Err(error @ CallError::NotSent(NotSent::NoConnection(_))) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!error.may_have_run());
    assert_eq!(error.code(), StatusCode::Unavailable);
}

async fn nobody_listens<C: Transport>(connect: impl Fn(SocketAddr, ChannelConfig) -> C, _: Shell) {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = closed.local_addr().unwrap();
    drop(closed);
    let client = client(connect(to, ChannelConfig::default()));
    // The first tries, the second is told why there is no other try yet.
    for _ in 0..2 {
        assert_not_connected(&client.add(1, 2).await);
    }
}

async fn a_connect_that_takes_too_long<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let (listener, _first) = full_listener();
    let connect_timeout = Duration::from_millis(100);
    let config = ChannelConfig { connect_timeout, ..ChannelConfig::default() };
    let client = client(connect(listener.local_addr().unwrap(), config));
    assert_not_connected(&client.add(1, 2).await);
}

async fn a_deadline_while_connecting<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let (listener, _first) = full_listener();
    let to = listener.local_addr().unwrap();
    let hasty =
        client(connect(to, ChannelConfig::default())).with_timeout(Duration::from_millis(50));
    let outcome = hasty.add(1, 2).await;
    assert_eq!(outcome, Err(CallError::DeadlineExceeded { sent: false }));
}

/// Code on a shard sends behind its own hello, and then nobody knows; the others wait for the server's.
async fn no_hello<C: Transport>(connect: impl Fn(SocketAddr, ChannelConfig) -> C, shell: Shell) {
    let fake = Fake::start(Manner::Silent);
    let mut config =
        ChannelConfig { connect_timeout: Duration::from_millis(100), ..Default::default() };
    config.connection.timeouts.hello = Duration::from_millis(100);
    let outcome = client(connect(fake.address, config)).add(1, 2).await;
    match shell {
        Shell::Shard => {
            let error = outcome.unwrap_err();
            assert!(matches!(error, CallError::Unknown(_)) && error.may_have_run(), "{error:?}");
        }
        Shell::Thread | Shell::Tokio | Shell::Blocking => assert_not_connected(&outcome),
    }
}

async fn a_connection_that_is_reset<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let fake = Fake::start(Manner::Break);
    let client = client(connect(fake.address, ChannelConfig::default()));
    let error = client.add(1, 2).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.may_have_run(), "{error:?}");
    assert_eq!(error.code(), StatusCode::Unavailable);
}

async fn a_deadline_in_flight<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let fake = Fake::start(Manner::Hang);
    let hasty = client(connect(fake.address, ChannelConfig::default()));
    let error = hasty.with_timeout(Duration::from_millis(100)).add(1, 2).await.unwrap_err();
    assert_eq!(error, CallError::DeadlineExceeded { sent: true });
    assert!(error.may_have_run());
}

type Running<'a> = Vec<Pin<Box<dyn Future<Output = Result<u32, CallError>> + 'a>>>;

/// As many calls as the server takes, which answers none.
async fn fill<'a, C: Transport>(client: &'a SubjectClient<C>, fake: &Fake) -> Running<'a> {
    let mut running: Running<'a> = (0..16).map(|_| Box::pin(client.add(1, 2)) as _).collect();
    while fake.requests() < 16 {
        poll_all(&mut running).await;
        yield_now().await;
    }
    running
}

async fn poll_all(running: &mut Running<'_>) {
    poll_fn(|context| {
        for call in &mut *running {
            assert!(call.as_mut().poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
}

async fn a_deadline_in_the_line<C: Transport + Clone>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    shell: Shell,
) {
    if shell == Shell::Blocking {
        // It has no line: a call is over when its caller goes on.
        return;
    }
    let fake = Fake::start(Manner::Hang);
    let channel = connect(fake.address, ChannelConfig::default());
    let client = client(channel);
    let running = fill(&client, &fake).await;
    let hasty = client.clone().with_timeout(Duration::from_millis(100));
    assert_eq!(hasty.add(1, 2).await, Err(CallError::DeadlineExceeded { sent: false }));
    drop(running);
}

async fn a_full_line<C: Transport>(connect: impl Fn(SocketAddr, ChannelConfig) -> C, shell: Shell) {
    if shell == Shell::Blocking {
        return;
    }
    let fake = Fake::start(Manner::Hang);
    let config = ChannelConfig { waiting_max: 17, ..ChannelConfig::default() };
    let client = client(connect(fake.address, config));
    let running = fill(&client, &fake).await;
    let mut line: Running<'_> = (0..17).map(|_| Box::pin(client.add(1, 2)) as _).collect();
    poll_all(&mut line).await;
    let error = client.add(1, 2).await.unwrap_err();
    assert_eq!(error, CallError::NotSent(NotSent::QueueFull));
    assert_eq!((error.may_have_run(), error.code()), (false, StatusCode::ResourceExhausted));
    drop((running, line));
}

async fn a_go_away_that_did_not_count_it<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let fake = Fake::start(Manner::GoAway(0));
    let error =
        client(connect(fake.address, ChannelConfig::default())).add(1, 2).await.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)) && !error.may_have_run(), "{error:?}");
}

async fn a_go_away_that_counted_it_and_an_end<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let fake = Fake::start(Manner::GoAwayAndBreak(1));
    let error =
        client(connect(fake.address, ChannelConfig::default())).add(1, 2).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)) && error.may_have_run(), "{error:?}");
}

async fn a_refusal<C: Transport>(connect: impl Fn(SocketAddr, ChannelConfig) -> C, _: Shell) {
    let fake = Fake::start(Manner::Refuse);
    let error =
        client(connect(fake.address, ChannelConfig::default())).add(1, 2).await.unwrap_err();
    assert_eq!(error, CallError::Refused(Status::unavailable("not now")));
    assert!(!error.may_have_run());
}

/// A handler that is stopped is no silence: its caller gets a status.
async fn the_end_of_a_drain<C: Transport>(
    connect: impl Fn(SocketAddr, ChannelConfig) -> C,
    _: Shell,
) {
    let server = builder(1).drain_within(Duration::from_millis(100)).start().unwrap();
    let client = client(connect(address(&server), ChannelConfig::default()));
    let counters = server.shards()[0].counters.clone();
    let stopper = std::thread::spawn(move || {
        until("the handler runs", || counters.calls_parked.value() == 1);
        server.stop();
        assert_eq!(server.wait().unwrap().shards_lost, 0);
    });
    let error = client.never().await.unwrap_err();
    let CallError::Status(status) = &error else { panic!("{error:?}") };
    assert_eq!(status.code(), StatusCode::Unavailable);
    assert!(error.may_have_run());
    stopper.join().unwrap();
}
