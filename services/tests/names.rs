//! Servers that are given by name: looked up again for each connect, off the caller's thread, and
//! every address is tried.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    CallError, ChannelConfig, ConnectError, Placement, Resolver, Server, StartError, Transport,
};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::fake::full_listener;
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::{PATIENCE, address, end, server, server_with, until};

kinds! {
    a_first_address_that_refuses_is_passed_over
    a_first_address_that_is_silent_is_passed_over
    a_name_that_moves_is_found_again
    a_name_without_address_is_told_and_asked_again
    a_lookup_that_hangs_keeps_no_call_from_its_deadline
    a_name_of_the_system
}

fn client<C: Transport>(channel: Result<C, ConnectError>) -> SubjectClient<C> {
    SubjectClient::new(channel.unwrap()).with_timeout(PATIENCE)
}

/// A channel that asks this for the addresses of names; its back-off is short.
fn config(
    look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> ChannelConfig {
    ChannelConfig {
        resolver: Resolver::new(move |host, _| look_up(host)),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(50),
        // Time enough for a machine that is busy.
        connect_timeout: PATIENCE,
        ..ChannelConfig::default()
    }
}

/// An address of this host on which nobody listens.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn a_first_address_that_refuses_is_passed_over<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = server();
    let found = vec![refusing(), refusing(), address(&server)];
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let config = config(move |host| {
        assert_eq!(host, "two-dead.example");
        count.fetch_add(1, Ordering::SeqCst);
        Ok(found.clone())
    });
    let client = client(connect("two-dead.example:7000", config));
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a channel looks nothing up before it is used");
    assert_eq!(client.add(40, 2).await, Ok(42));
    assert_eq!(client.add(1, 2).await, Ok(3));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a connection that works is not looked up again");
    drop(client);
    end(server);
}

async fn a_first_address_that_is_silent_is_passed_over<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = server();
    let (listener, _first) = full_listener();
    let found = vec![listener.local_addr().unwrap(), address(&server)];
    let client = client(connect("silent.example:7000", config(move |_| Ok(found.clone()))));
    assert_eq!(client.add(40, 2).await, Ok(42));
    drop(client);
    end(server);
}

async fn a_name_that_moves_is_found_again<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let (waits, habits) = (Habits::default(), Habits::default());
    let target = waits.clone();
    let first = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .drain_within(Duration::ZERO)
        .service(move |_| SubjectServer::new(Target::new(target.clone())))
        .start()
        .unwrap();
    let port = Arc::new(AtomicU16::new(address(&first).port()));
    let now_at = Arc::clone(&port);
    let to =
        move |_: &str| Ok(vec![SocketAddr::from(([127, 0, 0, 1], now_at.load(Ordering::SeqCst)))]);
    let config = config(to);
    let backoff_max = config.backoff_max;
    let client = client(connect("moves.example:7000", config));
    assert_eq!(client.add(1, 1).await, Ok(2));
    // It moves while a call is in flight.
    let mover = std::thread::spawn(move || {
        until("the call is in flight", || waits.begun() == 1);
        let second = server_with(&habits);
        port.store(address(&second).port(), Ordering::SeqCst);
        end(first);
        second
    });
    let lost = client.never().await.unwrap_err();
    assert!(!matches!(lost, CallError::DeadlineExceeded { .. }), "{lost}");
    let start = Instant::now();
    while client.add(40, 2).await != Ok(42) {
        assert!(start.elapsed() < 40 * backoff_max, "it takes longer than a back-off, by far");
        std::thread::sleep(Duration::from_millis(1));
        futures_lite::future::yield_now().await;
    }
    drop(client);
    let second = mover.join().unwrap();
    end(second);
}

async fn a_name_without_address_is_told_and_asked_again<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = server();
    let (to, asked) = (address(&server), AtomicUsize::new(0));
    let config = config(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::other("no such host")),
        1 => Ok(Vec::new()),
        _ => Ok(vec![to]),
    });
    let client = client(connect("late.example:7000", config));
    let error = client.add(1, 2).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(_)) && !error.may_have_run(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("late.example:7000") && text.contains("looked up"), "{text}");
    let start = Instant::now();
    while client.add(40, 2).await != Ok(42) {
        assert!(start.elapsed() < PATIENCE, "the name was not looked up again");
        std::thread::sleep(Duration::from_millis(1));
        futures_lite::future::yield_now().await;
    }
    drop(client);
    end(server);
}

async fn a_lookup_that_hangs_keeps_no_call_from_its_deadline<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let hangs = config(|_| {
        loop {
            std::thread::park();
        }
    });
    let hasty =
        client(connect("hangs.example:7000", hangs)).with_timeout(Duration::from_millis(50));
    assert_eq!(hasty.add(1, 2).await, Err(CallError::DeadlineExceeded { sent: false }));
    // A lookup blocks nobody: what else the thread does goes on.
    let server = server();
    let other = client(connect(&address(&server).to_string(), ChannelConfig::default()));
    assert_eq!(other.add(40, 2).await, Ok(42));
    drop(other);
    end(server);
}

/// `localhost` has an address of either family where the host has both; the server listens on one.
async fn a_name_of_the_system<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = server();
    let to = format!("localhost:{}", address(&server).port());
    let client = client(connect(&to, ChannelConfig::default()));
    assert_eq!(client.add(40, 2).await, Ok(42));
    drop(client);
    end(server);
}

/// `.invalid` is a name that no host ever has (RFC 2606).
#[test]
fn a_server_says_that_its_name_has_no_address() {
    let error = Server::builder()
        .address("no-such-host.invalid:7000")
        .placement(Placement::Unpinned(1))
        .service(|_| SubjectServer::new(Target::default()))
        .start()
        .unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let text = error.to_string();
    let begin = "cannot listen on no-such-host.invalid:7000: the name no-such-host.invalid cannot be looked up: ";
    assert!(text.starts_with(begin) && text.len() > begin.len(), "{text}");
}

#[test]
fn a_server_listens_on_a_name() {
    let server = Server::builder()
        .address("localhost:0")
        .placement(Placement::Unpinned(1))
        .service(|_| SubjectServer::new(Target::default()))
        .start()
        .unwrap();
    let to = address(&server);
    assert!(to.ip().is_loopback() && to.port() != 0, "{to}");
    support::client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(40, 2).await, Ok(42));
    });
    end(server);
}
