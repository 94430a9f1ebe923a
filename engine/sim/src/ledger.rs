//! What is known of every call and every handler, and what may not be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Waker;

use corewire_codec::StatusCode;

use crate::message::{Behaviour, CallKind};

/// How a call ended, as its caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// A reply with this status; whether it says that the call did not run.
    Reply { code: StatusCode, refused: bool },
    /// Nothing was sent.
    NotSent,
    /// The server did not run it.
    Refused,
    /// The connection ended.
    Unknown,
    /// The caller's time was over.
    Expired { sent: bool },
    /// The caller's own code panicked while it wrote the request.
    Panicked,
}

impl End {
    /// Whether it promises that the call has not run.
    pub(crate) fn promises_not_run(self) -> bool {
        match self {
            Self::Reply { refused, .. } => refused,
            Self::NotSent | Self::Refused | Self::Panicked => true,
            Self::Expired { sent } => !sent,
            Self::Unknown => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Somebody waits.
    Open,
    /// The caller gave up.
    GivenUp,
    Ended(End),
}

/// One call of a client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    #[allow(dead_code, reason = "there is one kind so far; it is shown in reports")]
    pub(crate) kind: CallKind,
    pub(crate) host: usize,
    pub(crate) behaviour: Behaviour,
    pub(crate) state: State,
    /// Set by the first poll, in ns.
    pub(crate) deadline: Option<u64>,
    /// The request was written into the channel.
    pub(crate) encoded: bool,
    /// Its handler began.
    pub(crate) begun: bool,
    /// Its handler gave its own answer.
    pub(crate) answered: bool,
    /// Bytes of its line may change: the other side cannot be held to its words.
    pub(crate) tainted: bool,
}

/// One handler, from its first poll to its drop.
#[derive(Debug)]
pub(crate) struct Work {
    /// The call, if it is one that a client of ours made; shown in reports.
    #[allow(dead_code, reason = "it is shown in reports")]
    pub(crate) call: Option<u64>,
    pub(crate) host: usize,
    pub(crate) connection: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) waker: Option<Waker>,
    /// Its timer fired since it looked.
    pub(crate) fired: bool,
    /// It was woken and has not been polled since.
    pub(crate) woken: bool,
    /// It waits for a timer of the engine's.
    pub(crate) sleeps_until: Option<u64>,
}

/// All calls and all live handlers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) calls: RefCell<BTreeMap<u64, Call>>,
    pub(crate) works: RefCell<BTreeMap<u64, Work>>,
    /// Wakers of the tasks of calls that are not over.
    pub(crate) wakers: RefCell<BTreeMap<u64, Waker>>,
    /// Wakers of handlers that are over, for late wakes.
    pub(crate) stale: RefCell<BTreeMap<u64, Waker>>,
    pub(crate) works_made: RefCell<u64>,
    /// What moves forward: used to see whether anything did.
    pub(crate) steps: RefCell<u64>,
}

impl Ledger {
    pub(crate) fn step(&self) {
        *self.steps.borrow_mut() += 1;
    }

    /// How many calls have a caller that waits.
    pub(crate) fn open(&self) -> usize {
        let calls = self.calls.borrow();
        calls.values().filter(|call| call.state == State::Open).count()
    }

    pub(crate) fn next_work(&self) -> u64 {
        let mut made = self.works_made.borrow_mut();
        *made += 1;
        *made
    }
}
