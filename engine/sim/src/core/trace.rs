//! What happened: always hashed, the last events kept, printed on demand.

use std::cell::RefCell;
use std::fmt;

use corewire_proto::CloseReason;
use corewire_testing::net::NetNote;
use corewire_testing::trace::{Tape, time};

use crate::core::Event;
use crate::judge::ledger::End;
use crate::plan::script::Finish;

/// How many of the last notes are kept for a report.
const KEPT: usize = 120;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Note {
    /// An event of the agenda.
    Event(Event),
    /// A host turned.
    Turn { host: usize, worked: bool },
    /// Something at a socket or on a wire.
    Net(NetNote),
    /// A connection was ended for a timeout.
    Judged { host: usize, wire: usize, reason: CloseReason },
    /// A caller polled its call for the first time.
    Began { call: u64, host: usize },
    /// The request was written.
    Encoded { call: u64 },
    /// The call ended like this.
    Ended { call: u64, end: End },
    /// The caller gave the call up.
    GivenUp { call: u64, sent: bool },
    /// The handler of a call began.
    Handling { call: u64, work: u64, connection: u64 },
    /// The handler of a call was polled again.
    Polled { work: u64 },
    /// The handler was dropped.
    Dropped { work: u64 },
    /// One end of a stream sent a message into it.
    Sends { call: u64, up: bool, number: u32 },
    /// The other end took it.
    Gets { call: u64, up: bool, number: u32 },
    /// One end of a stream ended it like this.
    Finishes { call: u64, up: bool, finish: Finish },
    /// The other end learned of its end.
    SeesEnd { call: u64, up: bool },
    /// A server host began its life with this number.
    Started { host: usize, life: u64 },
    /// A server host was drained and ended.
    Drained { host: usize },
    /// All hosts were told that everything may be ready, though nothing was.
    Nudged,
    /// A part of the run begins.
    Phase(&'static str),
    /// A shard hands a call on to the owner of its key.
    Forwarded { call: u64, host: usize, owner: u16 },
    /// A server's shard died.
    Died { host: usize },
}

/// The rules that a run must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violated {
    /// A call has exactly one outcome, and its handler runs at most once.
    Once,
    /// A call reported as not run has not run, and does not run later.
    Truth,
    /// A reply is the answer to its call.
    Echo,
    /// Messages of a stream come in order, unchanged, each once.
    Order,
    /// A stream has one end, after its last message, for its sender's reason.
    End,
    /// Credit is neither lost nor created.
    Credit,
    /// When a caller goes away, the work done for it ends, however many servers away.
    Cascade,
    /// A call by key runs on the shard that owns the key, and its reply says so.
    Owner,
    /// What handlers run on other shards runs there once, as it should, and ends with who waits for it.
    Errand,
    /// A call ends with a status that its handler, its deadline or the drain explains.
    Status,
    /// A deadline ends a call at its time, not earlier and not later, at the caller and at the server.
    Deadline,
    /// Handlers of connections that are gone are dropped in the same turn.
    Orphan,
    /// Whatever waits and could go on is woken.
    LostWake,
    /// A well-behaved peer is never blamed.
    Blame,
    /// A host that ends a connection for a timeout has read what arrived, and was running for all that time.
    Patience,
    /// Buffers, queues and heaps stay within their bounds.
    Memory,
    /// When faults have stopped, everything ends within a bounded time.
    Unfinished,
    /// When faults have stopped, calls succeed again.
    Recovery,
    /// Nothing is left at the end.
    Leftover,
    /// A shard does not turn for ever without time passing.
    Livelock,
    /// The engine does not panic.
    Panic,
}

impl fmt::Display for Violated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Once => "once: a call has exactly one outcome and runs at most once",
            Self::Truth => "truth: a call that is said not to have run must not run",
            Self::Echo => "echo: a reply must answer its own call",
            Self::Order => "order: a stream's messages must come in order, unchanged, each once",
            Self::End => {
                "end: a stream must end once, behind its last message, for its sender's reason"
            }
            Self::Credit => "credit: it must neither be lost nor made",
            Self::Cascade => "cascade: what is done for a caller that is gone must end",
            Self::Owner => "owner: a call by key runs on the shard that owns the key",
            Self::Errand => "errand: what a handler sends to another shard runs there, and once",
            Self::Status => "status: a call's status must have a reason",
            Self::Deadline => "deadline: it must be kept, on both sides",
            Self::Orphan => "orphan: a connection's handlers must go with it",
            Self::LostWake => "lost wake: what can go on must be woken",
            Self::Blame => "blame: a well-behaved peer must not be blamed",
            Self::Patience => {
                "patience: a timeout must count our time only, and follow a look at what came"
            }
            Self::Memory => "memory: buffers, queues and heaps must stay within their bounds",
            Self::Unfinished => "unfinished: without faults everything must end in bounded time",
            Self::Recovery => "recovery: without faults calls must succeed again",
            Self::Leftover => "leftover: nothing may be left at the end",
            Self::Livelock => "livelock: time must pass",
            Self::Panic => "panic: the engine must not panic",
        })
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Violated,
    /// How it was broken.
    pub what: String,
    /// When, in ns of virtual time.
    pub at: u64,
}

#[derive(Debug)]
struct State {
    tape: Tape<Note>,
    violation: Option<Violation>,
    /// Where to print to, if anywhere.
    print: Option<fn(&str)>,
}

/// The trace of one run.
#[derive(Debug)]
pub(crate) struct Trace(RefCell<State>);

impl Trace {
    pub(crate) fn new(print: Option<fn(&str)>) -> Self {
        Self(RefCell::new(State { tape: Tape::new(KEPT), violation: None, print }))
    }

    pub(crate) fn note(&self, at: u64, note: Note) {
        let state = &mut *self.0.borrow_mut();
        if let Some(print) = state.print {
            print(&line(at, &note));
        }
        state.tape.note(at, note);
    }

    pub(crate) fn violated(&self, at: u64, rule: Violated, what: impl FnOnce() -> String) {
        let state = &mut *self.0.borrow_mut();
        if state.violation.is_none() {
            let violation = Violation { rule, what: what(), at };
            if let Some(print) = state.print {
                print(&format!("{} VIOLATED {rule}: {}", time(at), violation.what));
            }
            state.violation = Some(violation);
        }
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.0.borrow().violation.is_some()
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.0.borrow().violation.clone()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.borrow().tape.hash()
    }

    pub(crate) fn notes(&self) -> u64 {
        self.0.borrow().tape.notes()
    }

    /// The last notes, one per line.
    pub(crate) fn last(&self) -> Vec<String> {
        self.0.borrow().tape.last().map(|(at, note)| line(*at, note)).collect()
    }
}

fn line(at: u64, note: &Note) -> String {
    format!("{} {note:?}", time(at))
}
