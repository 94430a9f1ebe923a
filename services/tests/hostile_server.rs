//! What a client makes of a server that says anything, over real sockets: the go-away with the
//! documented rule, calls that each end once, and nothing at all on its other connections.
//!
//! Names cite the requirements of `docs/PROTOCOL.md`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Bytes, CallError, Channel, ChannelConfig, ClientShard, ClientThread, SharedChannel, StatusCode,
    Streaming, Timeouts, blocking, spawn,
};
use corewire_codec::{
    CancelReason, CodecId, Encoding, Head, ReplyHead, RequestHead, Role, Rule, StatusCode as Code,
    reply_flags,
};
use futures_lite::future::block_on;
use futures_lite::stream;
use std::cell::Cell;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::peer::{
    Peer, Said, bytes_of, credit, data, hello_of, least_limits, metadata, request, stream_end,
};
use support::service::SubjectClient;
use support::streams::{FeedClient, eventually, feed};
use support::{address, client, end, until};

/// The least credit of a stream, and how many streams use up that of a connection.
const STREAM: usize = 16 * 1024;
const STREAMS: u32 = 4;
/// What a message costs in addition to its body.
const FRAME: usize = 16;
/// What a sender makes ahead of its credit, in addition to one message.
const OUTBOX: usize = 32 * 1024;

/// A hostile server.
struct Hostile<T> {
    address: SocketAddr,
    /// Whether its script is over. Clients that end before it is would tell it nothing.
    over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

/// A server that takes one connection, says its hello, and then what `script` says.
fn serve<T: Send + 'static>(script: impl FnOnce(&mut Peer) -> T + Send + 'static) -> Hostile<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        let mut peer = Peer::over(listener.accept().unwrap().0);
        drop(listener);
        assert_eq!(peer.hello().role, Role::Client);
        peer.send(&hello_of(Role::Server, least_limits()));
        let outcome = script(&mut peer);
        told.store(true, Ordering::SeqCst);
        outcome
    });
    Hostile { address, over, thread }
}

/// The next request's call id; credit that is granted meanwhile is no matter.
#[track_caller]
fn asked(peer: &mut Peer) -> u32 {
    loop {
        match peer.said() {
            Said::Other(Head::Request(request)) => return request.call,
            Said::Other(Head::Credit(_)) => {}
            said => panic!("a request was to come, not {said:?}"),
        }
    }
}

fn reply(head: &ReplyHead, body: &[u8]) -> Vec<u8> {
    bytes_of(|out| {
        let mut frame = out.reply(head, None);
        frame.put_slice(body);
        frame.finish(u32::MAX).unwrap();
    })
}

fn opening(call: u32) -> Vec<u8> {
    reply(&ReplyHead { flags: reply_flags::STREAM, ..ReplyHead::ok(call) }, b"")
}

/// What `add` gives for 1 and 2.
fn sum(call: u32) -> Vec<u8> {
    let encoding = Encoding::plain(CodecId::SPEEDY);
    reply(&ReplyHead { encoding, ..ReplyHead::ok(call) }, &[3, 0, 0, 0])
}

/// A client with the least windows.
async fn over(to: SocketAddr) -> FeedClient {
    let mut config = ChannelConfig::default();
    config.connection.limits = least_limits();
    FeedClient::new(Channel::connect_with(to, config).await.unwrap())
}

/// Runs `calls` with a client of the hostile server, alongside a client of a good one; returns what
/// the script gave.
#[track_caller]
fn beside_a_good_one<F, T>(hostile: Hostile<T>, calls: impl FnOnce(FeedClient) -> F + 'static) -> T
where
    F: Future<Output = ()> + 'static,
{
    let (server, _) = feed();
    let (good, to) = (address(&server), hostile.address);
    client(move || async move {
        let good = FeedClient::connect(good).await.unwrap();
        let numbers = Streaming::from_stream(stream::iter([Ok(2), Ok(3)]));
        let mut answers = good.double(1, numbers).await.unwrap();
        assert_eq!(answers.next().await, Some(Ok(5)));
        let feed = over(to).await;
        calls(feed.clone()).await;
        eventually("the script is over", || hostile.over.load(Ordering::SeqCst)).await;
        assert_eq!(answers.next().await, Some(Ok(7)));
        assert_eq!(good.add(1, 2).await, Ok(3));
    });
    end(server);
    hostile.thread.join().unwrap()
}

/// With a call of `flood` open, to which `frames` are said and whose reader waits, the client turns the
/// server away with `rule`; the call ends once, and the connection of the good server goes on.
#[track_caller]
fn assert_rule(rule: Rule, frames: impl FnOnce(u32) -> Vec<u8> + Send + 'static) {
    let hostile = serve(move |peer| {
        let call = asked(peer);
        peer.send(&opening(call));
        peer.send(&frames(call));
        peer.assert_turned_away(rule);
    });
    let over = Arc::clone(&hostile.over);
    beside_a_good_one(hostile, |feed| async move {
        let mut stream = feed.flood(1, 1).await.unwrap();
        eventually("the server is turned away", || over.load(Ordering::SeqCst)).await;
        let last = loop {
            match stream.next().await.expect("an end that is no success") {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert_eq!(last.code(), StatusCode::Unavailable, "{last}");
        assert!(stream.next().await.is_none());
        assert!(feed.add(1, 2).await.is_err(), "nobody is there any more");
    });
}

#[test]
fn req_52_a_stream_over_its_credit() {
    assert_rule(Rule::CreditOverdrawn, |call| {
        [data(call, &[1; STREAM - FRAME], false), data(call, b"", false)].concat()
    });
}

/// Messages without a byte cost, too, and use up a window.
#[test]
fn req_52_empty_messages_without_end() {
    assert_rule(Rule::CreditOverdrawn, |call| {
        (0..=STREAM / FRAME).flat_map(|_| data(call, b"", false)).collect()
    });
}

/// Five streams share a credit that lasts for four.
#[test]
fn req_52_streams_over_the_credit_of_their_connection() {
    let hostile = serve(|peer| {
        let calls: Vec<u32> = (0..=STREAMS).map(|_| asked(peer)).collect();
        for call in &calls {
            peer.send(&opening(*call));
        }
        for call in &calls[..4] {
            peer.send(&data(*call, &[1; STREAM - FRAME], false));
        }
        peer.send(&data(calls[4], b"", false));
        peer.assert_turned_away(Rule::CreditOverdrawn);
    });
    let over = Arc::clone(&hostile.over);
    beside_a_good_one(hostile, |feed| async move {
        let calls: Vec<_> = (0..=STREAMS)
            .map(|_| {
                let feed = feed.clone();
                spawn(async move { feed.flood(1, 1).await })
            })
            .collect();
        let mut streams = Vec::new();
        for call in calls {
            streams.push(call.await.unwrap());
        }
        // Nobody reads until it is over.
        eventually("the server is turned away", || over.load(Ordering::SeqCst)).await;
        for stream in &mut streams[..4] {
            assert_eq!(stream.next().await.unwrap().unwrap().len(), STREAM - FRAME);
        }
        for stream in &mut streams {
            let last = stream.next().await.unwrap().unwrap_err();
            assert_eq!(last.code(), StatusCode::Unavailable);
        }
    });
}

#[test]
fn req_53_grants_that_no_counter_holds() {
    assert_rule(Rule::BadCredit, |_| credit(None, u32::MAX));
    assert_rule(Rule::BadCredit, |call| credit(Some(call), u32::MAX));
    assert_rule(Rule::BadCredit, |call| {
        let mut nothing = credit(Some(call), 1);
        nothing[12] = 0;
        nothing
    });
}

/// A server ends its half with a status; messages and ends behind it are of no stream.
#[test]
fn req_54_data_and_ends_behind_the_end() {
    for again in [|call| data(call, b"", false), |call| stream_end(call, None)] {
        let hostile = serve(move |peer| {
            let call = asked(peer);
            peer.send(&[opening(call), data(call, b"one", false), stream_end(call, None)].concat());
            peer.send(&again(call));
            peer.assert_turned_away(Rule::UnknownStream);
        });
        beside_a_good_one(hostile, |feed| async move {
            let mut stream = feed.flood(1, 1).await.unwrap();
            assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(b"one"))));
            assert_eq!(stream.next().await, None, "it had ended well before");
        });
    }
}

/// A call never made, one of another generation, and a call that streams the other way.
#[test]
fn req_54_streams_that_there_are_not() {
    for other in [1, 1 << 16, 0x8000, u32::MAX] {
        assert_rule(Rule::UnknownStream, move |call| data(call ^ other, b"x", false));
        assert_rule(Rule::UnknownStream, move |call| stream_end(call ^ other, None));
    }
    for frame in [|call| data(call, b"x", false), |call| stream_end(call, None)] {
        let hostile = serve(move |peer| {
            let call = asked(peer);
            peer.send(&frame(call));
            peer.assert_turned_away(Rule::UnknownStream);
        });
        beside_a_good_one(hostile, |feed| async move {
            let (_kept, parts) = Streaming::channel();
            assert!(matches!(feed.ignore(parts).await, Err(CallError::Unknown(_))));
        });
    }
}

/// Replies to nobody, a second opening, and one that is not Ok.
#[test]
fn req_41_44_replies_that_nobody_waits_for() {
    assert_rule(Rule::UnknownReply, |call| reply(&ReplyHead::ok(call ^ 7), b""));
    assert_rule(Rule::UnknownReply, |call| reply(&ReplyHead::ok(call ^ 1 << 16), b""));
    assert_rule(Rule::UnknownReply, opening);
    assert_rule(Rule::UnknownReply, |call| {
        let head =
            ReplyHead { flags: reply_flags::STREAM, code: Code::Internal, ..ReplyHead::ok(call) };
        reply(&head, b"")
    });
}

/// At the client's bound it is taken, one byte over it is not.
#[test]
fn req_21_metadata_over_its_bound() {
    assert_rule(Rule::BadMetadata, |call| stream_end(call, Some(&metadata(1025))));
    let with = |call, bytes| {
        bytes_of(|out| {
            out.reply(&ReplyHead::ok(call), Some(&metadata(bytes))).finish(u32::MAX).unwrap()
        })
    };
    let hostile = serve(move |peer| {
        let call = asked(peer);
        peer.send(&with(call, 1024));
        let call = asked(peer);
        peer.send(&with(call, 1025));
        peer.assert_turned_away(Rule::BadMetadata);
    });
    beside_a_good_one(hostile, |feed| async move {
        // Its body is empty, which is not what the call should give; its metadata was all right.
        assert!(matches!(feed.add(1, 2).await, Err(CallError::Decode(_))));
        assert!(matches!(feed.add(1, 2).await, Err(CallError::Unknown(_))));
    });
}

/// A cancel, or a request, is a client's to send, whatever call it names.
#[test]
fn req_24_55_cancels_and_requests_from_a_server() {
    for other in [0, 9, u32::MAX] {
        assert_rule(Rule::WrongDirection, move |call| {
            bytes_of(|out| out.cancel(call ^ other, CancelReason::Dropped))
        });
    }
    assert_rule(Rule::WrongDirection, |call| request(call, "echo", b""));
}

/// Zero is over before the call begins, as the server says; a thousand years, and what no clock can
/// count, are far.
#[test]
fn req_34_timeouts_at_their_ends() {
    let thousand_years = Duration::from_secs(1_000 * 365 * 86_400);
    let hostile = serve(move |peer| {
        let mut timeouts = Vec::new();
        while timeouts.len() < 3 {
            match peer.said() {
                // It says nothing to the call whose time is over: its caller knows.
                Said::Other(Head::Request(RequestHead { timeout_us: Some(0), .. })) => {}
                Said::Other(Head::Request(request)) => {
                    timeouts.push(request.timeout_us);
                    peer.send(&sum(request.call));
                }
                Said::Other(Head::Cancel { reason: CancelReason::Deadline, .. }) => {}
                said => panic!("{said:?}"),
            }
        }
        timeouts
    });
    let timeouts = beside_a_good_one(hostile, move |feed| async move {
        let late = feed.clone().with_timeout(Duration::ZERO).add(1, 2).await.unwrap_err();
        assert_eq!(late.code(), StatusCode::DeadlineExceeded);
        for far in [thousand_years, Duration::from_micros(u64::MAX), Duration::MAX] {
            assert_eq!(feed.clone().with_timeout(far).add(1, 2).await, Ok(3), "{far:?}");
        }
    });
    let least = u64::try_from(thousand_years.as_micros()).unwrap() - 60_000_000;
    assert!(timeouts.iter().all(|us| us.is_some_and(|us| us > least)), "{timeouts:?}");
    assert_eq!(timeouts[2], Some(u64::MAX));
}

/// A server that never grants: what its hello grants is sent, calls go on, and deadlines end what waits.
#[test]
fn req_73_a_server_that_never_grants() {
    const BYTES: usize = 1000;
    let hostile = serve(|peer| {
        let (mut messages, mut adds) = (0, 0);
        while adds < 101 {
            match peer.said() {
                Said::Other(Head::StreamData(_)) => messages += 1,
                // Of all requests, those that do not stream are answered.
                Said::Other(Head::Request(RequestHead { call, flags, .. })) if flags & 6 == 0 => {
                    peer.send(&sum(call));
                    adds += 1;
                }
                Said::Other(_) => {}
                said => panic!("{said:?}"),
            }
        }
        messages
    });
    let made = Rc::new(Cell::new(0));
    let messages = beside_a_good_one(hostile, |feed| async move {
        let started = Instant::now();
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (feed, made) =
                    (feed.clone().with_timeout(Duration::from_millis(300)), Rc::clone(&made));
                let parts = Streaming::from_stream(stream::repeat_with(move || {
                    made.set(made.get() + 1);
                    Ok(Bytes::from_static(&[3; BYTES]))
                }));
                spawn(async move { feed.ignore(parts).await })
            })
            .collect();
        for _ in 0..100 {
            assert_eq!(feed.add(1, 2).await, Ok(3));
        }
        for call in calls {
            let late = call.await.unwrap_err();
            assert_eq!(late, CallError::DeadlineExceeded { sent: true });
        }
        assert!(started.elapsed() >= Duration::from_millis(300));
        assert_eq!(feed.add(1, 2).await, Ok(3));
        let credit = STREAMS as usize * STREAM / (BYTES + FRAME) + 8;
        let most = credit + 8 * (OUTBOX / BYTES + 1);
        assert!(made.get() <= most, "{} made for a credit of {credit}", made.get());
    });
    let most = (STREAMS as usize * STREAM).div_ceil(BYTES + FRAME);
    assert!((1..=most).contains(&messages), "{messages}, and {most} were granted");
}

/// A server that answers no stream and is not there any more: the client gives it up.
#[test]
fn req_73_a_server_that_never_grants_and_falls_silent() {
    let hostile = serve(|peer| {
        asked(peer);
        // It reads no more, and holds its end open until the client closes it.
        loop {
            match peer.said() {
                Said::End | Said::Reset => return,
                _ => {}
            }
        }
    });
    let to = hostile.address;
    client(move || async move {
        let short = Duration::from_millis(200);
        let mut config = ChannelConfig::default();
        config.connection.timeouts =
            Timeouts { ping_after: short, ping: short, ..Timeouts::default() };
        let feed = FeedClient::new(Channel::connect_with(to, config).await.unwrap());
        let parts =
            Streaming::from_stream(stream::repeat_with(|| Ok(Bytes::from_static(&[3; 999]))));
        let outcome = feed.ignore(parts).await;
        assert!(matches!(outcome, Err(CallError::Unknown(_))), "{outcome:?}");
    });
    hostile.thread.join().unwrap();
}

/// Callers outside a shard have drivers of their own: each ends the call and the connection.
#[test]
fn every_kind_of_client_turns_a_server_away() {
    type Frame = fn(u32) -> Vec<u8>;
    let faults: [(Frame, Rule); 4] = [
        (|call| data(call, b"x", false), Rule::UnknownStream),
        (|call| sum(call ^ 1 << 16), Rule::UnknownReply),
        (|call| bytes_of(|out| out.cancel(call, CancelReason::Dropped)), Rule::WrongDirection),
        (|_| credit(None, u32::MAX), Rule::BadCredit),
    ];
    for (frame, rule) in faults {
        let turned_away_by = |call: fn(&Hostile<()>) -> Result<u32, CallError>| {
            let hostile = serve(move |peer| {
                let call = asked(peer);
                peer.send(&frame(call));
                peer.assert_turned_away(rule);
            });
            assert!(matches!(call(&hostile), Err(CallError::Unknown(_))), "{rule}");
            hostile.thread.join().unwrap();
        };
        turned_away_by(|hostile| {
            let thread = ClientThread::start(ClientShard::default()).unwrap();
            let channel = thread.channel(hostile.address, ChannelConfig::default()).unwrap();
            let outcome = block_on(SubjectClient::new(channel).add(1, 2));
            until("the script is over", || hostile.over.load(Ordering::SeqCst));
            outcome
        });
        turned_away_by(|hostile| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (to, config) = (hostile.address, ChannelConfig::default());
                let client = SubjectClient::new(SharedChannel::on_tokio(to, config).unwrap());
                let outcome = client.add(1, 2).await;
                while !hostile.over.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
                outcome
            })
        });
        turned_away_by(|hostile| {
            let (to, config) = (hostile.address, ChannelConfig::default());
            SubjectClient::new(blocking::Channel::new(to, config).unwrap()).add(1, 2).wait()
        });
    }
}

/// What breaks a rule between two calls is found by the second, and the server is told of it all the same.
#[test]
fn a_blocking_client_turns_a_server_away_between_calls() {
    let (tell, told) = std::sync::mpsc::channel();
    let hostile = serve(move |peer| {
        let call = asked(peer);
        peer.send(&sum(call));
        peer.send(&credit(None, u32::MAX));
        tell.send(()).unwrap();
        peer.assert_turned_away(Rule::BadCredit);
    });
    let channel = blocking::Channel::connect(hostile.address).unwrap();
    let client = SubjectClient::new(channel);
    assert_eq!(client.add(1, 2).wait(), Ok(3));
    told.recv().unwrap();
    // It connects again, and nobody listens there any more.
    let error = client.add(1, 2).wait().unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    hostile.thread.join().unwrap();
}

/// A server that falls silent breaks a rule, too.
#[test]
fn a_blocking_client_turns_a_silent_server_away() {
    let hostile = serve(|peer| {
        asked(peer);
        loop {
            match peer.said() {
                Said::Other(Head::Ping(_)) => {}
                Said::GoAway(go_away, _) => break go_away.rule,
                said => panic!("{said:?}"),
            }
        }
    });
    let short = Duration::from_millis(100);
    let mut config = ChannelConfig::default();
    config.connection.timeouts = Timeouts { ping_after: short, ping: short, ..Timeouts::default() };
    let client = SubjectClient::new(blocking::Channel::new(hostile.address, config).unwrap());
    let error = client.add(1, 2).wait().unwrap_err();
    assert!(matches!(error, CallError::Unknown(_)), "{error:?}");
    assert_eq!(hostile.thread.join().unwrap(), Rule::PingTimeout.number());
}
