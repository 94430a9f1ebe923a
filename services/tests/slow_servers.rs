//! Clients of servers that are slow, over every kind of channel: slow to take what is sent, to say hello, or to
//! say anything at all. Deadlines and timeouts are kept whatever the thread that drives the connection is
//! just doing, and a server is not dialled more often because its callers are hasty.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Address, Bytes, CallError, ChannelConfig, NotSent, StatusCode, Transport, blocking,
};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use support::child::{ServerChild, role, serve};
use support::fake::{Fake, Manner};
use support::service::SubjectClient;
use support::shells::{Family, Shell};
use support::slow::{Pace, Slow};
use support::{PATIENCE, builder};

each_shell! {
    a_deadline_while_it_writes a_one_way_deadline_while_it_writes a_write_timeout
    a_call_behind_one_that_was_given_up a_server_that_was_stopped
    hasty_calls_before_the_hello a_server_that_hangs_up
}

/// More than the kernel takes for a connection.
const LARGE: usize = 12 << 20;

/// What 64 KiB take, so that a large body takes ten seconds.
const PAUSE: Duration = Duration::from_millis(50);

const HASTY: Duration = Duration::from_millis(300);

/// Within this a hasty call has ended, on a machine that is busy.
const SOON: Duration = Duration::from_secs(3);

fn large() -> Bytes {
    Bytes::from(vec![7; LARGE])
}

/// The child's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    if role().is_some() {
        serve(builder(1))
    }
}

async fn a_deadline_while_it_writes<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    shell: Shell,
) {
    for family in [Family::Tcp, Family::Unix] {
        let server = Slow::start(family, Pace::Slow(PAUSE));
        let channel = connect(server.address.clone(), ChannelConfig::default());
        let client = SubjectClient::new(channel).with_timeout(HASTY);
        let start = Instant::now();
        let error = client.echo(large()).await.unwrap_err();
        assert_eq!(error, CallError::DeadlineExceeded { sent: true }, "{family:?}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        // The rest of it is in the way of the next.
        let start = Instant::now();
        let error = client.add(1, 2).await.unwrap_err();
        assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        if shell == Shell::Blocking {
            assert!(!error.may_have_run(), "nothing of it was written");
        }
        assert_eq!(server.connections(), 1);
    }
}

async fn a_one_way_deadline_while_it_writes<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    shell: Shell,
) {
    for family in [Family::Tcp, Family::Unix] {
        let server = Slow::start(family, Pace::Slow(PAUSE));
        let channel = connect(server.address.clone(), ChannelConfig::default());
        let client = SubjectClient::new(channel).with_timeout(HASTY);
        let start = Instant::now();
        let outcome = client.touch_all(large()).await;
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        // The others have it written by somebody else.
        if shell == Shell::Blocking {
            assert_eq!(outcome, Err(CallError::DeadlineExceeded { sent: true }));
        }
    }
}

/// REQ-59: the call has time enough, and the server takes nothing.
async fn a_write_timeout<C: Transport>(connect: impl Fn(Address, ChannelConfig) -> C, _: Shell) {
    for family in [Family::Tcp, Family::Unix] {
        let server = Slow::start(family, Pace::Never);
        let mut config = ChannelConfig::default();
        config.connection.timeouts.write = HASTY;
        let channel = connect(server.address.clone(), config);
        let client = SubjectClient::new(channel).with_timeout(PATIENCE);
        let start = Instant::now();
        let error = client.echo(large()).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{error:?}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
}

/// The server writes a large reply that nobody waits for, and reads nothing before it has left; the client
/// writes its next large request.
async fn a_call_behind_one_that_was_given_up<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    _: Shell,
) {
    let server = support::server();
    let channel = connect(server.addresses()[0].clone(), ChannelConfig::default());
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    client.add(1, 2).await.unwrap();
    let (body, start) = (large(), Instant::now());
    for _ in 0..5 {
        let hasty = client.clone().with_timeout(Duration::from_millis(1));
        // It may be answered all the same.
        drop(hasty.echo(body.clone()).await);
        assert!(client.echo(body.clone()).await.unwrap() == body);
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    drop(client);
    support::end(server);
}

async fn a_server_that_was_stopped<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    _: Shell,
) {
    let server = ServerChild::start("child", "server");
    let channel = connect(server.address().into(), ChannelConfig::default());
    let client = SubjectClient::new(channel).with_timeout(Duration::from_millis(50));
    client.clone().with_timeout(PATIENCE).add(1, 2).await.unwrap();
    server.signal(Signal::STOP);
    let body = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..24 {
        let start = Instant::now();
        let error = client.echo(body.clone()).await.unwrap_err();
        assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    server.signal(Signal::CONT);
    let start = Instant::now();
    let patient = client.with_timeout(PATIENCE);
    assert_eq!(patient.add(1, 2).await, Ok(3));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// A connection that is under way survives the calls that wait for it.
async fn hasty_calls_before_the_hello<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    shell: Shell,
) {
    for family in [Family::Tcp, Family::Unix] {
        let server = Slow::start(family, Pace::HelloLater);
        let channel = connect(server.address.clone(), ChannelConfig::default());
        let hasty = SubjectClient::new(channel).with_timeout(Duration::from_millis(20));
        for _ in 0..10 {
            let error = hasty.add(1, 2).await.unwrap_err();
            assert_eq!(error.code(), StatusCode::DeadlineExceeded, "{error}");
            // The calls of a shard go out behind its own hello.
            let early = shell == Shell::Shard;
            assert!(early || !error.may_have_run(), "{error}");
        }
        assert_eq!(server.connections(), 1, "{family:?}");
        server.greet();
        // It is used, which shows in that its call is sent.
        let patient = hasty.with_timeout(HASTY);
        let error = patient.add(1, 2).await.unwrap_err();
        assert_eq!(error, CallError::DeadlineExceeded { sent: true });
        assert_eq!(server.connections(), 1, "{family:?}");
    }
}

/// The back-off holds however short the time is that its callers have.
async fn a_server_that_hangs_up<C: Transport + Clone>(
    connect: impl Fn(Address, ChannelConfig) -> C,
    _: Shell,
) {
    let server = Slow::start(Family::Tcp, Pace::HangUp);
    let wait = Duration::from_secs(60);
    let config = ChannelConfig { backoff_min: wait, backoff_max: wait, ..Default::default() };
    let channel = connect(server.address.clone(), config);
    let hasty = SubjectClient::new(channel).with_timeout(Duration::from_millis(20));
    for _ in 0..50 {
        hasty.add(1, 2).await.unwrap_err();
    }
    let error = hasty.with_timeout(PATIENCE).add(1, 2).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(NotSent::NoConnection(_))), "{error:?}");
    assert_eq!(server.connections(), 1);
}

/// One-way calls to a server that takes nothing: the one for which there is no room in the socket is taken back
/// when its time is over.
#[test]
fn a_one_way_call_of_which_nothing_was_written() {
    let server = Slow::start(Family::Unix, Pace::Never);
    let channel = blocking::Channel::new(&server.address, ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    // The first waits for the hello.
    client.touch(1).wait().unwrap();
    let hasty = client.with_timeout(Duration::from_millis(100));
    let start = Instant::now();
    let error = loop {
        if let Err(error) = hasty.touch(1).wait() {
            break error;
        }
        assert!(start.elapsed() < PATIENCE);
    };
    assert_eq!(error, CallError::DeadlineExceeded { sent: false });
    assert_eq!(hasty.touch(1).wait(), Err(CallError::DeadlineExceeded { sent: false }));
}

/// std cannot bound the wait for a Unix socket whose server accepts nobody; its caller's is bounded.
#[test]
fn a_unix_socket_that_accepts_nobody() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("full.sock");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let config = ChannelConfig { connect_timeout: HASTY, ..ChannelConfig::default() };
    let channel = blocking::Channel::new(Address::Unix(path), config).unwrap();
    let client = SubjectClient::new(channel);
    let start = Instant::now();
    let hasty = client.clone().with_timeout(Duration::from_millis(20));
    assert_eq!(hasty.add(1, 2).wait(), Err(CallError::DeadlineExceeded { sent: false }));
    for _ in 0..2 {
        let error = client.add(1, 2).wait().unwrap_err();
        assert!(matches!(error, CallError::NotSent(NotSent::NoConnection(_))), "{error:?}");
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// Nobody pings between a blocking channel's calls. So a connection that was silent for longer than it may be
/// is asked first: a call that is sent on one whose server is gone may have run, as far as anybody can tell.
#[test]
fn a_blocking_channel_asks_before_it_trusts_an_old_connection() {
    // It answers calls and no pings.
    let fake = Fake::start(Manner::Answer);
    let mut config = ChannelConfig::default();
    config.connection.timeouts.ping_after = Duration::from_millis(200);
    config.connection.timeouts.ping = Duration::from_millis(100);
    let channel = blocking::Channel::new(fake.address, config).unwrap();
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    for connection in 0..3 {
        assert_eq!(client.add(1, 2).wait(), Ok(3));
        assert_eq!(fake.requests(), connection + 1);
        if connection > 0 {
            let requests = fake.heard().heads.into_iter();
            let requests = requests.filter(|head| matches!(head, corewire_codec::Head::Request(_)));
            assert_eq!(requests.count(), 1, "nothing was sent on a connection that is overdue");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
