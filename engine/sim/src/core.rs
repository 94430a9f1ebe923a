//! What every part of a simulation shares: the clock, the dice, the agenda of future events, the trace, and the
//! plan.

pub(crate) mod trace;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corewire_testing::ground::{Agenda, Clock};

use crate::core::trace::{Note, Trace, Violated};
use crate::hosts::client::Wish;
use crate::hosts::errand::Errands;
use crate::hosts::runtime::Shells;
use crate::judge::patience::Absences;
use crate::plan::mesh::Shards;
use crate::plan::{Plan, SECOND};

/// Tells the dice of the mesh apart from the others.
const MESH: u64 = 0x6d65_7368_2064_6963;

pub(crate) use corewire_testing::ground::{Dice, SURE};
use corewire_testing::net::NetEvent;
pub(crate) use corewire_testing::net::Tamper;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Something of the network's.
    Net(NetEvent),
    /// A handler's timer fires.
    Wake { work: u64, foreign: bool },
    /// A client makes its next call.
    Call { call: u64 },
    /// A caller loses patience.
    GiveUp { call: u64 },
    /// A server host drains.
    Drain { host: usize },
    /// A server host that ended comes back.
    Restart { host: usize },
    /// A wire is cut, stalled or silenced.
    Trouble,
    /// What is on its way to an end is changed, as a written case asks.
    Tamper { wire: usize, to: usize, how: Tamper },
    /// A host does not run for a while.
    Freeze { host: usize, ns: u64 },
    /// Time jumps for everybody.
    Jump { ns: u64 },
    /// A peer that follows no protocol does something.
    Hostile { peer: usize },
    /// A server that follows no protocol does something.
    Impostor { peer: usize },
    /// A client's channel is dropped and made again.
    Renew { host: usize, channel: usize },
    /// No new faults from here on.
    Heal,
    /// A shard of a server has made its services and listens, if it still lives this life.
    Serve { host: usize, life: u64 },
    /// A shard of a server dies.
    Die { host: usize },
}

/// The shared parts, together.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    /// The dice for what concerns channels that no shard has, so that the rest of a seed does not depend on them.
    pub(crate) side: Dice,
    /// The dice for what concerns the mesh of a server's shards.
    pub(crate) mesh: Dice,
    pub(crate) shards: Shards,
    pub(crate) shells: Shells,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) trace: Trace,
    pub(crate) plan: Plan,
    /// Calls that are given, not drawn, by their ids.
    pub(crate) wishes: RefCell<BTreeMap<u64, Wish>>,
    /// Whether faults still happen.
    pub(crate) faulty: Cell<bool>,
    /// Whether callers are patient.
    pub(crate) calm: Cell<bool>,
    /// Whether streams that are stalled on purpose may go on.
    pub(crate) released: Cell<bool>,
    /// Whether any fault has happened so far.
    pub(crate) disturbed: Cell<bool>,
    /// Whether the simulation is being taken down: nothing is checked any more.
    pub(crate) over: Cell<bool>,
    /// When the first server began to drain.
    pub(crate) drained_since: Cell<Option<u64>>,
    /// By how much the clock has jumped, in ns.
    pub(crate) jumped: Cell<u64>,
    /// Whether a shard of a server with a mesh has ended: what was on its way to it is lost.
    pub(crate) has_lost_shard: Cell<bool>,
    /// The host whose shard dies at this moment.
    pub(crate) dying: Cell<Option<usize>>,
    /// What handlers run code on other shards with, by server.
    pub(crate) errands: RefCell<Vec<Errands>>,
    /// All code that was sent to other shards has a share of it.
    pub(crate) errand_token: Arc<()>,
    /// When hosts did not run although they would have.
    pub(crate) absences: RefCell<Absences>,
    /// A bug that is planted while client hosts run, and only then.
    #[cfg(feature = "canary")]
    pub(crate) bug_at_clients: Cell<Option<corewire_proto::canary::Bug>>,
    /// Bytes that each host's sockets have taken.
    sent: RefCell<Vec<u64>>,
}

impl Core {
    pub(crate) fn new(seed: u64, shells: Shells, shards: Shards, trace: Trace) -> Rc<Self> {
        let dice = Dice::new(seed);
        let plan = Plan::draw(&dice);
        let mesh = Dice::new(seed.rotate_left(32) ^ MESH);
        let plan = match shards {
            Shards::Apart => plan,
            Shards::Meshed => plan.meshed(&mesh),
        };
        Self::with(dice, (Dice::new(!seed), mesh), plan, shells, trace)
    }

    /// The same with a plan that is given, not drawn.
    pub(crate) fn with(
        dice: Dice,
        (side, mesh): (Dice, Dice),
        plan: Plan,
        shells: Shells,
        trace: Trace,
    ) -> Rc<Self> {
        Rc::new(Self {
            clock: Clock::new(),
            dice,
            side,
            mesh,
            shards: if plan.mesh.is_some() { Shards::Meshed } else { Shards::Apart },
            shells,
            agenda: Agenda::default(),
            trace,
            plan,
            wishes: RefCell::default(),
            faulty: Cell::new(true),
            calm: Cell::new(false),
            released: Cell::new(false),
            disturbed: Cell::new(false),
            over: Cell::new(false),
            drained_since: Cell::new(None),
            jumped: Cell::new(0),
            has_lost_shard: Cell::new(false),
            dying: Cell::new(None),
            errands: RefCell::default(),
            errand_token: Arc::default(),
            absences: RefCell::default(),
            #[cfg(feature = "canary")]
            bug_at_clients: Cell::new(None),
            sent: RefCell::default(),
        })
    }

    /// Notes that a socket of this host took `bytes`.
    pub(crate) fn note_sent(&self, host: usize, bytes: usize) {
        let mut sent = self.sent.borrow_mut();
        if sent.len() <= host {
            sent.resize(host + 1, 0);
        }
        sent[host] += bytes as u64;
    }

    /// How many bytes this host's sockets have taken.
    pub(crate) fn sent(&self, host: usize) -> u64 {
        self.sent.borrow().get(host).copied().unwrap_or(0)
    }

    /// Notes that a server begins to drain.
    pub(crate) fn note_drain(&self) {
        let since = self.drained_since.get().unwrap_or_else(|| self.now());
        self.drained_since.set(Some(since));
    }

    /// Whether a server may have stopped handlers by now, because its drain or the grace of a connection was over.
    pub(crate) fn may_stop_handlers(&self) -> bool {
        let drained =
            self.drained_since.get().is_some_and(|at| at + self.plan.drain_within <= self.now());
        let timeouts = &self.plan.timeouts;
        let aged = timeouts.age.is_some() && timeouts.age_grace <= Duration::from_nanos(self.now());
        drained || aged
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether a fault of this probability happens now.
    pub(crate) fn fault(&self, millionths: u32) -> bool {
        let happens = self.faulty.get() && self.dice.chance(millionths);
        if happens {
            self.disturbed.set(true);
        }
        happens
    }

    /// How long a handler may live after its caller has gone, in ns: as long as a lost connection may go
    /// unnoticed; if nothing ever went wrong and nothing is in the way, no longer than a few turns.
    pub(crate) fn cascade_within(&self) -> u64 {
        let plan = &self.plan;
        let clear = plan.habits.large == 0
            && plan.habits.stream == 0
            && plan.pipe >= 32 * 1024
            && !plan.has_little_room();
        if clear && !self.disturbed.get() {
            return 2 * SECOND + 6 * plan.latency.1.max(plan.latency.0);
        }
        // A frozen host and a stalled wire add to that, and so do the jumps of the clock, however many.
        plan.settle_within() + 100 * SECOND + self.jumped.get()
    }

    /// Plans an event for `ns` from now.
    pub(crate) fn after(&self, ns: u64, event: Event) {
        self.agenda.plan(self.now().saturating_add(ns), event);
    }

    pub(crate) fn note(&self, note: Note) {
        self.trace.note(self.now(), note);
    }

    /// Reports that a rule was broken; the first report counts.
    pub(crate) fn violated(&self, rule: Violated, what: impl FnOnce() -> String) {
        if !self.over.get() {
            self.trace.violated(self.now(), rule, what);
        }
    }
}
