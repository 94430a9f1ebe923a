//! A seeded simulation of Corewire: clients, server shards and the network between them, on one
//! thread, under a virtual clock.
//!
//! The driver, channel and protocol that run are those of production; everything around them is
//! simulated: sockets, readiness, time, other threads, handlers, callers, and trouble of all kinds. A
//! seed decides everything, so that a failing run can be repeated in every detail:
//!
//! ```text
//!           ┌ host: client ───────┐                      ┌ host: server shard ──┐
//!  calls ──▶│ Channel, Driver ─▶ SimIo ◀═ wires, faults ═▶ SimIo ◀─ Driver      │──▶ handlers
//!           └─────────────────────┘   net.rs   core.rs   └──────────────────────┘     service.rs
//!                 client.rs               hostile.rs              │
//!                     └───────────── ledger.rs, check.rs ─────────┘
//! ```
//!
//! The shards of a server are apart, or have a mesh ([`Shards`]): then calls have keys and are handed to the shards that own
//! them, and handlers run code on other shards.
//!
//! A run has these parts: trouble; then no new faults, until every call has ended; a calm call on each
//! channel, which must succeed; the clients leave; the servers drain; nothing may be left. The rules
//! that it must keep all the while are [`Violated`].
#![forbid(unsafe_code)]

mod core;
mod hosts;
mod judge;
mod net;
mod peers;
mod plan;
mod world;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::core::Core;
use crate::core::trace::Trace;
use crate::hosts::blocking::BlockingRuntime;
use crate::hosts::runtime::Seat;
use crate::hosts::task::TaskRuntime;
use crate::hosts::thread::ThreadRuntime;
use crate::judge::ledger::State;
use crate::plan::Plan;
use crate::world::World;

pub use crate::core::trace::{Violated, Violation};
pub use crate::hosts::runtime::Shells;
pub use crate::plan::mesh::Shards;
pub use crate::world::cases::Case;

/// The result of one seed's run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The rule that was broken first, if any.
    pub violation: Option<Violation>,
    /// A hash over everything that happened: the same seed gives the same hash.
    pub hash: u64,
    /// How many things happened.
    pub notes: u64,
    /// Virtual time at the end, in ns.
    pub ns: u64,
    /// The last things that happened, one per line, if a rule was broken.
    pub last: Vec<String>,
    /// How many calls ended in which way.
    pub ends: BTreeMap<String, u64>,
    /// The kind of the clients' channels.
    pub shells: Shells,
    /// How the shards of its servers know each other.
    pub shards: Shards,
    plan: Plan,
}

impl Report {
    /// What the seed was about, for people to read.
    #[must_use]
    pub fn plan(&self) -> String {
        format!("{:#?}", self.plan)
    }
}

/// Runs one seed; `print` gets each line of its trace.
#[must_use]
pub fn run(seed: u64, shells: Shells, shards: Shards, print: Option<fn(&str)>) -> Report {
    run_core(seed, Core::new(seed, shells, shards, Trace::new(print)))
}

/// Runs one seed with a bug that is planted while client hosts run: what is found is a bug of the clients' side.
#[cfg(feature = "canary")]
#[must_use]
pub fn run_with_bug_at_clients(
    seed: u64,
    shells: Shells,
    bug: corewire_proto::canary::Bug,
) -> Report {
    let core = Core::new(seed, shells, Shards::Apart, Trace::new(None));
    core.bug_at_clients.set(Some(bug));
    let report = run_core(seed, core);
    corewire_proto::canary::plant(None);
    report
}

/// Runs one of the written cases; `print` gets each line of its trace.
#[must_use]
pub fn run_case(case: Case, shells: Shells, print: Option<fn(&str)>) -> Report {
    run_core(0, world::cases::core(case, shells, Trace::new(print)))
}

#[allow(clippy::needless_pass_by_value, reason = "it is the run's own")]
fn run_core(seed: u64, core: Rc<Core>) -> Report {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(Rc::clone(&core), |core, net, seat| match seat {
            Seat::Tasks { host, mutating } => Rc::new(TaskRuntime::new(core, net, host, mutating)),
            Seat::Threads { host, mutating } => {
                Rc::new(BlockingRuntime::new(core, net, host, mutating))
            }
            Seat::Thread { thread, mutating } => {
                Rc::new(ThreadRuntime::new(core, thread, mutating))
            }
        });
        world.run();
        core.over.set(true);
        let calls = world.ledger.calls.borrow();
        let mut ends = BTreeMap::new();
        for call in calls.values() {
            *ends.entry(kind(&call.state)).or_insert(0) += 1;
        }
        for (what, count) in [
            ("handed to the owners of their keys", &world.ledger.forwarded),
            ("whose handlers had other shards do something", &world.ledger.errands),
        ] {
            if count.get() > 0 {
                ends.insert(what.to_owned(), count.get());
            }
        }
        ends
    }));
    core.over.set(false);
    let ends = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        core.violated(Violated::Panic, || text.unwrap_or_else(|| "no text".to_owned()));
        BTreeMap::new()
    });
    let violation = core.trace.violation();
    Report {
        seed,
        last: if violation.is_some() { core.trace.last() } else { Vec::new() },
        violation,
        hash: core.trace.hash(),
        notes: core.trace.notes(),
        ns: core.now(),
        ends,
        shells: core.shells,
        shards: core.shards,
        plan: core.plan.clone(),
    }
}

/// The name of a call's end, without its details.
fn kind(state: &State) -> String {
    match state {
        State::Open => "open".to_owned(),
        State::GivenUp => "given up".to_owned(),
        State::Ended(end) => format!("{end:?}"),
    }
}
