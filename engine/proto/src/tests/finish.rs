//! Clients that end their sending side and go on reading.

use std::time::Duration;

use super::pair::{Outcome, Pair, Serve, bytes, put_request, secs};
use crate::close::CloseReason;
use crate::config::{ServerConfig, Timeouts};
use crate::streams::table::StreamKind;
use corewire_codec::{Head, MethodId, RequestHead, StatusCode};

const BEFORE: Duration = Duration::from_nanos(1);

impl Pair {
    /// Everything that the client sent has arrived, and its end behind it.
    fn finish(&mut self) {
        self.up(usize::MAX);
        self.server.conn.handle_eof(&mut self.server.out, self.now);
        let cut = self.server.conn.cut_streams(&mut self.server.out);
        self.server.dropped.extend(cut);
    }

    /// What a driver does at the end of a turn.
    fn end_turn(&mut self) {
        if self.server.out.is_empty() {
            self.server.conn.end_if_answered();
        }
    }
}

/// REQ-79: what was answered already leaves, however long the client takes to take it.
#[test]
fn replies_that_wait_leave_behind_the_end() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    for number in 1..=20 {
        pair.call(number);
    }
    pair.finish();
    pair.end_turn();
    while !pair.server.out.is_empty() {
        assert_eq!(pair.server.conn.close_reason(), None);
        pair.down(11);
        pair.wait(secs(29));
        pair.end_turn();
    }
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
    assert!((1..=20).all(|number| pair.echoed(number)));
}

/// REQ-79: pending calls are answered, and a ping asks whether there is anybody.
#[test]
fn calls_that_pend_are_answered_behind_the_end() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.finish();
    assert_eq!(super::pair::said_later(&pair.server.out), [Head::Ping(1)]);
    pair.down(usize::MAX);
    pair.wait(secs(30) - BEFORE);
    pair.end_turn();
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.answer(call);
    pair.down(usize::MAX);
    pair.end_turn();
    assert!(pair.echoed(1));
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
}

/// REQ-79: for as long as the write timeout, and not longer, whatever the client does with its pings.
#[test]
fn calls_that_pend_for_too_long_are_dropped() {
    let mut pair = Pair::ready();
    let call = pair.call(1);
    pair.finish();
    pair.down(usize::MAX);
    pair.wait(secs(30));
    pair.end_turn();
    assert_eq!(pair.server.dropped, [call]);
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
}

/// REQ-79: nothing waits and nothing pends: the end is the end.
#[test]
fn an_end_without_calls_is_the_end() {
    let mut pair = Pair::ready();
    pair.finish();
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
    let mut pair = Pair::new();
    pair.server.conn.handle_eof(&mut pair.server.out, pair.now);
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
}

/// REQ-79: a client that has closed both sides is gone when the ping finds nobody.
#[test]
fn a_client_that_is_gone_is_no_fault() {
    let mut pair = Pair::ready();
    pair.call(1);
    pair.finish();
    pair.server.conn.handle_error(std::io::ErrorKind::BrokenPipe);
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
}

/// REQ-79: half of a frame, an idle timeout and pings end with the client's side.
#[test]
fn nothing_is_owed_after_the_end() {
    let second = Some(secs(1));
    let timeouts =
        Timeouts { idle: second, frame: secs(2), ping_after: secs(2), ..Timeouts::default() };
    let server = ServerConfig { timeouts, ..ServerConfig::default() };
    let mut pair = Pair::with(server, crate::config::ClientConfig::default());
    pair.settle();
    let call = pair.call(1);
    pair.up(usize::MAX);
    let half = bytes(|out| put_request(out, &RequestHead::new(9, MethodId(1)), b"body"));
    pair.server.feed(&half[..20], pair.now);
    pair.server.conn.handle_eof(&mut pair.server.out, pair.now);
    pair.wait(secs(29));
    pair.answer(call);
    // The reply waits for its client, and no call does.
    pair.wait(secs(5));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.down(usize::MAX);
    pair.end_turn();
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
    assert!(pair.echoed(1));
}

/// REQ-79: a stream that its client was still to send is over, as by a cancel; one that it only reads goes on.
#[test]
fn streams_behind_the_end() {
    let mut pair = Pair::streaming_ready();
    let (sent, read) = (pair.stream(StreamKind::Client, 1), pair.stream(StreamKind::Server, 2));
    pair.finish();
    assert_eq!(pair.server.dropped, [1]);
    pair.down(usize::MAX);
    assert_eq!(pair.status(1).1.code(), StatusCode::Cancelled);
    assert!(pair.server.conn.send_credit(read) > 0 && pair.server.conn.send_credit(sent) == 0);
    pair.server_ends(read, None);
    pair.down(usize::MAX);
    pair.end_turn();
    assert!(matches!(pair.outcome(2), Some(Outcome::StreamEnd(StatusCode::Ok, _))));
    assert_eq!(pair.server.conn.close_reason(), Some(CloseReason::PeerLeft));
}

/// A server that reads nothing, for want of room, still ends the calls of such a client in time.
#[test]
fn what_is_unread_puts_the_end_of_the_time_off_by_nothing() {
    let mut pair = Pair::ready();
    pair.call(1);
    pair.finish();
    pair.down(usize::MAX);
    let over = pair.now + secs(30);
    // The looks are not to fall onto the end of it.
    pair.wait(Duration::from_millis(700));
    while pair.now < over {
        pair.server.conn.handle_unread();
        pair.server.conn.handle_timeout(&mut pair.server.out, pair.now);
        let next = pair.server.conn.poll_timeout().expect("the time runs");
        assert!(
            next > pair.now && next <= over,
            "{:?} too late",
            next.checked_duration_since(over)
        );
        pair.wait(next - pair.now);
    }
}
