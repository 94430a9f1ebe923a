//! What is known of every call and every handler, and what may not be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Waker;

use corewire_codec::StatusCode;

use crate::message::{Ask, Behaviour, CallKind};
use crate::script::Finish;

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
    /// A one-way call was written, and nothing more is heard of it.
    Written,
}

impl End {
    /// Whether it promises that the call has not run.
    pub(crate) fn promises_not_run(self) -> bool {
        match self {
            Self::Reply { refused, .. } => refused,
            Self::NotSent | Self::Refused | Self::Panicked => true,
            Self::Expired { sent } => !sent,
            Self::Unknown | Self::Written => false,
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
    /// How many servers more it goes to.
    pub(crate) hops: u8,
    /// It is stalled on purpose: nothing else waits for it.
    pub(crate) held: bool,
    /// The caller is there to hear of its end; a slow one may be busy with what came before.
    pub(crate) attended: bool,
    /// Since when nobody waits for it any more, in ns.
    pub(crate) over_at: Option<u64>,
}

impl Call {
    /// A call that begins.
    pub(crate) fn new(kind: CallKind, host: usize, ask: &Ask) -> Self {
        Self {
            kind,
            host,
            behaviour: ask.behaviour,
            state: State::Open,
            deadline: None,
            encoded: false,
            begun: false,
            answered: false,
            tainted: false,
            hops: ask.hops,
            held: false,
            attended: true,
            over_at: None,
        }
    }
}

/// What one direction of a stream has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaneBook {
    pub(crate) sent: u32,
    pub(crate) got: u32,
    /// What messages that were sent and not read cost.
    pub(crate) under_way: u64,
    /// How the sender ended it.
    pub(crate) given: Option<Finish>,
    /// The reader was told of the end.
    pub(crate) seen: bool,
    /// Somebody is there to read.
    pub(crate) reader: bool,
}

/// One handler, from its first poll to its drop.
#[derive(Debug)]
pub(crate) struct Work {
    /// The call, if it is one that a client of ours made.
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
    /// The streams of calls, by call and direction: up is `true`.
    pub(crate) lanes: RefCell<BTreeMap<(u64, bool), LaneBook>>,
    /// What the clients' calls that stream asked for.
    pub(crate) asks: RefCell<BTreeMap<u64, Ask>>,
    /// Calls that handlers made so far.
    pub(crate) hops_made: RefCell<u64>,
    /// One-way calls that servers counted as dropped, of shards that are over.
    pub(crate) one_way_dropped: RefCell<u64>,
    /// What moves forward: used to see whether anything did.
    pub(crate) steps: RefCell<u64>,
}

impl Ledger {
    pub(crate) fn step(&self) {
        *self.steps.borrow_mut() += 1;
    }

    /// How many calls have a caller that waits; those that are stalled on purpose only if asked for.
    pub(crate) fn open(&self, held: bool) -> usize {
        let calls = self.calls.borrow();
        let open = calls.values().filter(|call| call.state == State::Open);
        open.filter(|call| held || !call.held).count()
    }

    /// One-way calls that were written into connections, and handlers of such calls that began.
    pub(crate) fn one_way(&self) -> (u64, u64) {
        let calls = self.calls.borrow();
        let one_way = || calls.values().filter(|call| call.kind == CallKind::OneWay);
        let written = one_way().filter(|call| call.state == State::Ended(End::Written)).count();
        (written as u64, one_way().filter(|call| call.begun).count() as u64)
    }

    pub(crate) fn next_work(&self) -> u64 {
        let mut made = self.works_made.borrow_mut();
        *made += 1;
        *made
    }
}
