//! What bad input gets, over real sockets: the go-away with the documented rule, the documented
//! status, and an end; and on another connection nothing at all.
//!
//! Names cite the requirements of `docs/PROTOCOL.md`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Running, Timeouts};
use corewire_codec::{
    CancelReason, CodecId, CompressionId, Encoding, GoAway, Limits, MethodId, RequestHead, Rule,
    SendBuffer, StatusCode, reply_flags, request_flags,
};
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};
use support::peer::{Peer, Said, bytes_of, header, hello, request, request_with};
use support::service::Habits;
use support::{address, builder, count, end, server, server_with, until};

/// Runs `hostile` against a server, with a good connection before, during and after it.
#[track_caller]
fn beside_a_good_one(server: Running, hostile: impl FnOnce(&Running)) {
    let mut good = Peer::polite(address(&server));
    good.assert_serves(1);
    hostile(&server);
    good.assert_serves(1 << 16);
    drop(good);
    until("all connections are closed", || count(&server, |it| it.connections_open.value()) == 0);
    end(server);
}

/// Sends `bytes` behind a hello; the server must turn the peer away with `rule`.
#[track_caller]
fn assert_rule(bytes: &[u8], rule: Rule) {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::polite(address(server));
        peer.send(bytes);
        peer.assert_turned_away(rule);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 1);
    });
}

/// Sends `bytes` in place of a hello.
#[track_caller]
fn assert_hello_rule(bytes: &[u8], rule: Rule) {
    assert_turned_away_at_once(bytes, rule, 1);
}

/// The same, with this many peer faults counted.
#[track_caller]
fn assert_turned_away_at_once(bytes: &[u8], rule: Rule, faults: u64) {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::silent(address(server));
        peer.send(bytes);
        assert_eq!(peer.hello().version, 1, "the server says what it speaks (REQ-8)");
        peer.assert_turned_away(rule);
        assert_eq!(count(server, |it| it.connections_faulted.value()), faults);
    });
}

#[test]
fn req_1_a_first_byte_that_is_not_ours() {
    assert_hello_rule(b"g", Rule::NotCorewire);
}

/// Probes get the same answer, and are no faults.
#[test]
fn req_8_another_protocol() {
    let http = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    for first in [&b"G"[..], http, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"] {
        assert_turned_away_at_once(first, Rule::NotCorewire, 0);
    }
}

/// Nor are port scans, which connect and leave, in order or by a reset.
#[test]
fn a_connection_that_says_nothing_and_leaves_is_no_fault() {
    beside_a_good_one(server(), |server| {
        drop(Peer::silent(address(server)));
        Peer::silent(address(server)).reset();
        let mut half = Peer::silent(address(server));
        half.send(&hello()[..20]);
        half.reset();
        until("they are gone", || count(server, |it| it.connections_open.value()) == 1);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

#[test]
fn req_1_magic_that_goes_wrong_in_its_last_byte() {
    assert_hello_rule(b"\xc7WRX", Rule::NotCorewire);
}

#[test]
fn req_2_an_unknown_version() {
    let mut bytes = hello();
    bytes[4] = 2;
    assert_hello_rule(&bytes, Rule::UnknownVersion);
}

/// Its role is that version's matter.
#[test]
fn req_2_an_unknown_version_with_an_unknown_role() {
    let mut bytes = hello();
    bytes[4..6].copy_from_slice(&[2, 7]);
    assert_hello_rule(&bytes, Rule::UnknownVersion);
}

#[test]
fn req_3_a_role_that_is_none() {
    let mut bytes = hello();
    bytes[5] = 7;
    assert_hello_rule(&bytes, Rule::BrokenHello);
}

#[test]
fn req_3_a_server_on_the_client_side() {
    let mut bytes = hello();
    bytes[5] = 1;
    assert_hello_rule(&bytes, Rule::BrokenHello);
}

#[test]
fn req_3_records_that_are_too_long() {
    let mut bytes = hello();
    bytes[6..8].copy_from_slice(&4097u16.to_le_bytes());
    assert_hello_rule(&bytes, Rule::BrokenHello);
}

#[test]
fn req_4_a_record_that_does_not_fit() {
    let mut bytes = hello();
    bytes[10] = 0xff;
    bytes[11] = 0x0f;
    assert_hello_rule(&bytes, Rule::BrokenHello);
}

#[test]
fn req_5_a_limit_out_of_range() {
    let mut bytes = hello();
    bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
    assert_hello_rule(&bytes, Rule::HelloLimit);
}

fn timeouts() -> Timeouts {
    let short = Duration::from_millis(200);
    Timeouts { hello: short, frame: short, write: short, ..Timeouts::default() }
}

#[test]
fn req_6_a_client_that_says_nothing() {
    let start = Instant::now();
    beside_a_good_one(builder(1).timeouts(timeouts()).start().unwrap(), |server| {
        let mut peer = Peer::silent(address(server));
        assert_eq!(peer.hello().version, 1);
        peer.assert_turned_away(Rule::HelloTimeout);
        assert!(start.elapsed() >= Duration::from_millis(200), "it was given its time");
    });
}

#[test]
fn req_6_half_a_hello() {
    beside_a_good_one(builder(1).timeouts(timeouts()).start().unwrap(), |server| {
        let mut peer = Peer::silent(address(server));
        peer.send(&hello()[..20]);
        assert_eq!(peer.hello().version, 1);
        peer.assert_turned_away(Rule::HelloTimeout);
    });
}

#[test]
fn req_11_an_unknown_frame_kind() {
    let mut bytes = header(0);
    bytes[4] = 10;
    assert_rule(&bytes, Rule::UnknownFrameKind);
}

#[test]
fn req_15_reserved_bits_of_a_cancel() {
    let mut bytes = bytes_of(|out| out.cancel(1, CancelReason::Dropped));
    bytes[5] = 0x80;
    assert_rule(&bytes, Rule::ReservedBits);
}

#[test]
fn req_15_a_reserved_field_of_a_cancel() {
    let mut bytes = bytes_of(|out| out.cancel(1, CancelReason::Dropped));
    bytes[12] = 1;
    assert_rule(&bytes, Rule::ReservedBits);
}

#[test]
fn req_16_a_frame_over_the_limit() {
    assert_rule(&header(Limits::default().frame_bytes.get() + 1), Rule::FrameTooLarge);
}

#[test]
fn req_16_a_frame_of_four_gigabytes() {
    assert_rule(&header(u32::MAX), Rule::FrameTooLarge);
}

#[test]
fn req_17_a_payload_where_none_may_be() {
    let mut bytes = bytes_of(|out| out.ping(1));
    bytes[0] = 4;
    assert_rule(&bytes, Rule::UnexpectedPayload);
}

#[test]
fn req_18_a_payload_shorter_than_its_fields() {
    let mut bytes = header(4).to_vec();
    bytes[5] = request_flags::TIMEOUT;
    bytes.extend([0; 4]);
    assert_rule(&bytes, Rule::TruncatedPayload);
}

#[test]
fn req_19_a_priority_above_seven() {
    let mut bytes = header(0);
    bytes[7] = 8;
    assert_rule(&bytes, Rule::BadField);
}

/// Of its sixteen megabytes none is waited for.
#[test]
fn req_19_a_go_away_of_16_mib() {
    let mut bytes = header(Limits::default().frame_bytes.get());
    bytes[4..16].copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_rule(&bytes, Rule::BadField);
}

/// Nor of frames that their headers show to be wrong.
#[test]
fn req_80_frames_that_are_wrong_by_their_headers() {
    let mut reply = header(Limits::default().frame_bytes.get());
    reply[4..8].copy_from_slice(&[2, 0, 0, 0]);
    assert_rule(&reply, Rule::WrongDirection);
    let mut message = header(Limits::default().frame_bytes.get());
    message[4..16].copy_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_rule(&message, Rule::UnknownStream);
    let mut end = header(Limits::default().frame_bytes.get());
    end[4..16].copy_from_slice(&[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_rule(&end, Rule::UnexpectedPayload);
}

#[test]
fn req_21_metadata_that_is_malformed() {
    let mut bytes = header(5).to_vec();
    bytes[5] = request_flags::METADATA;
    bytes.extend([3, 0, 0xff, 0xff, 0xff]);
    assert_rule(&bytes, Rule::BadMetadata);
}

#[test]
fn req_23_a_frame_that_comes_a_byte_at_a_time() {
    beside_a_good_one(builder(1).timeouts(timeouts()).start().unwrap(), |server| {
        let mut peer = Peer::polite(address(server));
        // A byte each 20 ms: each shows that the peer is there, and none makes the frame whole.
        let bytes = request(1, "echo", &[0; 1000]);
        let start = Instant::now();
        for byte in bytes.chunks(1) {
            if start.elapsed() > Duration::from_millis(400) || peer.stream.write_all(byte).is_err()
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        peer.assert_turned_away(Rule::FrameTimeout);
    });
}

#[test]
fn req_24_a_reply_from_a_client() {
    let mut bytes = header(0);
    bytes[4] = 2;
    bytes[7] = 0;
    assert_rule(&bytes, Rule::WrongDirection);
}

#[test]
fn req_32_a_slot_over_the_limit() {
    let slot = Limits::default().in_flight.get();
    assert_rule(&request(slot, "echo", b""), Rule::CallSlot);
}

#[test]
fn req_33_an_id_used_twice_while_its_call_runs() {
    let habits = Habits::default();
    beside_a_good_one(server_with(&habits), |server| {
        let mut peer = Peer::polite(address(server));
        peer.send(&request(5, "never", b""));
        // Another generation does not help: the slot is taken.
        peer.send(&request(5 | 1 << 16, "echo", b"again"));
        let go_away = peer.assert_turned_away(Rule::CallIdInUse);
        assert_eq!(go_away.accepted, 1);
        until("the first call's handler is dropped", || habits.ended() == 1);
        assert_eq!(count(server, |it| it.calls_dropped.value()), 1);
    });
}

#[test]
fn req_53_credit_of_nothing() {
    let mut bytes = header(0);
    bytes[4] = 5;
    bytes[7] = 0;
    bytes[12..16].copy_from_slice(&[0; 4]);
    assert_rule(&bytes, Rule::BadCredit);
}

#[test]
fn req_54_stream_data_without_a_stream() {
    let mut bytes = header(0);
    bytes[4] = 3;
    bytes[7] = 0;
    bytes[12..16].copy_from_slice(&[0; 4]);
    assert_rule(&bytes, Rule::UnknownStream);
}

#[test]
fn req_57_a_pong_without_a_ping() {
    assert_rule(&bytes_of(|out| out.pong(9)), Rule::UnexpectedPong);
}

#[test]
fn req_60_nothing_is_read_behind_a_fault_and_calls_before_it_are_answered() {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::polite(address(server));
        let mut bytes = request(1, "echo", b"before");
        bytes.extend(header(u32::MAX));
        bytes.extend(request(2, "echo", b"behind"));
        peer.send(&bytes);
        assert_eq!(&peer.reply().1[..], b"before");
        assert_eq!(peer.assert_turned_away(Rule::FrameTooLarge).accepted, 1);
    });
}

#[test]
fn a_go_away_that_blames_the_server_ends_the_connection() {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::polite(address(server));
        let blame = GoAway { accepted: 0, rule: 12 };
        peer.send(&bytes_of(|out| out.go_away(&blame, "you did it")));
        assert!(matches!(peer.said(), Said::End));
    });
}

/// Bad input that is a matter of its call: a status, and the connection goes on.
#[test]
fn calls_that_cannot_be_made_get_a_status_and_the_connection_stays() {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::polite(address(server));
        // REQ-30: an unknown method.
        peer.send(&request_with(&RequestHead::new(1, MethodId::of("Subject", "nothing")), b""));
        let (head, status) = peer.failure();
        assert_eq!((head.code, head.flags), (StatusCode::Unimplemented, reply_flags::REFUSED));
        assert!(status.message().contains("no method here has the id"), "{status}");
        // REQ-14: another codec than the method's, one that nobody has, and a compression.
        let codec = |number| Encoding::plain(CodecId::new(number).unwrap());
        let lz4 = Encoding::new(CodecId::RAW, CompressionId::LZ4);
        for encoding in [codec(1), codec(15), lz4] {
            let mut head = RequestHead::new(2, MethodId::of("Subject", "echo"));
            head.encoding = encoding;
            peer.send(&request_with(&head, b""));
            let (head, status) = peer.failure();
            assert_eq!(head.code, StatusCode::Unimplemented, "{status}");
            assert_eq!(head.flags, reply_flags::REFUSED);
        }
        // REQ-34: time that was over on arrival.
        let mut head = RequestHead::new(3, MethodId::of("Subject", "echo"));
        head.timeout_us = Some(0);
        peer.send(&request_with(&head, b""));
        let (head, _) = peer.failure();
        assert_eq!((head.code, head.flags), (StatusCode::DeadlineExceeded, reply_flags::REFUSED));
        // A body that is too short, and one that is too long.
        for (body, names) in [(&[1, 0, 0][..], "`left`"), (&[0; 9], "1 bytes are left over")] {
            peer.send(&request(4, "add", body));
            let (head, status) = peer.failure();
            assert_eq!(head.code, StatusCode::InvalidArgument);
            assert_eq!(head.flags, 0, "it is not a refusal: trying again does not help");
            assert!(status.message().contains(names), "{status}");
        }
        // A stream request is refused; a one-way request has no reply; a late cancel is nothing.
        let mut head = RequestHead::new(5, MethodId::of("Subject", "echo"));
        head.flags = request_flags::STREAM_OUT;
        peer.send(&request_with(&head, b""));
        assert_eq!(peer.failure().0.code, StatusCode::Unimplemented);
        head.flags = request_flags::ONE_WAY;
        peer.send(&request_with(&head, b""));
        peer.send(&bytes_of(|out: &mut SendBuffer| out.cancel(77, CancelReason::Deadline)));
        peer.assert_serves(6);
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

/// REQ-75: a client that goes away and closes nothing is no fault, and does not keep its connection.
#[test]
fn req_75_a_client_that_goes_away_is_closed_when_it_has_its_answers() {
    let go_away = bytes_of(|out| out.go_away(&GoAway { accepted: 0, rule: 0 }, "done"));
    let habits = Habits::default();
    beside_a_good_one(server_with(&habits), |server| {
        let mut idle = Peer::polite(address(server));
        idle.send(&go_away);
        assert!(matches!(idle.said(), Said::End), "it has no calls");
        let mut busy = Peer::polite(address(server));
        busy.send(&[request(1, "gate", &[7, 0, 0, 0]), go_away].concat());
        until("its call pends", || habits.at_gate() == 1);
        habits.open();
        assert_eq!(&busy.reply().1[..], [7, 0, 0, 0]);
        assert!(matches!(busy.said(), Said::End), "its call is answered");
        assert_eq!(count(server, |it| it.connections_faulted.value()), 0);
    });
}

#[test]
fn a_client_that_closes_its_sending_side_gets_what_was_ready() {
    beside_a_good_one(server(), |server| {
        let mut peer = Peer::polite(address(server));
        peer.send(&request(1, "echo", b"last words"));
        peer.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(&peer.reply().1[..], b"last words");
        assert!(matches!(peer.said(), Said::End));
    });
}

#[test]
fn a_client_that_resets_harms_nobody() {
    let habits = Habits::default();
    beside_a_good_one(server_with(&habits), |server| {
        for round in 1..=20 {
            let mut peer = Peer::polite(address(server));
            peer.send(&request(1, "never", b""));
            until("the handler began", || habits.begun() == round);
            peer.reset();
            until("the handler is dropped", || habits.ended() == round);
        }
    });
}

/// REQ-59: a peer that never reads. What waits for it stays within the budget of unsent bytes and
/// one reply, nothing more is read from it, and it is turned away after the write timeout.
#[test]
fn req_59_a_client_that_never_reads() {
    const BLOB: usize = 256 * 1024;
    beside_a_good_one(builder(1).timeouts(timeouts()).start().unwrap(), |server| {
        let mut peer = Peer::polite(address(server));
        let asked = 4000u32;
        let mut bytes = Vec::new();
        for call in 0..asked {
            bytes.extend(request(call, "blob", &u32::try_from(BLOB).unwrap().to_le_bytes()));
        }
        peer.send(&bytes);
        until("reading was paused", || count(server, |it| it.reads_paused.value()) > 0);
        until("it was turned away", || count(server, |it| it.connections_faulted.value()) == 1);
        // Kernel buffers take a few megabytes at most; without the pause it would be a gigabyte.
        let calls = count(server, |it| it.calls.value());
        let made = usize::try_from(calls).unwrap() * BLOB;
        let sent = usize::try_from(count(server, |it| it.bytes_sent.value())).unwrap();
        assert!(made <= sent + (1 << 20) + 2 * BLOB, "{calls} replies, {sent} bytes sent");
        assert!(calls < 200, "{calls} replies were made for a peer that reads none");
    });
}

/// The same when the replies come from handlers that pended: they finish one by one as there is
/// room, not all at once.
#[test]
fn req_59_replies_of_handlers_that_pended_stay_within_the_budget() {
    const BLOB: usize = 1 << 20;
    let habits = Habits::default();
    beside_a_good_one(server_with(&habits), |server| {
        let mut peer = Peer::polite(address(server));
        for call in 0..64 {
            peer.send(&request(call, "burst", &u32::try_from(BLOB).unwrap().to_le_bytes()));
        }
        until("all pend", || habits.at_gate() == 64);
        habits.open();
        until("something was sent", || count(server, |it| it.bytes_sent.value()) > 0);
        let mut good = Peer::polite(address(server));
        for round in 0..50 {
            good.assert_serves(round);
        }
        let made = habits.made() * BLOB;
        let sent = usize::try_from(count(server, |it| it.bytes_sent.value())).unwrap();
        assert!(made <= sent + (1 << 20) + 2 * BLOB, "{made} bytes made, {sent} sent");
        // A client that reads gets them all.
        for _ in 0..64 {
            assert_eq!(peer.reply().1.len(), BLOB);
        }
    });
}
