//! What callers that give up, and readers that do not read, leave in a server: nothing, and no more than
//! their window.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Limits, StatusCode, spawn};
use corewire_codec::{
    ConnectionCredit, Hello, HelloRecords, MethodId, RequestHead, Role, StreamCredit, VERSION,
    request_flags,
};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::child::{ServerChild, role, serve};
use support::peer::{Peer, bytes_of, request_with};
use support::service::SubjectClient;
use support::streams::{FeedClient, feed};
use support::{address, builder, client, count, end, until};

/// The children's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    if role().is_some() {
        serve(builder(1))
    }
}

/// 20,000 calls whose time is over long before their handlers are done, thousands at a time.
#[test]
fn many_expired_calls_leave_nothing_behind() {
    const CONNECTIONS: usize = 4;
    const SLOTS: usize = 1000;
    const CALLS: usize = 10_000;
    /// What a second round may add to the server's memory.
    const KEPT_MAX: u64 = 1 << 20;
    const TIMEOUT: Duration = Duration::from_millis(50);
    let mut server = ServerChild::start("child", "server");
    let to = server.address();
    let mut rss = Vec::new();
    for _ in 0..2 {
        client(move || async move {
            let left = Rc::new(Cell::new(CALLS));
            let mut slots = Vec::new();
            for _ in 0..CONNECTIONS {
                let plain = SubjectClient::connect(to).await.unwrap();
                for _ in 0..SLOTS {
                    let (left, client) = (Rc::clone(&left), plain.clone().with_timeout(TIMEOUT));
                    slots.push(spawn(async move {
                        while left.get() > 0 {
                            left.set(left.get() - 1);
                            let begun = Instant::now();
                            let outcome = client.after(10_000).await;
                            let took = begun.elapsed();
                            let code = outcome.unwrap_err().code();
                            assert_eq!(code, StatusCode::DeadlineExceeded);
                            assert!(took < Duration::from_secs(8), "{took:?}: the handler's time");
                        }
                    }));
                }
                // The connection serves others at the same time.
                assert_eq!(plain.add(1, 2).await, Ok(3));
            }
            for slot in slots {
                slot.await;
            }
        });
        until("every handler is dropped, and every connection gone", || {
            let counters = server.counters();
            let left = ["calls_pending", "held_bytes", "connections_open"].map(|it| counters[it]);
            left == [0; 3]
        });
        rss.push(server.rss());
    }
    // Nearly all of them were in their handlers: what is over at the client may never be sent.
    assert!(server.counters()["calls_dropped"] > CALLS as u64, "{:?}", server.counters());
    assert!(rss[1] <= rss[0] + KEPT_MAX, "{rss:?} bytes of memory");
    Peer::polite(to).assert_serves(1);
}

/// A reader that takes nothing: its sender is ahead by its window, what waits to be sent, and one message
/// each; and its connection answers any number of other calls meanwhile.
#[test]
fn a_stream_that_nobody_reads_holds_its_window_and_no_call() {
    const BYTES: u32 = 8192;
    let (server, seen) = feed();
    let to = address(&server);
    let window = u64::from(Limits::default().stream_window());
    client(move || async move {
        let feed = FeedClient::connect(to).await.unwrap();
        let mut streams = Vec::new();
        for open in 1..=10 {
            streams.push(feed.flood(u64::MAX, BYTES).await.unwrap());
            for number in 0..300 {
                assert_eq!(feed.add(number, 1).await, Ok(number + 1));
            }
            let (ahead, each) =
                (seen.made() * u64::from(BYTES), window + 32 * 1024 + 2 * u64::from(BYTES));
            assert!(ahead <= open * each, "{ahead} bytes for {open} readers of nothing");
            assert!(ahead >= open * window, "{ahead} bytes do not fill {open} windows");
        }
        drop(streams);
        support::streams::eventually("the streams are gone", || seen.ended() == seen.begun()).await;
    });
    end(server);
}

/// The same with a peer that grants a gigabyte and does not read its socket: what the server holds is
/// bounded by what it keeps itself, not by what it may send.
#[test]
fn credit_without_reading_does_not_fill_the_server() {
    const BYTES: u32 = 64 * 1024;
    let (server, seen) = feed();
    let limits = Limits {
        stream_credit: StreamCredit::MAX,
        connection_credit: ConnectionCredit::MAX,
        ..Limits::default()
    };
    let records = HelloRecords { limits, codecs: 3, ..HelloRecords::default() };
    let mut peer = Peer::silent(address(&server));
    peer.send(&bytes_of(|out| out.hello(&Hello { version: VERSION, role: Role::Client, records })));
    peer.hello();
    let mut head = RequestHead::new(1, MethodId::of("Feed", "flood"));
    head.flags |= request_flags::STREAM_OUT;
    let mut body = u64::MAX.to_le_bytes().to_vec();
    body.extend(BYTES.to_le_bytes());
    head.encoding = corewire_codec::Encoding::plain(corewire_codec::CodecId::SPEEDY);
    peer.send(&request_with(&head, &body));
    // The sockets take what they have room for; then nothing more is made.
    let (mut made, mut since) = (0, Instant::now());
    until("the sender waits", || {
        if seen.made() != made {
            (made, since) = (seen.made(), Instant::now());
        }
        made > 0 && since.elapsed() > Duration::from_millis(300)
    });
    let held = made * u64::from(BYTES) - count(&server, |it| it.bytes_sent.value());
    assert!(held < 512 * 1024, "{held} bytes are held for a peer that does not read");
    // Others are served.
    Peer::polite(address(&server));
    drop(peer);
    until("the stream is dropped", || seen.ended() == seen.begun());
    end(server);
}
