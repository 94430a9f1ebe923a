//! A side that was away: stopped, or kept by a handler. Its clocks went on, and it saw nothing.

use std::time::Duration;

use super::pair::{Pair, Serve, bytes, misbehaved, put_request, secs};
use crate::config::{ClientConfig, ServerConfig, Timeouts};
use corewire_codec::{MethodId, RequestHead, Rule};

const BEFORE: Duration = Duration::from_nanos(1);

impl Pair {
    /// Both sides are stopped for so long, and go on: first they read what was sent before, which is
    /// nothing, and then they look at their clocks.
    fn stop(&mut self, time: Duration) {
        self.now += time;
        self.fire();
    }
}

/// REQ-58, REQ-86: a ping that waits for its pong has its time without the absence.
#[test]
fn a_pong_may_come_after_an_absence() {
    let mut pair = Pair::ready();
    pair.wait(secs(60));
    pair.stop(secs(31));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.settle();
    pair.drive(secs(1_000));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
}

/// REQ-58: an absence puts the end off, and does not cancel it.
#[test]
fn a_dead_peer_is_noticed_after_an_absence() {
    let mut pair = Pair::ready();
    pair.wait(secs(60));
    pair.stop(secs(3600));
    assert_eq!(pair.server.conn.close_reason(), None);
    // A second of the absence counts, as it would have between two looks.
    pair.wait(secs(19) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-58: what was heard behind the ping, before the absence, counts as it does without one.
#[test]
fn a_sign_of_life_before_an_absence() {
    let mut pair = Pair::ready();
    pair.wait(secs(60));
    pair.wait(secs(10));
    let request = bytes(|out| put_request(out, &RequestHead::new(1, MethodId(1)), b"x"));
    pair.server.feed(&request, pair.now);
    pair.wait(secs(1));
    pair.stop(secs(31));
    // Ten seconds and one look had passed since the ping, but one and a look since the request.
    pair.wait(secs(18) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::PingTimeout));
}

/// REQ-23: half of a frame has its time without the absence.
#[test]
fn half_a_frame_before_an_absence() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    let request = bytes(|out| put_request(out, &RequestHead::new(1, MethodId(1)), b"whole"));
    pair.server.feed(&request[..10], pair.now);
    pair.wait(secs(50));
    pair.stop(secs(120));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(secs(9) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.server.feed(&request[10..], pair.now);
    assert_eq!(pair.server.ran, [1]);
}

/// REQ-6: and so has the hello.
#[test]
fn a_hello_after_an_absence() {
    let mut pair = Pair::new();
    pair.stop(secs(31));
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
    pair.settle();
    assert!(pair.client.conn.is_ready());
    pair.drive(secs(100));
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-59: and what the peer is to take.
#[test]
fn a_full_socket_before_an_absence() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(usize::MAX);
    pair.down(0);
    pair.wait(secs(15));
    pair.stop(secs(31));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.down(0);
    pair.wait(secs(14) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::WriteTimeout));
}

/// What began when the side was back has its whole time and no more.
#[test]
fn a_clock_that_began_after_the_absence() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    pair.call(1);
    pair.up(usize::MAX);
    pair.down(0);
    pair.now += secs(31);
    let request = bytes(|out| put_request(out, &RequestHead::new(1, MethodId(1)), b"whole"));
    pair.server.feed(&request[..10], pair.now);
    pair.fire();
    pair.down(usize::MAX);
    pair.wait(secs(60) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::FrameTimeout));
}

/// Timeouts below a second are looked at more often, so that a short absence shows, too.
#[test]
fn short_timeouts_know_short_absences() {
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { ping: short, ping_after: short, ..Timeouts::default() };
    let mut pair = Pair::with_timeouts(timeouts);
    pair.settle();
    pair.wait(short);
    pair.stop(2 * short);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.settle();
    pair.drive(secs(10));
    assert_eq!(pair.server.conn.close_reason(), None);
}

/// REQ-34, REQ-86: the time of a call goes on: its caller waited all the while.
#[test]
fn deadlines_are_not_put_off() {
    let mut pair = Pair::ready();
    let call = pair.call_within(1, Some(secs(10)));
    pair.settle();
    pair.stop(secs(31));
    assert_eq!(pair.server.dropped, [call]);
    assert_eq!(pair.outcome(1), Some(&super::pair::Outcome::Expired));
}

/// REQ-86: more arrived than was read: nobody is judged by what may be in it.
#[test]
fn what_is_unread_is_not_owed() {
    let timeouts = Timeouts { idle: Some(secs(10)), ..Timeouts::default() };
    let client = ClientConfig { timeouts, ..ClientConfig::default() };
    let server = ServerConfig { timeouts, ..ServerConfig::default() };
    let mut pair = Pair::with(server, client);
    pair.settle();
    pair.wait(secs(9));
    pair.now += secs(1);
    pair.server.conn.handle_unread();
    pair.client.conn.handle_unread();
    pair.fire();
    assert_eq!(pair.server.conn.close_reason(), None);
    assert_eq!(pair.client.conn.close_reason(), None);
    // Nor is it a reason to look again at once; but the next look judges.
    assert!(pair.server.conn.poll_timeout() > Some(pair.now));
    assert!(pair.client.conn.poll_timeout() > Some(pair.now));
    pair.fire();
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::IdleTimeout));
    assert_eq!(pair.client.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}

/// REQ-58: a quiet connection is looked at only when a ping is due.
#[test]
fn nothing_is_looked_at_while_nothing_is_owed() {
    let mut pair = Pair::ready();
    assert_eq!(pair.server.conn.poll_timeout(), Some(pair.start + secs(60)));
    pair.wait(secs(60));
    assert_eq!(pair.server.conn.poll_timeout(), Some(pair.start + secs(61)));
    let pongs = bytes(|out| out.pong(1));
    pair.server.feed(&pongs, pair.now);
    assert_eq!(pair.server.conn.poll_timeout(), Some(pair.start + secs(120)));
}

/// REQ-58: a connection whose idle time ended during an absence has a moment to show that it is used.
#[test]
fn idleness_during_an_absence() {
    let timeouts = Timeouts { idle: Some(secs(10)), ..Timeouts::default() };
    let mut pair = Pair::with_timeouts(timeouts);
    pair.settle();
    pair.stop(secs(31));
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(secs(1) - BEFORE);
    assert_eq!(pair.server.conn.close_reason(), None);
    pair.wait(BEFORE);
    assert_eq!(pair.server.conn.close_reason(), misbehaved(Rule::IdleTimeout));
}
