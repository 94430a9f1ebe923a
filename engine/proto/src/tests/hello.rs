//! The hello and what is agreed in it.

use super::pair::{Pair, Serve, bytes, in_flight, misbehaved, put_request, said, secs};
use crate::client::NoSlot;
use crate::close::CloseReason;
use crate::config::{ClientConfig, ServerConfig, Timeouts};
use corewire_codec::{
    CodecId, Foreign, FrameBytes, Hello, HelloRecords, MethodId, RequestHead, Role, Rule, VERSION,
};

fn hello_bytes(version: u8, role: Role) -> Vec<u8> {
    bytes(|out| out.hello(&Hello { version, role, records: HelloRecords::default() }))
}

/// REQ-2 to REQ-5: each side learns what the other accepts.
#[test]
fn both_sides_learn_the_other() {
    let mut config = in_flight(100);
    config.limits.frame_bytes = FrameBytes::new(100_000).unwrap();
    (config.shard, config.shards) = (2, 5);
    config.timeouts.idle = Some(secs(90));
    let mut client = ClientConfig::default();
    client.limits.frame_bytes = FrameBytes::new(70_000).unwrap();
    let mut pair = Pair::with(config, client);
    assert!(!pair.client.conn.is_ready());
    assert_eq!(pair.server.conn.peer_frame_bytes_max(), 65_536);
    pair.settle();
    let peer = pair.client.conn.peer();
    assert_eq!(peer.limits, config.limits);
    assert_eq!((peer.shard, peer.connection_id), (Some((2, 5)), Some(42)));
    assert_eq!(peer.idle_timeout_ms, Some(90_000));
    assert!(peer.has_codec(CodecId::RAW) && peer.has_codec(CodecId::SPEEDY));
    assert!(!peer.has_codec(CodecId::JSON));
    assert_eq!(pair.client.conn.peer_frame_bytes_max(), 100_000);
    assert_eq!(pair.server.conn.peer_frame_bytes_max(), 70_000);
    assert!(pair.server.conn.peer_has_codec(CodecId::SPEEDY));
    assert!(!pair.server.conn.peer_has_codec(CodecId::PROTOBUF));
}

/// REQ-98, REQ-99: neither side takes the other to know anything of keys before its hello, and one shard needs none.
#[test]
fn keys_and_forwards_wait_for_the_hello() {
    for (shards, takes_keys) in [(1, false), (2, true)] {
        let config = ServerConfig { shards, ..in_flight(100) };
        let mut pair = Pair::with(config, ClientConfig::default());
        assert!(!pair.client.conn.takes_keys() && !pair.server.conn.peer_hears_forwards());
        pair.settle();
        assert_eq!(pair.client.conn.takes_keys(), takes_keys, "{shards} shards");
        assert!(pair.server.conn.peer_hears_forwards());
    }
}

/// REQ-98: a client that says nothing of keys, or names a hash that is not known, is not told of forwards.
#[test]
fn clients_that_do_not_hash_are_told_of_no_forward() {
    for (key_routing, hears) in [(0, false), (1, true), (2, false), (u16::MAX, false)] {
        let mut pair = Pair::with(in_flight(100), ClientConfig::default());
        let records = HelloRecords { key_routing, ..HelloRecords::default() };
        let hello = Hello { version: VERSION, role: Role::Client, records };
        pair.server.feed(&bytes(|out| out.hello(&hello)), pair.now);
        assert_eq!(pair.server.conn.peer_hears_forwards(), hears, "{key_routing}");
    }
}

/// REQ-7: calls go out behind the hello, without a round trip, within the least limits.
#[test]
fn early_calls_need_no_round_trip() {
    let mut pair = Pair::with(in_flight(20), ClientConfig::default());
    pair.server.serve = Serve::Echo;
    for number in 0..16 {
        pair.call(number);
    }
    assert!(!pair.client.conn.has_slot());
    assert_eq!(pair.client.conn.begin_call(99, None), Err(NoSlot::Full));
    pair.up(usize::MAX);
    assert_eq!(pair.server.ran.len(), 16);
    pair.down(usize::MAX);
    assert!((0..16).all(|number| pair.echoed(number)));
    // The hello granted more.
    pair.server.serve = Serve::Park;
    for number in 100..120 {
        pair.call(number);
    }
    assert_eq!(pair.client.conn.begin_call(199, None), Err(NoSlot::Full));
    pair.settle();
    assert_eq!((pair.server.conn.in_flight(), pair.client.conn.in_flight()), (20, 20));
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// REQ-7: between the hello's grant and the least limit lies the hello alone.
#[test]
fn the_servers_hello_makes_room() {
    let mut pair = Pair::with(in_flight(17), ClientConfig::default());
    for number in 0..16 {
        pair.call(number);
    }
    assert!(!pair.client.conn.has_slot());
    pair.settle();
    assert!(pair.client.conn.has_slot());
    pair.call(16);
    assert!(!pair.client.conn.has_slot());
}

/// The hello and what follows may be cut anywhere.
#[test]
fn hellos_and_calls_byte_by_byte() {
    let mut pair = Pair::new();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.settle_by(1);
    assert!(pair.echoed(1));
    pair.call(2);
    pair.settle_by(3);
    assert!(pair.echoed(2));
}

/// REQ-1, REQ-8: whatever comes first, the server's first bytes are its hello, then why.
#[test]
fn other_protocols_are_told_who_is_here() {
    let foreign = |protocol| Some(CloseReason::Foreign(protocol));
    for (first, reason) in [
        (&b"GET / HTTP/1.1\r\n"[..], foreign(Foreign::Http1)),
        (b"PRI * HTTP/2.0\r\n", foreign(Foreign::Http2)),
        (b"\x16\x03\x01\x02\x00", foreign(Foreign::Tls)),
        (b"\0", misbehaved(Rule::NotCorewire)),
        (b"\xc7WRX", misbehaved(Rule::NotCorewire)),
    ] {
        let mut pair = Pair::new();
        pair.server.feed(first, pair.now);
        assert_eq!(pair.server.conn.close_reason(), reason);
        assert_eq!(reason.is_some_and(CloseReason::is_fault), first[0] < 5 || first[0] > 0x7f);
        let (hello, frames) = said(&pair.server.out);
        assert_eq!((hello.version, hello.role), (VERSION, Role::Server));
        assert_eq!(frames, [super::pair::blame(0, Rule::NotCorewire)]);
    }
}

/// A peer that leaves before its hello is whole is no fault, whether it closes or resets; later, a reset is.
#[test]
fn whoever_leaves_before_its_hello_is_no_fault() {
    let reset = std::io::ErrorKind::ConnectionReset;
    for part in [&b""[..], b"\xc7WRE\x01\x00"] {
        let mut pair = Pair::new();
        pair.server.feed(part, pair.now);
        pair.server.conn.handle_error(reset);
        assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
    }
    let mut pair = Pair::ready();
    pair.server.conn.handle_error(reset);
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::Transport(reset.into())));
}

/// REQ-3, REQ-4, REQ-5, REQ-8: a real client can read why its hello was refused.
#[test]
fn a_client_learns_what_was_wrong_with_its_hello() {
    let broken = b"\xc7WRE\x01\x00\x03\x00abc";
    let limit = b"\xc7WRE\x01\x00\x08\x00\x01\x00\x04\x00\x01\x00\x00\x00";
    for (hello, rule) in [(&broken[..], Rule::BrokenHello), (limit, Rule::HelloLimit)] {
        let mut pair = Pair::new();
        pair.call(1);
        pair.server.feed(hello, pair.now);
        assert_eq!(pair.server.conn.close_reason(), misbehaved(rule));
        pair.down(usize::MAX);
        let blamed = CloseReason::BlamedByPeer(Some(rule));
        assert_eq!(pair.client.conn.close_reason(), Some(blamed));
        // Nothing ran, and the client knows it.
        pair.client.fail_all();
        let outcome = pair.outcome(1).cloned();
        assert_eq!(outcome, Some(super::pair::Outcome::Failed { may_have_run: false }));
    }
}

/// REQ-2: a version that is not spoken gets our hello, once, and rule 2.
#[test]
fn unknown_version() {
    let mut pair = Pair::new();
    pair.server.feed(&hello_bytes(9, Role::Client), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownVersion));
    let (hello, frames) = said(&pair.server.out);
    assert_eq!(hello.version, VERSION);
    assert_eq!(frames, [super::pair::blame(0, Rule::UnknownVersion)]);

    // The role means what that version says.
    let mut pair = Pair::new();
    pair.server.feed(b"\xc7WRE\x09\x07", pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::UnknownVersion));

    let mut pair = Pair::new();
    pair.client.feed(&hello_bytes(9, Role::Server), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::UnknownVersion));
    assert_eq!(said(&pair.client.out).1, [super::pair::blame(0, Rule::UnknownVersion)]);
}

/// REQ-3: a server that connects to a server, a client that reaches a client.
#[test]
fn wrong_role() {
    let mut pair = Pair::new();
    pair.server.feed(&hello_bytes(VERSION, Role::Server), pair.now);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::BrokenHello));
    assert_eq!(said(&pair.server.out).1, [super::pair::blame(0, Rule::BrokenHello)]);

    let mut pair = Pair::new();
    pair.client.feed(&hello_bytes(VERSION, Role::Client), pair.now);
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::BrokenHello));
}

/// REQ-6, rule 5: silence, and half a hello, on both sides; at the limit and not before.
#[test]
fn hello_timeout() {
    for sent in [0, 5, 30] {
        let mut pair = Pair::new();
        pair.up(sent);
        pair.wait(secs(5) - std::time::Duration::from_nanos(1));
        assert_eq!(pair.server.conn.close_reason(), None);
        pair.wait(std::time::Duration::from_nanos(1));
        assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::HelloTimeout));
        assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::HelloTimeout));
        let (_, frames) = said(&pair.server.out);
        assert_eq!(frames, [super::pair::blame(0, Rule::HelloTimeout)]);
        assert_eq!(
            (pair.server.conn.poll_timeout(), pair.client.conn.poll_timeout()),
            (None, None)
        );
    }
}

/// A ping interval below the hello timeout is no reason to ping before the hello is there. Until then the
/// clocks are looked at every second.
#[test]
fn no_ping_before_the_hello() {
    let timeouts = Timeouts { hello: secs(10), ping_after: secs(1), ..Timeouts::default() };
    let mut pair = Pair::with_timeouts(timeouts);
    assert_eq!(pair.server.conn.poll_timeout(), Some(pair.start + secs(1)));
    assert_eq!(pair.client.conn.poll_timeout(), Some(pair.start + secs(1)));
    pair.wait(secs(9));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert!(pair.server.out.is_empty());
    pair.settle();
    assert!(pair.client.conn.is_ready());
    assert!(pair.client.conn.poll_timeout() > Some(pair.now));
}

/// REQ-23: the clock of half a hello is not that of the frame behind it.
#[test]
fn half_a_hello_does_not_shorten_the_first_frame() {
    let timeouts = Timeouts { frame: secs(6), ..Timeouts::default() };
    let server = ServerConfig { timeouts, ..ServerConfig::default() };
    let mut pair = Pair::with(server, ClientConfig::default());
    let mut sent = hello_bytes(VERSION, Role::Client);
    let hello = sent.len();
    sent.extend(bytes(|out| put_request(out, &RequestHead::new(0, MethodId(1)), b"body")));
    pair.server.feed(&sent[..hello - 1], pair.now);
    pair.wait(secs(4));
    pair.server.feed(&sent[hello - 1..hello + 3], pair.now);
    pair.wait(secs(5));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.server.feed(&sent[hello + 3..], pair.now);
    assert_eq!(pair.server.ran, [0]);
}

/// What a configuration may hold never overflows the clock.
#[test]
fn the_longest_timeouts_mean_never() {
    let most = std::time::Duration::MAX;
    let timeouts = Timeouts {
        hello: most,
        frame: most,
        ping_after: most,
        ping: most,
        idle: Some(most),
        write: most,
        age: Some(most),
        age_grace: most,
        jitter_percent: 100,
    };
    let mut pair = Pair::with_timeouts(timeouts);
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(10);
    pair.wait(secs(1_000_000));
    pair.settle_by(7);
    pair.wait(secs(1_000_000));
    assert!(pair.echoed(1));
    assert_eq!(pair.server.conn.close_reason(), None);
}
