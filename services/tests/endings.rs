//! How connections end over real sockets: closed by their clients, aged by their servers, given up in
//! silence; and what the other side counts it as.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    CallError, Channel, ChannelConfig, ClientConfig, ClientShard, ClientThread, NotSent, Placement,
    Running, Server, SharedChannel, StatusCode, Timeouts, blocking, spawn,
};
use corewire_codec::{GoAway, Head, Rule};
use futures_lite::future::block_on;
use rustix::net::sockopt::set_socket_linger;
use std::time::{Duration, Instant};
use support::fake::{Fake, Heard, Manner};
use support::peer::{Peer, Said, bytes_of, request};
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::{address, builder, client, count, end, server, server_with, until};

fn until_all_closed(server: &Running) {
    until("all connections are closed", || count(server, |it| it.connections_open.value()) == 0);
}

/// REQ-75: what was in flight is finished, nothing else begins, and the server sees a good end.
#[test]
fn a_channel_that_is_closed_lets_its_calls_finish() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let held: Vec<_> = (0..50)
            .map(|n| {
                spawn({
                    let client = client.clone();
                    async move { client.gate(n).await }
                })
            })
            .collect();
        while habits.at_gate() < 50 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        let closing: Vec<_> = (0..2)
            .map(|_| {
                spawn({
                    let channel = client.channel().clone();
                    async move { channel.close().await }
                })
            })
            .collect();
        // It is closed for all, whichever handle closed it.
        while client.add(1, 2).await != Err(CallError::NotSent(NotSent::Closed)) {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(client.touch(1).await, Err(CallError::NotSent(NotSent::Closed)));
        assert_eq!(client.channel().ready().await, Err(NotSent::Closed));
        assert!(closing.iter().all(|it| !it.is_finished()), "calls are in flight");
        habits.open();
        for (n, call) in (0..).zip(held) {
            assert_eq!(call.await, Ok(n));
        }
        for closing in closing {
            closing.await;
        }
        client.channel().close().await;
    });
    until_all_closed(&server);
    assert_eq!(count(&server, |it| it.connections_faulted.value()), 0);
    end(server);
}

/// Callers that wait for a slot or for the connection learn that there will be none.
#[test]
fn a_channel_that_is_closed_sends_home_who_waits() {
    let fake = Fake::start(Manner::Hang);
    let to = fake.address;
    client(move || async move {
        let client = SubjectClient::new(Channel::new(to, ChannelConfig::default()).unwrap());
        let calls: Vec<_> = (0..20)
            .map(|n| {
                spawn({
                    let client = client.clone();
                    async move { client.with_timeout(support::PATIENCE).add(n, 1).await }
                })
            })
            .collect();
        client.channel().ready().await.unwrap();
        corewire::sleep(Duration::from_millis(20)).await;
        let mut closing = Box::pin(client.channel().close());
        // It begins when it is polled.
        futures_lite::future::poll_once(&mut closing).await;
        let mut calls = calls;
        for call in calls.split_off(16) {
            assert_eq!(call.await, Err(CallError::NotSent(NotSent::Closed)));
        }
        // The others never end by themselves; a caller that cannot wait drops them.
        drop(calls);
        drop(closing);
    });
    let heard = fake.heard();
    assert!(heard.heads.contains(&Head::GoAway(GoAway { accepted: 0, rule: 0 })));
    // One that has no connection, or is just making one, has nobody to wait for.
    client(move || async move {
        let channel = Channel::new(to, ChannelConfig::default()).unwrap();
        channel.close().await;
        assert_eq!(channel.ready().await, Err(NotSent::Closed));
        let channel = Channel::new(to, ChannelConfig::default()).unwrap();
        let ready = spawn({
            let channel = channel.clone();
            async move { channel.ready().await }
        });
        futures_lite::future::yield_now().await;
        channel.close().await;
        let _ = ready.await;
    });
}

#[track_caller]
fn assert_good_end(heard: &Heard) {
    let go_away = Head::GoAway(GoAway { accepted: 0, rule: 0 });
    assert_eq!(heard.heads.len(), 2, "{heard:?}");
    assert!(matches!(heard.heads[0], Head::Request(_)), "{heard:?}");
    assert_eq!(heard.heads[1], go_away, "{heard:?}");
    assert!(heard.ended_well, "{heard:?}");
}

/// REQ-75: dropping the last handle of a channel announces it to the server, whatever drives the
/// channel.
#[test]
fn a_channel_that_is_dropped_says_so() {
    let fake = Fake::start(Manner::Answer);
    let to = fake.address;
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(1, 2).await, Ok(3));
        // The shard ends with it.
    });
    assert_good_end(&fake.heard());
    client(move || async move {
        let first = SubjectClient::connect(to).await.unwrap();
        assert_eq!(first.add(1, 2).await, Ok(3));
        drop(first);
        corewire::sleep(Duration::from_millis(20)).await;
    });
    assert_good_end(&fake.heard());
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    for thread_stays in [true, false] {
        let channel = thread.channel(to, ChannelConfig::default()).unwrap();
        let client = SubjectClient::new(channel);
        assert_eq!(client.add(1, 2).wait(), Ok(3));
        if thread_stays {
            drop(client);
        } else {
            // The thread ends with its last channel.
            drop((thread, client));
            assert_good_end(&fake.heard());
            break;
        }
        assert_good_end(&fake.heard());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap();
        assert_eq!(SubjectClient::new(channel).add(1, 2).await, Ok(3));
    });
    assert_good_end(&fake.heard());
    let channel = blocking::Channel::new(to, ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel);
    assert_eq!(block_on(client.add(1, 2)), Ok(3));
    drop(client);
    assert_good_end(&fake.heard());
}

/// REQ-75: after a client's go-away a reset is no fault, and without one it is.
#[test]
fn a_reset_behind_a_go_away_is_no_fault() {
    let server = server();
    for (says_so, faults) in [(true, 0), (false, 1)] {
        let mut peer = Peer::polite(address(&server));
        peer.assert_serves(1);
        if says_so {
            peer.send(&bytes_of(|out| out.go_away(&GoAway { accepted: 0, rule: 0 }, "done")));
        }
        set_socket_linger(&peer.stream, Some(Duration::ZERO)).unwrap();
        drop(peer);
        until_all_closed(&server);
        assert_eq!(count(&server, |it| it.connections_faulted.value()), faults);
    }
    end(server);
}

fn with_timeouts(timeouts: Timeouts) -> Running {
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .timeouts(timeouts)
        .service(|_| SubjectServer::new(Target::default()))
        .start()
        .unwrap()
}

/// REQ-62, REQ-76, REQ-77: at a connection's age new calls go to the next one; what does not end within
/// the grace gets a status.
#[test]
fn connections_age() {
    let (age, age_grace) = (Some(Duration::from_millis(200)), Duration::from_millis(300));
    let server = with_timeouts(Timeouts { age, age_grace, ..Timeouts::default() });
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let patient = client.clone().with_timeout(support::PATIENCE);
        let held = spawn(async move { patient.never().await });
        let start = Instant::now();
        let mut connections = std::collections::BTreeSet::new();
        while connections.len() < 4 {
            assert!(start.elapsed() < support::PATIENCE);
            match client.who().await {
                Ok(who) => drop(connections.insert(who.3)),
                // It crossed the go-away.
                Err(error) => assert!(!error.may_have_run(), "{error}"),
            }
            corewire::sleep(Duration::from_millis(1)).await;
        }
        let error = held.await.unwrap_err();
        assert!(matches!(error, CallError::Status(_)), "{error:?}");
        assert_eq!(error.code(), StatusCode::Unavailable);
        assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
    });
    end(server);
}

/// REQ-58: pings keep a quiet connection, from either side, and a peer that answers none is given up.
#[test]
fn keepalive_over_real_sockets() {
    let quick = Timeouts {
        ping_after: Duration::from_millis(40),
        ping: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let pinging = with_timeouts(quick);
    let plain = builder(1).start().unwrap();
    for (to, timeouts) in [
        (address(&pinging), Timeouts::default()),
        (address(&plain), quick),
        (address(&pinging), quick),
    ] {
        client(move || async move {
            let connection = ClientConfig { timeouts, ..ClientConfig::default() };
            let config = ChannelConfig { connection, ..ChannelConfig::default() };
            let channel = Channel::new(to, config).unwrap();
            let client = SubjectClient::new(channel.clone());
            client.add(1, 1).await.unwrap();
            let before = channel.connection_id();
            corewire::sleep(Duration::from_millis(500)).await;
            assert_eq!(client.add(1, 1).await, Ok(2));
            assert_eq!(channel.connection_id(), before, "it is the same connection");
        });
    }
    // A peer that is there and answers nothing.
    let start = Instant::now();
    let mut mute = Peer::polite(address(&pinging));
    mute.send(&request(1, "never", b""));
    assert!(matches!(mute.said(), Said::Other(Head::Ping(_))));
    mute.assert_turned_away(Rule::PingTimeout);
    assert!(start.elapsed() >= Duration::from_millis(136), "{:?}", start.elapsed());
    // And a server of that kind, to which a call is in flight.
    let fake = Fake::start(Manner::Silent);
    let to = fake.address;
    client(move || async move {
        let mut connection = ClientConfig { timeouts: quick, ..ClientConfig::default() };
        connection.timeouts.hello = Duration::from_millis(100);
        let config = ChannelConfig { connection, ..ChannelConfig::default() };
        let client = SubjectClient::new(Channel::new(to, config).unwrap());
        let error = client.with_timeout(support::PATIENCE).add(1, 1).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown(_)), "{error:?}");
    });
    end(pinging);
    end(plain);
}

/// REQ-58: a connection without calls ends at the idle time, and one with a call does not.
#[test]
fn idle_connections_end() {
    let idle = Some(Duration::from_millis(200));
    let server = with_timeouts(Timeouts { idle, ..Timeouts::default() });
    let (mut idle, mut busy) = (Peer::polite(address(&server)), Peer::polite(address(&server)));
    busy.send(&request(1, "never", b""));
    idle.assert_turned_away(Rule::IdleTimeout);
    drop(idle);
    until("one is left", || count(&server, |it| it.connections_open.value()) == 1);
    busy.assert_serves(2);
    drop(busy);
    // A client comes back to it with the next call.
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(1, 1).await, Ok(2));
        let first = client.channel().connection_id();
        let start = Instant::now();
        while client.channel().connection_id() == first {
            assert!(start.elapsed() < support::PATIENCE);
            corewire::sleep(Duration::from_millis(300)).await;
            if let Err(error) = client.add(1, 1).await {
                assert!(!error.may_have_run(), "{error}");
            }
        }
    });
    end(server);
}
