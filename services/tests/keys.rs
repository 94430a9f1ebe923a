//! Calls by key over real sockets: what a client says of a key and to whom, what a server makes of it, and the channel that
//! has a connection for each shard.
//!
//! Names cite the requirements of `docs/PROTOCOL.md`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "tests; a trait and its server are public, as in a library"
)]

mod support;

use corewire::{
    Bytes, ChannelConfig, ClientShard, ClientThread, Context, Forwarded, Placement, Running,
    Server, ShardMember, ShardedChannel, Status, StatusCode, Streaming, Transport, key_hash,
    owner_of_key,
};
use corewire_codec::{
    CodecId, Encoding, Head, Hello, HelloRecords, Limits, MethodId, ReplyHead, RequestHead, Role,
    VERSION, reply_flags, request_flags,
};
use futures_lite::future::block_on;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use support::peer::{Peer, Said, bytes_of, hello, request_with};
use support::{address, client, end, until};

#[corewire::service]
pub trait Where {
    /// The shard that runs the call.
    #[corewire(key = "key")]
    async fn at(&self, context: &Context, before: u32, key: String) -> Result<u16, Status>;
    #[corewire(key = "body")]
    async fn raw(&self, context: &Context, body: Bytes) -> Result<u16, Status>;
    #[corewire(key = "key")]
    #[one_way]
    async fn note(&self, context: &Context, key: u64);
    #[corewire(key = "key")]
    async fn list(&self, context: &Context, key: u64) -> Result<Streaming<u16>, Status>;
    #[corewire(key = "key")]
    async fn load(
        &self,
        context: &Context,
        key: u64,
        parts: Streaming<u64>,
    ) -> Result<(u16, u64), Status>;
    async fn anywhere(&self, context: &Context) -> Result<u16, Status>;
}

/// Calls `note` that ran on the shard that owns their key, and others.
#[derive(Default)]
struct Notes {
    right: std::sync::atomic::AtomicU32,
    wrong: std::sync::atomic::AtomicU32,
}

struct Here {
    shards: u16,
    notes: Arc<Notes>,
}

impl Where for Here {
    async fn at(&self, context: &Context, _: u32, _: String) -> Result<u16, Status> {
        Ok(context.shard().0)
    }

    async fn raw(&self, context: &Context, _: Bytes) -> Result<u16, Status> {
        Ok(context.shard().0)
    }

    async fn note(&self, context: &Context, key: u64) {
        let is_right = owner_of_key(&key, self.shards) == context.shard();
        let count = if is_right { &self.notes.right } else { &self.notes.wrong };
        count.fetch_add(1, Ordering::SeqCst);
    }

    async fn list(&self, context: &Context, _: u64) -> Result<Streaming<u16>, Status> {
        let shard = context.shard().0;
        Ok(Streaming::from_stream(futures_lite::stream::iter([Ok(shard), Ok(shard)])))
    }

    async fn load(
        &self,
        context: &Context,
        _: u64,
        mut parts: Streaming<u64>,
    ) -> Result<(u16, u64), Status> {
        let mut sum = 0;
        while let Some(part) = parts.next().await {
            sum += part?;
        }
        Ok((context.shard().0, sum))
    }

    async fn anywhere(&self, context: &Context) -> Result<u16, Status> {
        Ok(context.shard().0)
    }
}

fn serve(address: &str, shards: u16) -> (Running, Arc<Notes>) {
    let notes = Arc::<Notes>::default();
    let noted = Arc::clone(&notes);
    let server = Server::builder()
        .address(address)
        .placement(Placement::Unpinned(shards))
        .service(move |shard| {
            let notes = Arc::clone(&noted);
            WhereServer::new(Here { shards: shard.count, notes })
        })
        .start()
        .unwrap();
    (server, notes)
}

/// A peer's hello that says that it hashes keys.
fn keyed_hello(role: Role, shard: Option<(u16, u16)>, key_routing: u16) -> Vec<u8> {
    let limits = Limits::default();
    let records = HelloRecords { limits, codecs: 3, shard, key_routing, ..HelloRecords::default() };
    bytes_of(|out| out.hello(&Hello { version: VERSION, role, records }))
}

/// A call of `at` for this key, with this hash in its head.
fn at_request(call: u32, key: &str, hash: Option<u64>) -> Vec<u8> {
    let mut head = RequestHead::new(call, MethodId::of("Where", "at"));
    head.encoding = Encoding::plain(CodecId::SPEEDY);
    head.set_key(hash);
    let length = u32::try_from(key.len()).unwrap();
    let body = [&7u32.to_le_bytes()[..], &length.to_le_bytes(), key.as_bytes()].concat();
    request_with(&head, &body)
}

/// REQ-98: the server says that it hashes keys, takes the flag, and answers a client that says nothing of keys as ever.
#[test]
fn req_98_old_clients_are_answered_without_new_flags() {
    let (server, _) = serve("127.0.0.1:0", 3);
    let mut old = Peer::silent(address(&server));
    old.send(&hello());
    let records = old.hello().records;
    assert_eq!(records.key_routing, HelloRecords::KEY_ROUTING_XXH3);
    assert_eq!(records.shard.unwrap().1, 3);
    for number in 0..32 {
        old.send(&at_request(number, &format!("key {number}"), None));
        let (head, body) = old.reply();
        assert_eq!((head.code, head.flags, head.forwarded), (StatusCode::Ok, 0, None));
        assert!(u16::from_le_bytes(body[..].try_into().unwrap()) < 3);
    }
    drop(old);
    end(server);
}

/// REQ-100: a request that names another key than it has does not run, wherever it went. REQ-99: it may name none.
#[test]
fn req_99_100_a_request_that_names_another_key_does_not_run() {
    for shards in [1, 3] {
        let (server, _) = serve("127.0.0.1:0", shards);
        let mut peer = Peer::silent(address(&server));
        peer.send(&keyed_hello(Role::Client, None, 1));
        peer.hello();
        let hash = key_hash("user:42");
        // One wrong hash for each shard that a request may be sent to by it.
        for (call, wrong) in [!hash, hash ^ 1, 0, u64::MAX, 1 << 63].into_iter().enumerate() {
            peer.send(&at_request(u32::try_from(call).unwrap(), "user:42", Some(wrong)));
            let (head, status) = peer.failure();
            assert_eq!(head.code, StatusCode::InvalidArgument, "{status}");
            assert_eq!(head.flags & reply_flags::REFUSED, 0);
            assert!(status.message().contains("key"), "{status}");
        }
        for (call, key) in [(8, Some(hash)), (9, None)] {
            peer.send(&at_request(call, "user:42", key));
            let (head, _) = peer.reply();
            assert_eq!((head.call, head.code), (call, StatusCode::Ok));
        }
        // On a method without a key it means nothing.
        let plain = RequestHead {
            encoding: Encoding::plain(CodecId::SPEEDY),
            flags: request_flags::KEY,
            key_hash: 1,
            ..RequestHead::new(10, MethodId::of("Where", "anywhere"))
        };
        peer.send(&request_with(&plain, b""));
        assert_eq!(peer.reply().0.code, StatusCode::Ok);
        // A key that cannot be read.
        let broken = RequestHead {
            encoding: Encoding::plain(CodecId::SPEEDY),
            ..RequestHead::new(11, MethodId::of("Where", "at"))
        };
        peer.send(&request_with(&broken, &[0; 5]));
        assert_eq!(peer.failure().0.code, StatusCode::InvalidArgument);
        drop(peer);
        end(server);
    }
}

/// A server of one connection that says this hello, at once or behind the first request, and answers this many calls
/// with `answer`; what it returns is the heads of all requests.
fn fake(
    hello: Vec<u8>,
    is_late: bool,
    calls: usize,
    answer: impl Fn(&RequestHead) -> ReplyHead + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<RequestHead>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut heads = Vec::new();
        let mut peer = Peer::over(listener.accept().unwrap().0);
        peer.hello();
        if !is_late {
            peer.send(&hello);
        }
        while heads.len() < calls {
            match peer.said() {
                Said::Other(Head::Request(head)) => {
                    if is_late && heads.is_empty() {
                        peer.send(&hello);
                    }
                    let head_back = answer(&head);
                    peer.send(&bytes_of(|out| {
                        let mut frame = out.reply(&head_back, None);
                        frame.put_slice(&7u16.to_le_bytes());
                        frame.finish(u32::MAX).unwrap();
                    }));
                    heads.push(head);
                }
                other => panic!("a request was to come, not {other:?}"),
            }
        }
        heads
    });
    (address, thread)
}

fn well(head: &RequestHead) -> ReplyHead {
    ReplyHead { encoding: Encoding::plain(CodecId::SPEEDY), ..ReplyHead::ok(head.call) }
}

/// Calls `at` four times, one after the other.
async fn four_calls<C: Transport>(client: &WhereClient<C>) {
    for number in 0..4 {
        assert_eq!(client.at(1, format!("key {number}")).await, Ok(7));
    }
}

/// REQ-98, REQ-99: the key is stated towards a server with several shards that hashes keys, and not before its hello.
#[test]
fn req_98_99_the_key_is_stated_to_those_who_use_it() {
    let cases = [
        (Some((0, 4)), 1, true),
        (None, 1, true),
        (Some((0, 1)), 1, false),
        (Some((0, 4)), 0, false),
        // A hash that this client does not know.
        (Some((0, 4)), 2, false),
    ];
    for (shard, key_routing, is_stated) in cases {
        for kind in ["shard", "thread", "tokio", "blocking"] {
            let (to, heads) =
                fake(keyed_hello(Role::Server, shard, key_routing), kind == "shard", 4, well);
            call_four(kind, to);
            let heads = heads.join().unwrap();
            let keys: Vec<Option<u64>> = heads.iter().map(|head| head.key()).collect();
            let stated = |number: u32| is_stated.then(|| key_hash(&format!("key {number}")));
            let case = format!("{kind}: {shard:?}, {key_routing}");
            assert_eq!(keys[1..], [stated(1), stated(2), stated(3)], "{case}");
            // A shard's channel does not wait for the hello with its first call; others may.
            let first = if kind == "shard" { None } else { keys[0].and_then(|_| stated(0)) };
            assert_eq!(keys[0], first, "{case}");
        }
    }
}

fn call_four(kind: &str, to: SocketAddr) {
    let config = ChannelConfig::default();
    match kind {
        "shard" => client(move || async move {
            let channel = corewire::Channel::new(to, config).unwrap();
            four_calls(&WhereClient::new(channel)).await;
        }),
        "thread" => {
            let thread = ClientThread::start(ClientShard::default()).unwrap();
            block_on(four_calls(&WhereClient::new(thread.channel(to, config).unwrap())));
        }
        "tokio" => {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
                async {
                    let channel = corewire::SharedChannel::on_tokio(to, config).unwrap();
                    four_calls(&WhereClient::new(channel)).await;
                },
            );
        }
        _ => {
            let channel = corewire::blocking::Channel::new(to, config).unwrap();
            block_on(four_calls(&WhereClient::new(channel)));
        }
    }
}

/// REQ-101: what a reply says of a forward is told, and a channel that thought of another number of shards learns it.
#[test]
fn req_101_a_forward_is_told_and_another_number_of_shards_is_learnt() {
    let forwarded = Forwarded::new(2, 5);
    let answer = move |head: &RequestHead| ReplyHead { forwarded, ..well(head) };
    let (to, heads) = fake(keyed_hello(Role::Server, Some((0, 4)), 1), true, 2, answer);
    client(move || async move {
        let channel = ShardedChannel::new(to, ChannelConfig::default()).unwrap();
        let client = WhereClient::new(channel);
        assert_eq!(client.channel().shards(), None);
        let response = client.at(1, "first".into()).with_response().await.unwrap();
        assert_eq!((response.value, response.forwarded()), (7, forwarded));
        // The next call looks at what was learnt.
        let second = client.at(1, "second".into()).with_response();
        assert_eq!(client.channel().shards(), Some(5));
        assert_eq!(second.await.unwrap().forwarded(), forwarded);
    });
    heads.join().unwrap();
    // The opening of a stream says the same.
    let opening = move |head: &RequestHead| ReplyHead {
        flags: reply_flags::STREAM,
        forwarded,
        ..ReplyHead::ok(head.call)
    };
    let (to, heads) = fake(keyed_hello(Role::Server, Some((0, 4)), 1), true, 1, opening);
    client(move || async move {
        let channel = corewire::Channel::new(to, ChannelConfig::default()).unwrap();
        let response = WhereClient::new(channel).list(7).with_response().await.unwrap();
        assert_eq!(response.forwarded(), forwarded);
        assert!(response.metadata().is_empty());
    });
    heads.join().unwrap();
}

/// Calls of all kinds with many keys, all of which must run where their keys belong.
async fn calls_of_all_kinds<C>(client: &WhereClient<ShardedChannel<C>>, shards: u16)
where
    C: ShardMember + corewire::StreamTransport,
{
    use futures_lite::StreamExt;
    for number in 0..40_u64 {
        let key = format!("key {number}");
        let owner = owner_of_key(&key, shards).0;
        let response = client.at(1, key).with_response().await.unwrap();
        assert_eq!((response.value, response.forwarded()), (owner, None), "key {number}");
        let body = Bytes::from(number.to_le_bytes().to_vec());
        assert_eq!(client.raw(body).await, Ok(owner_of_key(&number, shards).0));
        client.note(number).await.unwrap();
        let owner = owner_of_key(&number, shards).0;
        let list: Vec<_> = client.list(number).await.unwrap().collect().await;
        assert_eq!(list, [Ok(owner), Ok(owner)]);
        let parts = C::from_stream(futures_lite::stream::iter([Ok(number), Ok(1)]));
        assert_eq!(client.load(number, parts).await, Ok((owner, number + 1)));
    }
}

/// REQ-102: once each shard has a connection, each call with a key runs on the shard of the connection that it came over.
#[test]
fn req_102_each_call_takes_the_connection_of_its_keys_owner() {
    for shards in [1, 2, 3] {
        let (server, notes) = serve("127.0.0.1:0", shards);
        let to = address(&server);
        client(move || async move {
            let channel = ShardedChannel::connect(to).await.unwrap();
            // Chance may leave one out, about once in 5,000 times.
            while !channel.reach().await.unwrap() {}
            assert_eq!(channel.shards(), Some(shards));
            assert_eq!(channel.reached(), usize::from(shards));
            calls_of_all_kinds(&WhereClient::new(channel.clone()), shards).await;
            channel.close().await;
            let closed = WhereClient::new(channel).at(1, "key".into()).await;
            assert_eq!(closed.unwrap_err().to_string(), "not sent: the channel was closed");
        });
        until("the notes", || notes.right.load(Ordering::SeqCst) == 40);
        assert_eq!(notes.wrong.load(Ordering::SeqCst), 0);
        until("what was not needed is closed", || {
            support::count(&server, |it| it.connections_open.value()) == 0
        });
        end(server);
    }
}

/// A channel for any thread reaches the shards while it is used.
async fn reach_by_calls(
    client: &WhereClient<ShardedChannel<corewire::SharedChannel>>,
    shards: u16,
) {
    // By chance it may miss one for good, about once in 30,000 times.
    for number in 0..100_000_u32 {
        client.at(1, number.to_string()).await.unwrap();
        if client.channel().reached() == usize::from(shards) {
            return;
        }
    }
    panic!("{:?} does not reach all", client.channel());
}

#[test]
fn channels_for_any_thread_reach_the_shards_while_they_are_used() {
    let (server, _) = serve("127.0.0.1:0", 2);
    let to = address(&server);
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = ShardedChannel::on_thread(&thread, to, ChannelConfig::default()).unwrap();
    let client = WhereClient::new(channel);
    block_on(reach_by_calls(&client, 2));
    block_on(calls_of_all_kinds(&client, 2));
    // From several threads at once.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| block_on(calls_of_all_kinds(&client, 2)));
        }
    });
    let owner = owner_of_key("key", 2).0;
    assert_eq!(client.at(1, "key".into()).wait(), Ok(owner));
    let (tell, told) = std::sync::mpsc::channel();
    client.at(1, "key".into()).then(move |outcome| tell.send(outcome).unwrap());
    assert_eq!(told.recv().unwrap(), Ok(owner));
    block_on(client.channel().close());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = ShardedChannel::on_tokio(to, ChannelConfig::default()).unwrap();
        let client = WhereClient::new(channel);
        reach_by_calls(&client, 2).await;
        calls_of_all_kinds(&client, 2).await;
        client.channel().close().await;
    });
    end(server);
}

/// Calls without a key go where the fewest are in flight, so both shards have some.
#[test]
fn calls_without_a_key_are_spread() {
    let (server, _) = serve("127.0.0.1:0", 2);
    let to = address(&server);
    let counts = client(move || async move {
        let channel = ShardedChannel::connect(to).await.unwrap();
        while !channel.reach().await.unwrap() {}
        let client = WhereClient::new(channel);
        let mut counts = [0; 2];
        for _ in 0..20 {
            counts[usize::from(client.anywhere().await.unwrap())] += 1;
        }
        counts
    });
    assert_eq!(counts, [10, 10]);
    end(server);
}

/// The server comes back with another number of shards: the channel learns it, and calls run where their keys belong.
#[test]
fn a_server_that_comes_back_with_more_shards_is_learnt() {
    let (server, _) = serve("127.0.0.1:0", 2);
    let to = address(&server);
    let (is_up, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tell_up, wait_again) = (Arc::clone(&is_up), Arc::clone(&again));
    let caller = std::thread::spawn(move || {
        client(move || async move {
            let config = ChannelConfig {
                backoff_min: std::time::Duration::from_millis(1),
                backoff_max: std::time::Duration::from_millis(50),
                ..ChannelConfig::default()
            };
            let channel = ShardedChannel::connect_with(to, config).await.unwrap();
            while !channel.reach().await.unwrap() {}
            let client = WhereClient::new(channel);
            calls_of_all_kinds(&client, 2).await;
            tell_up.store(true, Ordering::SeqCst);
            while !wait_again.load(Ordering::SeqCst) {
                corewire::sleep(std::time::Duration::from_millis(1)).await;
            }
            let begun = std::time::Instant::now();
            // Each call finds its connection gone, or where it leads now.
            for number in 0.. {
                let _ = client.at(1, number.to_string()).await;
                let channel = client.channel();
                if channel.shards() == Some(3) && channel.reached() == 3 {
                    break;
                }
                if number % 200 == 199 {
                    let _ = channel.reach().await;
                }
                assert!(begun.elapsed() < support::PATIENCE, "{channel:?}");
            }
            calls_of_all_kinds(&client, 3).await;
        });
    });
    until("the first server was used", || is_up.load(Ordering::SeqCst) || caller.is_finished());
    end(server);
    let (server, _) = serve(&to.to_string(), 3);
    again.store(true, Ordering::SeqCst);
    caller.join().unwrap();
    end(server);
}
