//! What is known of each call of a `World`, without looking into a connection.

use std::collections::VecDeque;

use crate::streams::table::StreamKind;

/// The messages of one direction of one call.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) sent: u32,
    pub(super) received: u32,
    /// What the messages cost that were delivered and not consumed.
    pub(super) held: VecDeque<u32>,
    /// Whether the sender ended.
    pub(super) ended: bool,
    /// Whether the receiver was told so.
    pub(super) end_seen: bool,
    /// Whether the receiver no longer wants it.
    pub(super) stopped: bool,
    /// Whether the sender was told that it has no credit, and nothing since.
    pub(super) blocked: bool,
}

impl Way {
    /// A message with this number arrives.
    pub(super) fn receive(&mut self, sequence: u32, cost: u32) {
        assert!(!self.stopped, "nobody wants it");
        assert!(!self.end_seen, "nothing comes after the end");
        assert_eq!(sequence, self.received, "messages come in order, each once");
        self.received += 1;
        assert!(self.received <= self.sent);
        self.held.push_back(cost);
    }

    /// What holds of a way that both sides still have to do with, when all that was sent has arrived
    /// and is consumed.
    fn check_quiet(&self) {
        assert!(self.ended || !self.blocked, "there is credit, and the sender was not told");
        if !self.stopped {
            assert_eq!(self.received, self.sent, "all that was sent arrives");
        }
    }
}

/// How a call ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reply,
    StreamEnd,
    Refused,
    Expired,
    NeverSent,
    Failed,
}

/// One call that expects an answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: u32,
    /// `None` is a unary call.
    pub(super) kind: Option<StreamKind>,
    pub(super) up: Way,
    pub(super) down: Way,
    pub(super) outcome: Option<Outcome>,
    pub(super) abandoned: bool,
    /// Whether the server works on it.
    pub(super) running: bool,
    /// Whether it ever did.
    pub(super) ran: bool,
    pub(super) opened: bool,
}

impl Call {
    pub(super) fn new(id: u32, kind: Option<StreamKind>) -> Self {
        Self {
            id,
            kind,
            up: Way::default(),
            down: Way::default(),
            outcome: None,
            abandoned: false,
            running: false,
            ran: false,
            opened: false,
        }
    }

    /// Whether somebody waits for it.
    pub(super) fn is_waiting(&self) -> bool {
        self.outcome.is_none() && !self.abandoned
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        assert!(!self.abandoned, "nobody waits for it");
        assert_eq!(self.outcome, None, "a call ends once");
        assert!(outcome != Outcome::Refused || !self.ran, "it is said not to have run");
        self.outcome = Some(outcome);
    }

    /// What holds when nothing is on its way and all readers have read.
    pub(super) fn check_quiet(&self) {
        if self.running && self.is_waiting() {
            self.up.check_quiet();
            self.down.check_quiet();
            assert!(!self.up.ended || self.up.end_seen || self.up.stopped, "an end arrives");
        }
    }

    /// What holds when everything has arrived.
    pub(super) fn check_complete(&self) {
        assert!(self.outcome.is_some() != self.abandoned, "exactly one outcome");
        assert!(!self.running);
        if self.outcome == Some(Outcome::StreamEnd) && !self.down.stopped {
            assert_eq!(self.down.received, self.down.sent, "everything before the end arrives");
        }
        if self.up.end_seen && !self.up.stopped {
            assert!(self.up.ended);
            assert_eq!(self.up.received, self.up.sent, "everything before the end arrives");
        }
    }
}
