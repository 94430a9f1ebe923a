//! What is known of every call and every handler, and what must not happen.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::task::Waker;

use corewire_codec::StatusCode;
use corewire_engine::testing::sim::MeshWatch;

use crate::core::Core;
use crate::plan::message::{Ask, Behaviour, CallKind};
use crate::plan::script::Finish;

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
    /// A one-way call was written, and nothing more will be known of it.
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
    /// A caller waits.
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
    /// The hash of its key.
    pub(crate) key: Option<u64>,
    /// Its handler runs code on other shards first.
    pub(crate) has_errand: bool,
    pub(crate) state: State,
    /// Set by the first poll, in ns.
    pub(crate) deadline: Option<u64>,
    /// The request was written into the channel.
    pub(crate) encoded: bool,
    /// It was written before the server's hello, and may have waited for the hello in vain.
    pub(crate) early: bool,
    /// What its host had sent when the request was written.
    pub(crate) encoded_at: u64,
    /// It ended, or was given up, before its host sent anything more: it must never run.
    pub(crate) kept: bool,
    /// Its handler began.
    pub(crate) begun: bool,
    /// Its handler gave its own answer.
    pub(crate) answered: bool,
    /// Bytes of its wire may change: the other side cannot be held to what it says.
    pub(crate) tainted: bool,
    /// How many more servers it goes to.
    pub(crate) hops: u8,
    /// It is stalled on purpose: nothing else waits for it.
    pub(crate) held: bool,
    /// A handler made it for a caller whose cancel may be lost, because bytes of its wire change: it may go on
    /// until that wire is closed.
    pub(crate) unheard: bool,
    /// Another host drives its connection: that it is given up is heard there only later.
    pub(crate) apart: bool,
    /// The caller is there to learn of its end; a slow one may be busy with what came before.
    pub(crate) attended: bool,
    /// Whether the caller is kept from its channel by another one's call, which blocks their thread.
    pub(crate) kept_from: Option<Rc<Cell<bool>>>,
    /// Since when nobody waits for it any more, in ns.
    pub(crate) over_at: Option<u64>,
}

impl Call {
    /// Whether its caller would learn of its end now.
    pub(crate) fn is_attended(&self) -> bool {
        self.attended && !self.kept_from.as_ref().is_some_and(|is_busy| is_busy.get())
    }

    /// Its request is written into its channel, before the server's hello or after it.
    pub(crate) fn encode(&mut self, core: &Core, early: bool) {
        (self.encoded, self.early) = (true, early);
        self.encoded_at = core.sent(self.host);
    }

    /// Nobody waits for it any more.
    pub(crate) fn end(&mut self, core: &Core, state: State) {
        self.state = state;
        self.over_at = Some(core.now());
        // A one-way call cannot be taken back: it is over when it is written.
        let may_be_taken_back = self.encoded && self.kind != CallKind::OneWay;
        let is_heard = !(self.apart && state == State::GivenUp);
        self.kept = may_be_taken_back && is_heard && self.encoded_at == core.sent(self.host);
    }

    /// A call that begins.
    pub(crate) fn new(kind: CallKind, host: usize, ask: &Ask) -> Self {
        Self {
            kind,
            host,
            behaviour: ask.behaviour,
            key: ask.key_hash(),
            has_errand: ask.errand > 0,
            state: State::Open,
            deadline: None,
            encoded: false,
            early: false,
            encoded_at: 0,
            kept: false,
            begun: false,
            answered: false,
            tainted: false,
            hops: ask.hops,
            held: false,
            unheard: false,
            apart: false,
            attended: true,
            kept_from: None,
            over_at: None,
        }
    }
}

/// How far one direction of a stream has got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaneBook {
    pub(crate) sent: u32,
    pub(crate) got: u32,
    /// The cost of messages that were sent and not read.
    pub(crate) under_way: u64,
    /// How the sender ended it.
    pub(crate) given: Option<Finish>,
    /// The reader learned of the end.
    pub(crate) seen: bool,
    /// There is a reader.
    pub(crate) reader: bool,
}

/// One handler, from its first poll to its drop.
#[derive(Debug)]
pub(crate) struct Work {
    /// The call, if one of our clients made it.
    pub(crate) call: Option<u64>,
    pub(crate) host: usize,
    pub(crate) connection: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) waker: Option<Waker>,
    /// Its timer fired since it last checked.
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
    /// The calls that a caller waits for.
    pub(crate) open: RefCell<BTreeSet<u64>>,
    pub(crate) works: RefCell<BTreeMap<u64, Work>>,
    /// Wakers of the tasks of calls that are not over.
    pub(crate) wakers: RefCell<BTreeMap<u64, Waker>>,
    /// Wakers of handlers that are over, for late wakes.
    pub(crate) stale: RefCell<BTreeMap<u64, Waker>>,
    pub(crate) works_made: RefCell<u64>,
    /// The streams of calls, by call and direction: `true` is up.
    pub(crate) lanes: RefCell<BTreeMap<(u64, bool), LaneBook>>,
    /// What the clients' streaming calls asked for.
    pub(crate) asks: RefCell<BTreeMap<u64, Ask>>,
    /// How many calls handlers made so far.
    pub(crate) hops_made: RefCell<u64>,
    /// One-way calls that servers counted as dropped, of shards that are over.
    pub(crate) one_way_dropped: RefCell<u64>,
    /// Clients' tasks that are over, and not yet checked.
    pub(crate) over: RefCell<Vec<u64>>,
    /// No call with a waiting caller has a deadline before this time, in ns.
    pub(crate) no_deadline_before: Cell<u64>,
    /// Callers who would give a call up that blocks them.
    pub(crate) tired: RefCell<BTreeSet<u64>>,
    /// How many channels are being closed.
    pub(crate) closings: Cell<u64>,
    /// The meshes of all lives of all servers.
    pub(crate) meshes: RefCell<Vec<MeshWatch>>,
    /// How many calls were handed to the owners of their keys.
    pub(crate) forwarded: Cell<u64>,
    /// How many pieces of work handlers had other shards do.
    pub(crate) errands: Cell<u64>,
    /// Counts progress: used to see whether there was any.
    pub(crate) steps: RefCell<u64>,
}

impl Ledger {
    pub(crate) fn step(&self) {
        *self.steps.borrow_mut() += 1;
    }

    /// A call that is open has this deadline.
    pub(crate) fn note_deadline(&self, deadline: Option<u64>) {
        let first = self.no_deadline_before.get().min(deadline.unwrap_or(u64::MAX));
        self.no_deadline_before.set(first);
    }

    /// A call begins.
    pub(crate) fn begin(&self, id: u64, call: Call) {
        self.note_deadline(call.deadline);
        self.open.borrow_mut().insert(id);
        self.calls.borrow_mut().insert(id, call);
    }

    /// Whether a call has a caller that waits and must end; calls that are stalled on purpose count only if
    /// asked for.
    pub(crate) fn is_open(&self, held: bool) -> bool {
        let (calls, open) = (self.calls.borrow(), self.open.borrow());
        let must_end = |call: &Call| !call.unheard && (held || !call.held);
        open.iter().filter_map(|id| calls.get(id)).any(must_end)
    }

    /// One-way calls that were written into connections, and handlers of such calls that began.
    pub(crate) fn one_way(&self) -> (u64, u64) {
        let calls = self.calls.borrow();
        let one_way = || calls.values().filter(|call| call.kind == CallKind::OneWay);
        let written = one_way().filter(|call| call.state == State::Ended(End::Written)).count();
        (written as u64, one_way().filter(|call| call.begun).count() as u64)
    }

    /// One-way calls that were given up after they were encoded, or ended as perhaps sent: they may have been written.
    pub(crate) fn one_way_unknown(&self) -> u64 {
        let calls = self.calls.borrow();
        let unknown = calls.values().filter(|call| {
            let ends = matches!(
                call.state,
                State::GivenUp | State::Ended(End::Unknown | End::Expired { sent: true })
            );
            call.kind == CallKind::OneWay && ends && call.encoded
        });
        unknown.count() as u64
    }

    /// One-way calls that were written, did not begin, and whose deadline has passed: they may have been taken
    /// back.
    pub(crate) fn one_way_lapsed(&self, now: u64) -> u64 {
        let calls = self.calls.borrow();
        let lapsed = calls.values().filter(|call| {
            call.kind == CallKind::OneWay
                && call.state == State::Ended(End::Written)
                && !call.begun
                && call.deadline.is_some_and(|deadline| deadline <= now)
        });
        lapsed.count() as u64
    }

    pub(crate) fn next_work(&self) -> u64 {
        let mut made = self.works_made.borrow_mut();
        *made += 1;
        *made
    }
}
