//! 20,000 hostile connections at a running server, and a good client that notices none of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, Timeouts};
use corewire_codec::{CancelReason, MethodId, RequestHead};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::child::{ServerChild, role, serve};
use support::peer::{Peer, bytes_of, header, hello, request, request_with};
use support::service::SubjectClient;
use support::{PATIENCE, Random, builder, client, until};

const THREADS: u64 = 4;
const EACH: usize = 5_000;
/// Rounds that are not counted: memory reaches its height in the first.
const ROUNDS: u64 = 2;
/// Hostile connections that each thread leaves open: those that say nothing, trickle, or never read.
const OPEN_MAX: usize = 60;

/// The child's `main`; as a test of its own it has nothing to do. It listens on several addresses
/// because 20,000 connections to one would use up a client's ports.
#[test]
fn child() {
    if role().is_none() {
        return;
    }
    let short = Duration::from_millis(500);
    let timeouts = Timeouts { hello: short, frame: short, write: short, ..Timeouts::default() };
    let builder = builder(2).timeouts(timeouts);
    serve(builder.address("127.0.0.2:0").address("127.0.0.3:0").address("127.0.0.4:0"))
}

/// A session as a good client would have it.
fn session(random: &mut Random) -> Vec<u8> {
    let mut bytes = hello();
    for call in 0..4 {
        bytes.extend(match random.below(6) {
            0 => request(call, "add", &[1, 0, 0, 0, 2, 0, 0, 0]),
            1 => request(call, "later", &[7, 0, 0, 0]),
            2 => request(call, "never", b""),
            3 => bytes_of(|out| out.ping(9)),
            4 => bytes_of(|out| out.cancel(0, CancelReason::Dropped)),
            _ => request(call, "echo", &[5; 300]),
        });
    }
    bytes
}

/// How a hostile connection ends on the client's side.
enum Then {
    Close,
    Reset,
    /// Closes its sending side and reads to the end, which must come.
    ReadOn,
    /// Stays open for a while.
    Stay,
}

/// One hostile connection's bytes, and its end.
fn hostile(random: &mut Random) -> (Vec<u8>, Then) {
    let ends = |random: &mut Random| match random.below(4) {
        0 => Then::Close,
        1 => Then::Reset,
        _ => Then::ReadOn,
    };
    let behind_hello = |bytes: &[u8]| [&hello(), bytes].concat();
    let kind = random.below(16);
    let bytes = match kind {
        0 => {
            let count = random.below(2000);
            random.bytes(count)
        }
        1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        2 => {
            let mut bytes = hello();
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            bytes[at] ^= 1 << bit;
            bytes
        }
        3 => {
            let mut bytes = hello();
            bytes.truncate(random.below(bytes.len()));
            bytes
        }
        4 => {
            let mut bytes = hello();
            bytes[4] = 2 + u8::try_from(random.below(200)).unwrap();
            bytes
        }
        5..=7 => {
            let mut bytes = session(random);
            for _ in 0..=random.below(8) {
                let (at, bit) = (random.below(bytes.len()), random.below(8));
                bytes[at] ^= 1 << bit;
            }
            bytes
        }
        8 => behind_hello(&header(u32::MAX - u32::try_from(random.below(1 << 20)).unwrap())),
        9 => {
            let mut bytes = header(0);
            bytes[5] |= 0x80;
            behind_hello(&bytes)
        }
        10 => behind_hello(&[request(3, "never", b""), request(3, "never", b"")].concat()),
        11 => behind_hello(&request(0xffff, "echo", b"")),
        12 => {
            let mut head = RequestHead::new(1, MethodId::of("Subject", "shapes"));
            head.encoding = corewire_codec::Encoding::plain(corewire_codec::CodecId::SPEEDY);
            let count = random.below(5000);
            behind_hello(&request_with(&head, &random.bytes(count)))
        }
        // Half of a large frame.
        13 => behind_hello(&[&header(1 << 20)[..], &random.bytes(3000)].concat()),
        14 => Vec::new(),
        // Many replies that nobody reads.
        _ => {
            let blob = (128 * 1024u32).to_le_bytes();
            let calls: Vec<u8> = (0..64).flat_map(|call| request(call, "blob", &blob)).collect();
            return (
                behind_hello(&calls),
                if random.below(4) == 0 { Then::Stay } else { Then::Reset },
            );
        }
    };
    let stays = matches!(kind, 3 | 13 | 14) && random.below(3) == 0;
    (bytes, if stays { Then::Stay } else { ends(random) })
}

/// Reads until the server closes. That it does is the point: no connection may hang.
fn read_to_end(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).ok();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::ConnectionReset => return,
                kind => panic!("the server keeps a connection whose client has closed: {kind}"),
            },
        }
    }
}

/// Makes `connections` hostile connections.
fn attack(to: &[SocketAddr], seed: u64, connections: usize) {
    let mut random = Random(seed);
    let mut open = VecDeque::new();
    for index in 0..connections {
        let mut peer = Peer::silent(to[index % to.len()]);
        let (bytes, then) = hostile(&mut random);
        if random.below(50) == 0 {
            // A byte at a time.
            peer.stream.set_nodelay(true).unwrap();
            bytes.iter().take(20).for_each(|byte| peer.send(&[*byte]));
        } else {
            peer.send(&bytes);
        }
        match then {
            Then::Close => {}
            Then::Reset => peer.reset(),
            Then::ReadOn => read_to_end(peer.stream),
            Then::Stay => open.push_back(peer),
        }
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
    }
}

fn attack_from_all_sides(to: &[SocketAddr], seed: u64, each: usize) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || attack(to, seed + 0x9e37_79b9 * (thread + 1), each));
        }
    });
}

/// Calls until it is told to stop; returns how many calls it made, all of which were right.
fn good_client(to: SocketAddr, stop: &'static AtomicBool) -> u32 {
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let mut calls = 0;
        while !stop.load(Ordering::Relaxed) {
            let body =
                Bytes::from(vec![u8::try_from(calls % 251).unwrap(); 100 + calls as usize % 5000]);
            assert_eq!(client.echo(body.clone()).await.unwrap(), body);
            assert_eq!(client.later(calls).await.unwrap(), calls);
            calls += 2;
        }
        calls
    })
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures are what is asked for")]
fn twenty_thousand_hostile_connections() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut server = ServerChild::start("child", "server");
    let to = server.addresses.clone();
    let good: Vec<_> = [to[0], to[1]]
        .map(|to| std::thread::spawn(move || good_client(to, &STOP)))
        .into_iter()
        .collect();
    let quiet = |server: &mut ServerChild| {
        until("only the good ones are left", || server.counters()["connections_open"] == 2);
        server.rss()
    };
    let fresh = quiet(&mut server);
    eprintln!("fresh: {fresh}");
    // What the server makes once and keeps (buffers, tables, the allocator's own) is not counted.
    for round in 1..=ROUNDS {
        attack_from_all_sides(&to, round << 20, EACH);
        eprintln!("after warming up {round}: {}", quiet(&mut server));
    }
    let before = quiet(&mut server);
    let seen = server.counters();
    let start = std::time::Instant::now();
    attack_from_all_sides(&to, 1 << 40, EACH);
    let took = start.elapsed();
    let after = quiet(&mut server);
    let counters = server.counters();
    assert!(server.is_running());
    let accepted = counters["connections_accepted"] - seen["connections_accepted"];
    let faulted = counters["connections_faulted"] - seen["connections_faulted"];
    STOP.store(true, Ordering::Relaxed);
    let calls: Vec<u32> = good.into_iter().map(|good| good.join().unwrap()).collect();
    eprintln!(
        "20,000 hostile connections in {took:.1?}: {faulted} faults, {calls:?} good calls meanwhile, server RSS {before} → {after}"
    );
    assert_eq!(accepted, THREADS * EACH as u64);
    assert!(faulted > accepted / 4, "{faulted} of {accepted}");
    assert!(calls.iter().all(|&calls| calls > 100), "{calls:?}");
    assert_eq!(counters["panics"], 0);
    // 4 MiB for 20,000 connections are 200 bytes each: less than anything that a connection owns, so
    // a leak of one object per connection, or per fault of one kind in ten, would show. What remains
    // is fragmentation and entries of timers that are not due yet (24 bytes each, for a minute).
    assert!(after < before + (4 << 20), "{before} → {after}");
    // And it is back to where it was before the first of them, but for what is kept on purpose: at
    // most 64 receive buffers of 132 KiB on each of the two shards, of which one flood fills some.
    assert!(after < fresh + (16 << 20) + (4 << 20), "{fresh} → {after}");
}
