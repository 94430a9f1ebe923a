//! What calls carry in addition to their bodies: metadata, attachments, priority, trace and time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::codec::{FrameBytes, MetadataBytes};
use corewire::{
    Bytes, CallError, CallOptions, Channel, ChannelConfig, Context, Limits, MetadataError, NotSent,
    Peer, Placement, Running, Server, ShardId, Status, StatusCode, TraceContext,
};
use std::net::SocketAddr;
use std::time::Duration;
use support::{address, client, end};

/// Says what it knows, and adds to its replies what it is told.
#[corewire::service]
pub trait Beside {
    /// What came with the call.
    async fn seen(&self, context: &Context, number: u32) -> Result<Seen, Status>;
    /// The same for a raw body, which is given back with the attachment behind it.
    async fn raw(&self, context: &Context, body: Bytes) -> Result<Bytes, Status>;
    /// A raw body, for a method without a context.
    async fn plain(&self, body: Bytes) -> Result<Bytes, Status>;
    /// Sends this much metadata (key and three bytes included) and an attachment of this size.
    async fn send(&self, context: &Context, metadata: u32, attachment: u32) -> Result<u32, Status>;
    /// Sends metadata, and then fails.
    async fn fail(&self, context: &Context) -> Result<u32, Status>;
    /// The µs that are left, if anybody waits for them.
    async fn left(&self, context: &Context) -> Result<Option<u64>, Status>;
}

/// Number, text value, binary value, attachment, priority, trace.
pub type Seen = (u32, Option<String>, Option<Vec<u8>>, Vec<u8>, u8, Option<String>);

struct Target;

impl Beside for Target {
    async fn seen(&self, context: &Context, number: u32) -> Result<Seen, Status> {
        let metadata = context.metadata();
        let text = metadata.text("tenant").map(str::to_owned);
        let binary = metadata.value("tag-bin").map(<[u8]>::to_vec);
        let trace = context.trace().map(|trace| trace.to_string());
        support::service::pend_once().await;
        let attachment = context.attachment().to_vec();
        Ok((number, text, binary, attachment, context.priority(), trace))
    }

    async fn raw(&self, context: &Context, body: Bytes) -> Result<Bytes, Status> {
        assert_eq!(context.metadata().text("tenant"), Some("blue"));
        context.add_reply_metadata("length", body.len().to_string().as_bytes())?;
        context.set_reply_attachment(body);
        Ok(context.attachment().clone())
    }

    async fn plain(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn send(&self, context: &Context, metadata: u32, attachment: u32) -> Result<u32, Status> {
        if metadata > 0 {
            context.add_reply_metadata("fill-bin", &vec![7; metadata as usize - 11])?;
        }
        context.set_reply_attachment(vec![9; attachment as usize].into());
        Ok(7)
    }

    async fn fail(&self, context: &Context) -> Result<u32, Status> {
        context.add_reply_metadata("lost", b"yes")?;
        context.set_reply_attachment(Bytes::from_static(b"lost"));
        Err(Status::not_found("as the test wants"))
    }

    async fn left(&self, context: &Context) -> Result<Option<u64>, Status> {
        Ok(context.remaining().map(|left| u64::try_from(left.as_micros()).unwrap()))
    }
}

fn server_with(limits: Limits) -> (Running, SocketAddr) {
    let builder = Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1));
    let server = builder.limits(limits).service(|_| BesideServer::new(Target)).start().unwrap();
    let to = address(&server);
    (server, to)
}

fn trace() -> TraceContext {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()
}

#[test]
fn everything_arrives_and_nothing_stays() {
    let (server, to) = server_with(Limits::default());
    client(move || async move {
        let client = BesideClient::connect(to).await.unwrap();
        for bytes in [3usize, 4095, 4096, 200_000] {
            let attachment = Bytes::from(vec![5; bytes]);
            let options = CallOptions::new()
                .priority(6)
                .trace(trace())
                .attachment(attachment.clone())
                .metadata("tenant", b"blue")
                .and_then(|options| options.metadata("tag-bin", &[0, 255]))
                .unwrap();
            let full = client.with(options);
            let (number, text, binary, seen, priority, traced) = full.seen(41).await.unwrap();
            assert_eq!((number, text.as_deref(), priority), (41, Some("blue"), 6));
            assert_eq!(binary.as_deref(), Some(&[0, 255][..]));
            assert!(seen == attachment, "{bytes} bytes");
            assert_eq!(traced, Some(trace().to_string()));
            for body in [Bytes::new(), Bytes::from(vec![8; 10]), Bytes::from(vec![8; 70_000])] {
                let response = full.raw(body.clone()).with_response().await.unwrap();
                assert!(response.value == attachment && response.attachment() == &body);
                let length = body.len().to_string();
                assert_eq!(response.metadata().text("length"), Some(&*length));
                // A method that takes no context gets the body, and nothing of what came with it.
                assert!(full.plain(body.clone()).await.unwrap() == body);
            }
        }
        // The client itself says nothing of it.
        let plain = client.seen(42).with_response().await.unwrap();
        assert_eq!(plain.value, (42, None, None, vec![], 3, None));
        assert!(plain.metadata().is_empty() && plain.attachment().is_empty());
        // More options add to those that are there; a priority above the greatest is the greatest.
        let tenant = client.with(CallOptions::new().metadata("tenant", b"red").unwrap());
        let urgent = tenant.with(CallOptions::new().priority(200));
        assert_eq!(urgent.seen(1).await, Ok((1, Some("red".into()), None, vec![], 7, None)));
    });
    end(server);
}

/// What a layer leaves for a handler.
#[derive(Debug, PartialEq)]
struct User(&'static str);

#[test]
fn a_context_for_a_unit_test_has_all_that_a_call_has() {
    let peer = Peer::Tcp("192.0.2.1:4000".parse().unwrap());
    let context = Context::for_test()
        .peer(peer)
        .shard(ShardId(3))
        .priority(200)
        .trace(trace())
        .timeout(Duration::from_secs(3600))
        .attachment(vec![5; 10])
        .extension(User("Ada"))
        .metadata("tenant", b"blue")
        .and_then(|context| context.metadata("tag-bin", &[0, 255]))
        .unwrap()
        .build();
    assert_eq!((context.peer(), context.shard()), (peer, ShardId(3)));
    assert!(context.remaining().unwrap() > Duration::from_secs(3000));
    assert_eq!(context.extension::<User>(), Some(&User("Ada")));
    assert_eq!(context.extension::<String>(), None);
    let seen = futures_lite::future::block_on(Target.seen(&context, 41)).unwrap();
    let (text, binary) = (Some("blue".to_owned()), Some(vec![0, 255]));
    assert_eq!(seen, (41, text, binary, vec![5; 10], 7, Some(trace().to_string())));

    assert!(context.reply_attachment().is_empty() && context.reply_metadata().view().is_empty());
    let body = futures_lite::future::block_on(Target.raw(&context, Bytes::from_static(b"body")));
    assert_eq!(body.unwrap(), &[5; 10][..]);
    assert_eq!(context.reply_attachment(), "body");
    assert_eq!(context.reply_metadata().view().text("length"), Some("4"));

    // What is not said.
    let plain = Context::for_test().build();
    assert_eq!((plain.peer(), plain.shard(), plain.deadline()), (Peer::Unix, ShardId(0), None));
    let seen = futures_lite::future::block_on(Target.seen(&plain, 42)).unwrap();
    assert_eq!(seen, (42, None, None, vec![], 3, None));
    assert_eq!(plain.extension::<User>(), None);
    let wrong = Context::for_test().metadata("A", b"").map(drop);
    assert_eq!(wrong.unwrap_err(), MetadataError::Key);
}

#[test]
fn a_failure_carries_its_status_alone() {
    let (server, to) = server_with(Limits::default());
    client(move || async move {
        let client = BesideClient::connect(to).await.unwrap();
        let failed = client.fail().with_response().await.unwrap_err();
        assert_eq!(failed.code(), StatusCode::NotFound);
        assert_eq!(client.send(0, 4).with_response().await.unwrap().attachment(), &[9; 4][..]);
    });
    end(server);
}

/// REQ-21: what is over a bound would end the connection, so neither side sends it.
#[test]
fn metadata_over_its_bound_stays_at_home() {
    let limits = Limits { metadata_bytes: MetadataBytes::new(2000).unwrap(), ..Limits::default() };
    let (server, to) = server_with(limits);
    let with =
        |bytes: usize| CallOptions::new().metadata("fill-bin", &vec![7; bytes - 11]).unwrap();
    client(move || async move {
        // A channel that has no connection yet does not know the bound before the hello came.
        let channel = Channel::new(to, ChannelConfig::default()).unwrap();
        let client = BesideClient::new(channel);
        assert!(client.with(with(2000)).seen(1).await.is_ok());
        let id = client.channel().connection_id();
        for _ in 0..50 {
            let outcome = client.with(with(2001)).seen(1).await;
            let expected = NotSent::MetadataTooLarge { bytes: 2001, max: 2000 };
            assert_eq!(outcome, Err(CallError::NotSent(expected)));
        }
        // What this client accepts, it says in its hello: 16 KiB.
        assert!(client.send(16_384, 0).await.is_ok());
        let outcome = client.send(16_385, 0).await.unwrap_err();
        assert_eq!(outcome.code(), StatusCode::ResourceExhausted);
        assert!(client.with(with(2000)).seen(2).await.is_ok());
        assert_eq!(client.channel().connection_id(), id, "the connection went on");
    });
    end(server);
    let full = CallOptions::new().metadata("a", &[b'x'; 65_535]);
    assert_eq!(full.unwrap_err(), MetadataError::Full);
    assert_eq!(CallOptions::new().metadata("A", b"").unwrap_err(), MetadataError::Key);
    assert_eq!(CallOptions::new().metadata("a", b"\n").unwrap_err(), MetadataError::Value);
}

#[test]
fn an_attachment_over_the_frame_is_refused_on_either_side() {
    let limits = Limits { frame_bytes: FrameBytes::MIN, ..Limits::default() };
    let (server, to) = server_with(limits);
    client(move || async move {
        let config = ChannelConfig {
            connection: corewire::ClientConfig { limits, ..Default::default() },
            ..ChannelConfig::default()
        };
        let channel = Channel::connect_with(to, config).await.unwrap();
        let client = BesideClient::new(channel);
        let with = |bytes| client.with(CallOptions::new().attachment(vec![1; bytes].into()));
        // Timeout, length of the attachment and the number take 16 bytes.
        assert!(with(65_520).seen(1).await.is_ok());
        let outcome = with(65_521).seen(1).await;
        assert!(matches!(outcome, Err(CallError::NotSent(NotSent::TooLarge(_)))), "{outcome:?}");
        assert!(client.send(0, 65_528).await.is_ok());
        let outcome = client.send(0, 65_529).await.unwrap_err();
        assert_eq!(outcome.code(), StatusCode::ResourceExhausted);
        assert!(outcome.may_have_run());
        assert!(client.send(0, 1).await.is_ok());
    });
    end(server);
}

/// REQ-34.
#[test]
fn no_time_and_a_thousand_years_are_timeouts_too() {
    let (server, to) = server_with(Limits::default());
    client(move || async move {
        let client = BesideClient::connect(to).await.unwrap();
        let with = |timeout| client.with(CallOptions::new().timeout(timeout));
        let years = Duration::from_secs(1000 * 365 * 86_400);
        let left = with(years).left().await.unwrap().unwrap();
        assert!(left > 999 * 365 * 86_400 * 1_000_000, "{left}");
        // Longer than any clock counts: on the wire the greatest number, here for ever.
        assert!(with(Duration::MAX).left().await.is_ok());
        let over = with(Duration::ZERO).left().await.unwrap_err();
        assert_eq!(over.code(), StatusCode::DeadlineExceeded);
        // The later setting counts, whoever makes it.
        let soon = with(Duration::ZERO).with_timeout(Duration::from_secs(5)).left().await;
        assert!(soon.unwrap().unwrap() <= 5_000_000);
        // Who says nothing waits for ten seconds.
        let left = client.left().await.unwrap().unwrap();
        assert!((6_000_000..=10_000_000).contains(&left), "{left}");
    });
    end(server);
}

#[test]
fn the_other_channels_carry_the_same() {
    let (server, to) = server_with(Limits::default());
    let options = || {
        let options = CallOptions::new().attachment(vec![3; 5000].into());
        options.metadata("tenant", &[b'x'; 3000]).unwrap().trace(trace())
    };
    let text = "x".repeat(3000);
    let check = |seen: Seen| {
        assert_eq!(
            (seen.1, seen.3, seen.5),
            (Some(text.clone()), vec![3; 5000], Some(trace().to_string()))
        );
    };
    let channel = corewire::blocking::Channel::new(to, ChannelConfig::default()).unwrap();
    let blocking = BesideClient::new(channel);
    check(blocking.with(options()).seen(1).wait().unwrap());
    assert_eq!(blocking.send(100, 50).with_response().wait().unwrap().attachment(), &[9; 50][..]);
    let thread = corewire::ClientThread::start(corewire::ClientShard::default()).unwrap();
    let shared = BesideClient::new(thread.channel(to, ChannelConfig::default()).unwrap());
    check(shared.with(options()).seen(1).wait().unwrap());
    let response = shared.send(100, 5000).with_response().wait().unwrap();
    assert_eq!(response.attachment(), &[9; 5000][..]);
    assert_eq!(response.metadata().value("fill-bin"), Some(&[7; 89][..]));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let seen = runtime.block_on(async move {
        let channel = corewire::SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap();
        BesideClient::new(channel).with(options()).seen(1).await.unwrap()
    });
    check(seen);
    end(server);
}
