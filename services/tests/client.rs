//! Clients over real sockets: what calls give, waiting for slots, deadlines, reconnects.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, CallError, Channel, ChannelConfig, Limits, NotSent, Placement, Server, StatusCode,
    codec::InFlight, spawn,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::service::{Habits, Nested, SubjectClient, SubjectServer, Target};
use support::{address, builder, client, count, end, server, server_with, until};

#[test]
fn values_come_back_as_they_went() {
    let server = builder(2).start().unwrap();
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        for bytes in [0, 1, 4095, 4096, 65_536, 131_073, 8 << 20] {
            let body = Bytes::from((0..bytes).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
            assert!(client.echo(body.clone()).await.unwrap() == body, "{bytes} bytes");
        }
        let plain = (200, -3, u32::MAX, i64::MIN, -0.5, true);
        let map = [(7, "seven".to_owned())].into_iter().collect();
        let nested: Nested =
            vec![(Some("text".into()), vec![1, 2], map), (None, vec![], [].into())];
        let reply = client.shapes(plain, nested.clone(), "löwe".into()).await.unwrap();
        assert_eq!(reply, (plain, nested, "löwe".into()));
        let (peer, shard, left, connection, _, priority) =
            client.clone().with_timeout(Duration::from_secs(3)).who().await.unwrap();
        assert!(peer.parse::<SocketAddr>().unwrap().ip().is_loopback());
        assert_eq!(client.channel().server_shard(), Some((shard, 2)));
        assert_eq!(client.channel().connection_id(), Some(connection));
        assert!((1..=3_000_000).contains(&left) && priority == 3);
        for code in StatusCode::ALL.into_iter().skip(1) {
            let Err(CallError::Status(status)) = client.fail(code as u8).await else {
                panic!("{code} was to come");
            };
            assert_eq!((status.code(), status.message()), (code, "as the test wants"));
            assert_eq!(&status.details()[..], b"details");
            assert_eq!(status.retry_after(), Some(Duration::from_millis(1234)));
        }
    });
    end(server);
}

/// 200 callers and room for 16: each gets its turn, also when those before it gave up or failed.
#[test]
fn those_who_wait_for_a_slot_all_get_one() {
    let habits = Habits::default();
    let shared = habits.clone();
    let limits = Limits { in_flight: InFlight::MIN, ..Limits::default() };
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .limits(limits)
        .service(move |_| SubjectServer::new(Target::new(shared.clone())))
        .start()
        .unwrap();
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let running: Vec<_> = (0..16)
            .map(|n| {
                spawn({
                    let client = client.clone();
                    async move { client.gate(n).await }
                })
            })
            .collect();
        while habits.at_gate() < 16 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        // Behind them: those who will give up, those who cannot be sent, and those who want in.
        let hasty: Vec<_> = (0..50)
            .map(|n| {
                spawn({
                    let client = client.clone();
                    async move { client.add(n, 1).await }
                })
            })
            .collect();
        let large: Vec<_> = (0..200)
            .map(|_| {
                spawn({
                    let client = client.clone();
                    async move { client.echo(Bytes::from_static(&[0; 17 << 20])).await }
                })
            })
            .collect();
        let patient: Vec<_> = (0..200)
            .map(|n| {
                spawn({
                    let client = client.clone();
                    async move { client.add(n, 1).await }
                })
            })
            .collect();
        corewire::sleep(Duration::from_millis(20)).await;
        drop(hasty);
        habits.open();
        for (n, call) in running.into_iter().enumerate() {
            assert_eq!(call.await.unwrap() as usize, n);
        }
        for call in large {
            assert!(matches!(call.await, Err(CallError::NotSent(NotSent::TooLarge(_)))));
        }
        for (n, call) in patient.into_iter().enumerate() {
            assert_eq!(call.await.unwrap() as usize, n + 1);
        }
    });
    end(server);
}

#[test]
fn a_deadline_ends_the_call_on_both_sides() {
    let habits = Habits::default();
    let (server, seen) = (server_with(&habits), habits.clone());
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        // Long enough for the handler to begin, also on a machine that is busy otherwise.
        let start = Instant::now();
        let outcome = client.clone().with_timeout(Duration::from_millis(500)).never().await;
        assert_eq!(outcome.unwrap_err().code(), StatusCode::DeadlineExceeded);
        assert!((500..2000).contains(&start.elapsed().as_millis()));
        // A dropped future cancels, too.
        let call = spawn({
            let client = client.clone();
            async move { client.never().await }
        });
        // Dropped before it was written it would be taken back, and no handler begin.
        while seen.begun() < 2 {
            client.add(1, 1).await.unwrap();
        }
        drop(call);
        client.add(1, 1).await.unwrap();
    });
    until("both handlers are dropped", || habits.begun() == 2 && habits.ended() == 2);
    assert_eq!(count(&server, |it| it.calls_dropped.value()), 2);
    end(server);
}

#[test]
fn a_deadline_holds_while_the_connection_is_made() {
    // A listener whose queue is full lets further clients wait for an answer.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let to = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
    let _first = std::net::TcpStream::connect(to).unwrap();
    let took = client(move || async move {
        let client = SubjectClient::new(Channel::new(to, ChannelConfig::default()).unwrap());
        let start = Instant::now();
        let outcome = client.with_timeout(Duration::from_millis(100)).add(1, 1).await;
        assert_eq!(outcome, Err(CallError::DeadlineExceeded { sent: false }));
        start.elapsed()
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_client_comes_back_when_its_server_does() {
    let first = server();
    let to = address(&first);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(1, 2).await, Ok(3));
        end(first);
        // Nobody is there: calls fail at once, and say that nothing was sent.
        let start = Instant::now();
        for _ in 0..20 {
            assert!(!client.add(1, 2).await.unwrap_err().may_have_run());
        }
        assert!(start.elapsed() < Duration::from_secs(2), "back-off is no wait for callers");
        let second = Server::builder()
            .address(to)
            .placement(Placement::Unpinned(1))
            .service(|_| SubjectServer::new(Target::default()))
            .start()
            .unwrap();
        while client.add(1, 2).await != Ok(3) {
            assert!(start.elapsed() < support::PATIENCE);
            corewire::sleep(Duration::from_millis(5)).await;
        }
        drop(client);
        end(second);
    });
}
