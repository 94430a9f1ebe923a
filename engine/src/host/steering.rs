//! Chooses how connections are spread over the shards, and looks whether that does them good
//! (`docs/decisions/0014-local-packets.md`).

use std::io;
use std::sync::Arc;

use crate::net::listener::SharedListener;
use crate::net::steering::{self, Steering};
use crate::shard::arrivals::Arrivals;

/// Before this version a group of listeners with `SO_INCOMING_CPU` picks a wrong one (from 4.6 on).
const HONOURED_SINCE: (u32, u32) = (6, 2);

/// How connections are spread now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Hash,
    IncomingCpu,
    Cbpf,
}

/// The groups of listeners of one server.
#[derive(Debug)]
pub(crate) struct Steerer {
    way: Way,
    /// The CPU of each shard; empty where shards are not pinned.
    cpus: Vec<usize>,
    /// The listeners by shard, each with one for each address.
    listeners: Vec<Vec<SharedListener>>,
    /// The shards whose listeners are in their groups, by their place there. As the kernel does: a member that leaves is
    /// replaced by the last one, and one that comes is the last.
    members: Vec<usize>,
    /// `Some` if it changes its mind by what it sees.
    watch: Option<Watch>,
}

impl Steerer {
    /// Chooses by what is asked and what the kernel offers, applies it, and says so in one line. `listeners` are those in
    /// groups, by shard; `cpus` those of pinned shards; `is_aligned` says that a card has a queue for each shard.
    pub(crate) fn start(
        asked: Steering,
        kernel: Option<(u32, u32)>,
        cpus: &[Option<usize>],
        is_aligned: bool,
        listeners: Vec<Vec<SharedListener>>,
    ) -> Self {
        let members = (0..listeners.len()).collect();
        let pinned: Option<Vec<usize>> = cpus.iter().copied().collect();
        let cpus = pinned.unwrap_or_default();
        let has_groups = listeners.iter().any(|shard| !shard.is_empty());
        let is_honoured = kernel.is_none_or(|version| version >= HONOURED_SINCE);
        let (way, why) = match asked {
            _ if cpus.is_empty() => (Way::Hash, "the shards are not pinned"),
            _ if cpus.len() < 2 || !has_groups => (Way::Hash, "there is nothing to choose from"),
            Steering::Hash => (Way::Hash, "as set"),
            Steering::Cbpf => (Way::Cbpf, "as set"),
            _ if !is_honoured => {
                (Way::Hash, "SO_INCOMING_CPU needs Linux 6.2; Steering::Cbpf works before that")
            }
            Steering::IncomingCpu => (Way::IncomingCpu, "as set"),
            Steering::Auto if is_aligned => {
                (Way::IncomingCpu, "the placement file gives each shard a queue")
            }
            Steering::Auto => (Way::Hash, "until packets are seen to arrive on each shard's CPU"),
        };
        let could = cpus.len() > 1 && has_groups && is_honoured;
        let watch = (asked == Steering::Auto && could).then(|| Watch::new(&cpus));
        let mut steerer = Self { way: Way::Hash, cpus, listeners, members, watch };
        let way = steerer.turn_to(way);
        let refused = matches!(asked, Steering::IncomingCpu | Steering::Cbpf) && way == Way::Hash;
        if refused {
            tracing::warn!(%asked, way = way.name(), why, "how connections are spread over the shards");
        } else {
            tracing::info!(%asked, way = way.name(), why, "how connections are spread over the shards");
        }
        steerer
    }

    /// Where shards note the CPUs of packets, if anybody wants to know.
    pub(crate) fn arrivals(&self) -> Option<Arc<Arrivals>> {
        self.watch.as_ref().map(|watch| Arc::clone(&watch.arrivals))
    }

    /// A shard's listeners were taken out of service.
    pub(crate) fn left(&mut self, shard: usize) {
        if let Some(place) = self.members.iter().position(|member| *member == shard) {
            self.members.swap_remove(place);
            if self.way == Way::Cbpf {
                self.apply(Way::Cbpf);
            }
        }
    }

    /// A shard's listeners are back in service.
    pub(crate) fn joined(&mut self, shard: usize) {
        if !self.members.contains(&shard) {
            self.members.push(shard);
            if self.way != Way::Hash {
                self.apply(self.way);
            }
        }
    }

    /// Looks at what arrived, and changes the way if that is better.
    pub(crate) fn look(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let is_steered = self.way != Way::Hash;
        let Some((way, why)) = watch.look(is_steered) else { return };
        if self.turn_to(way) == way {
            tracing::info!(
                way = way.name(),
                why,
                "connections are spread in another way from now on"
            );
        }
    }

    /// Returns the way that it is then: by hash, if the kernel refuses another one.
    fn turn_to(&mut self, way: Way) -> Way {
        if way != self.way {
            self.way = if self.apply(way) { way } else { Way::Hash };
        }
        self.way
    }

    /// Tells the kernel. What it refused is taken back.
    fn apply(&self, way: Way) -> bool {
        match self.try_apply(way) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, way = way.name(), "the kernel refuses it; connections are spread by hash");
                // It was by hash before, and so nothing has to be undone if this fails, too.
                let _ = self.try_apply(Way::Hash);
                false
            }
        }
    }

    fn try_apply(&self, way: Way) -> io::Result<()> {
        if way == Way::Cbpf || self.way == Way::Cbpf {
            let table: Vec<usize> = match way {
                Way::Cbpf => {
                    self.members.iter().filter_map(|&shard| self.cpus.get(shard)).copied().collect()
                }
                _ => Vec::new(),
            };
            // Each address has a group, which any member speaks for.
            if let Some(first) = self.members.first().and_then(|&shard| self.listeners.get(shard)) {
                first.iter().try_for_each(|listener| steering::attach(listener, &table))?;
            }
            return Ok(());
        }
        for (shard, cpu) in self.listeners.iter().zip(&self.cpus) {
            let cpu = (way == Way::IncomingCpu).then_some(*cpu);
            shard.iter().try_for_each(|listener| steering::prefer(listener, cpu))?;
        }
        Ok(())
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::IncomingCpu => "incoming-cpu",
            Self::Cbpf => "cbpf",
        }
    }
}

/// Connections per shard that must have been seen before they are steered by CPU.
const ENOUGH: u64 = 256;
/// Connections per shard from which on a pile is noticed.
const EARLY: u64 = 32;
/// Connections per shard after which the next look begins anew.
const FULL: u64 = 1024;
/// How often at most the number of connections that it takes to steer again doubles.
const DOUBLINGS: u32 = 6;

/// Decides by the CPUs on which packets of accepted connections arrived.
#[derive(Debug)]
struct Watch {
    arrivals: Arc<Arrivals>,
    /// The counts when the window began.
    since: Vec<u64>,
    /// How often steering was given up.
    given_up: u32,
}

impl Watch {
    fn new(cpus: &[usize]) -> Self {
        let arrivals = Arc::new(Arrivals::new(cpus));
        let since = arrivals.counts();
        Self { arrivals, since, given_up: 0 }
    }

    /// The way to go over to, and why.
    fn look(&mut self, is_steered: bool) -> Option<(Way, &'static str)> {
        let now = self.arrivals.counts();
        let window: Vec<u64> =
            now.iter().zip(&self.since).map(|(now, since)| now.wrapping_sub(*since)).collect();
        let needed = ENOUGH << self.given_up.min(DOUBLINGS);
        let verdict = judge(&window, is_steered, needed);
        let (elsewhere, shards) = window.split_last()?;
        let full = if is_steered { FULL } else { needed };
        let total = shards.iter().sum::<u64>() + elsewhere;
        if verdict.is_some() || total >= full.saturating_mul(shards.len() as u64) {
            self.since = now;
        }
        match verdict? {
            Verdict::Spread => {
                Some((Way::IncomingCpu, "packets arrive evenly on the shards' CPUs"))
            }
            Verdict::Piled => {
                self.given_up = self.given_up.saturating_add(1);
                Some((Way::Hash, "packets pile up on some of the shards' CPUs"))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Spread,
    Piled,
}

/// `window` has the connections by the shard on the CPU of their packets, and last those of CPUs without a shard, which the
/// kernel spreads. A hash of as many connections is uneven, too: by four standard deviations hardly ever.
fn judge(window: &[u64], is_steered: bool, needed: u64) -> Option<Verdict> {
    let (elsewhere, shards) = window.split_last()?;
    let count = shards.len() as u64;
    let local: u64 = shards.iter().sum();
    let total = local + elsewhere;
    let most = shards.iter().max()? + elsewhere / count;
    let mean = total / count;
    let bound = mean + mean / 4;
    if is_steered {
        let is_piled = mean >= EARLY && most > bound + 4 * mean.isqrt();
        return is_piled.then_some(Verdict::Piled);
    }
    let is_spread = mean >= needed && most <= bound && local >= *elsewhere;
    is_spread.then_some(Verdict::Spread)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::net::listener;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use std::net::TcpStream;

    /// What is asked, on which kernel, with shards on which CPUs, and whether a file gives each a queue; and what comes of it.
    #[test]
    fn it_begins_with_what_the_kernel_offers() {
        let pinned = [Some(0), Some(1)];
        let (_, group) = listener::listen(([127, 0, 0, 1], 0).into(), 2, 1).unwrap();
        let listeners: Vec<Vec<SharedListener>> =
            group.iter().map(|it| vec![Arc::clone(it)]).collect();
        let begin = |asked, kernel, cpus: &[Option<usize>], is_aligned| {
            let steerer = Steerer::start(asked, kernel, cpus, is_aligned, listeners.clone());
            (steerer.way, steerer.watch.is_some())
        };
        let (old, new) = (Some((6, 1)), Some((6, 2)));
        assert_eq!(begin(Steering::Auto, new, &pinned, false), (Way::Hash, true));
        assert_eq!(begin(Steering::Auto, new, &pinned, true), (Way::IncomingCpu, true));
        assert_eq!(begin(Steering::Auto, old, &pinned, true), (Way::Hash, false));
        assert_eq!(begin(Steering::IncomingCpu, new, &pinned, false), (Way::IncomingCpu, false));
        assert_eq!(begin(Steering::IncomingCpu, old, &pinned, false), (Way::Hash, false));
        assert_eq!(begin(Steering::Cbpf, old, &pinned, false), (Way::Cbpf, false));
        assert_eq!(begin(Steering::Hash, new, &pinned, true), (Way::Hash, false));
        for asked in [Steering::Auto, Steering::IncomingCpu, Steering::Cbpf] {
            assert_eq!(begin(asked, new, &[None, None], false), (Way::Hash, false), "{asked}");
            assert_eq!(begin(asked, new, &[Some(0)], false), (Way::Hash, false), "{asked}");
        }
    }

    /// The kernel keeps the places of a group as `members` does: with three listeners of which some leave and come back,
    /// the one whose CPU the client is on takes every connection.
    #[test]
    fn the_table_follows_listeners_that_leave_and_come_back() {
        const BACKLOG: i32 = 64;
        let all = sched_getaffinity(None).unwrap();
        let here = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap();
        let mut only = CpuSet::new();
        only.set(here);
        for (way, shard) in [Steering::Cbpf, Steering::IncomingCpu]
            .into_iter()
            .flat_map(|way| [0, 1, 2].map(|it| (way, it)))
        {
            let (address, group) =
                listener::listen(([127, 0, 0, 1], 0).into(), 3, BACKLOG).unwrap();
            // The other two are on CPUs that take no packets.
            let cpus = [0, 1, 2].map(|it| Some(if it == shard { here } else { 900 + it }));
            let listeners = group.iter().map(|it| vec![Arc::clone(it)]).collect();
            let mut steerer = Steerer::start(way, None, &cpus, false, listeners);
            let taken_by = |wanted: usize| {
                let connect = || -> Vec<TcpStream> {
                    sched_setaffinity(None, &only).unwrap();
                    (0..16).map(|_| TcpStream::connect(address).unwrap()).collect()
                };
                let _open = std::thread::scope(|scope| scope.spawn(connect).join().unwrap());
                let taken = |it: &SharedListener| {
                    std::iter::from_fn(|| rustix::net::accept(it).ok()).count()
                };
                let counts: Vec<usize> = group.iter().map(taken).collect();
                assert_eq!(counts.get(wanted), Some(&16), "{way}, shard {shard}: {counts:?}");
            };
            taken_by(shard);
            for moved in [0, 2, 1, 0] {
                listener::stop(&group[moved]);
                steerer.left(moved);
                if moved != shard {
                    taken_by(shard);
                }
                listener::resume(&group[moved], BACKLOG).unwrap();
                steerer.joined(moved);
                taken_by(shard);
            }
            // All were gone, and with them the group.
            for moved in [1, 0, 2] {
                listener::stop(&group[moved]);
                steerer.left(moved);
            }
            for moved in [2, 1, 0] {
                listener::resume(&group[moved], BACKLOG).unwrap();
                steerer.joined(moved);
            }
            taken_by(shard);
        }
    }

    #[test]
    fn connections_are_steered_when_enough_arrive_spread() {
        assert_eq!(judge(&[256, 256, 0], false, ENOUGH), Some(Verdict::Spread));
        assert_eq!(judge(&[250, 250, 0], false, ENOUGH), None, "too few");
        assert_eq!(
            judge(&[512, 0, 0], false, ENOUGH),
            None,
            "a client on one CPU, or a card with one queue"
        );
        assert_eq!(judge(&[400, 200, 0], false, ENOUGH), None);
        assert_eq!(judge(&[100, 100, 1000], false, ENOUGH), None, "most arrive where no shard is");
        let even = [vec![256; 64], vec![0]].concat();
        assert_eq!(judge(&even, false, ENOUGH), Some(Verdict::Spread));
    }

    #[test]
    fn a_pile_ends_it_and_the_unevenness_of_a_hash_does_not() {
        assert_eq!(judge(&[64, 0, 0], true, ENOUGH), Some(Verdict::Piled));
        assert_eq!(judge(&[40, 24, 0], true, ENOUGH), None);
        assert_eq!(judge(&[20, 0, 0], true, ENOUGH), None, "too few");
        assert_eq!(judge(&[900, 300, 0], true, ENOUGH), Some(Verdict::Piled));
        // Four deviations of 32 connections per shard, on 64 shards.
        let uneven = [vec![54], vec![32; 63], vec![0]].concat();
        assert_eq!(judge(&uneven, true, ENOUGH), None);
        let one_queue = [vec![2048], vec![0; 64]].concat();
        assert_eq!(judge(&one_queue, true, ENOUGH), Some(Verdict::Piled));
    }

    /// Each time that steering was given up, it takes twice as many connections to try it again.
    #[test]
    fn a_load_that_changes_does_not_make_it_flutter() {
        let mut watch = Watch::new(&[0, 1]);
        let feed = |watch: &Watch, one: u64, two: u64| {
            (0..one).for_each(|_| watch.arrivals.note(0));
            (0..two).for_each(|_| watch.arrivals.note(1));
        };
        let mut needed = Vec::new();
        for _ in 0..3 {
            let mut fed = 0;
            while watch.look(false).is_none() {
                feed(&watch, 64, 64);
                fed += 64;
            }
            needed.push(fed);
            feed(&watch, 100, 0);
            assert!(matches!(watch.look(true), Some((Way::Hash, _))));
        }
        assert_eq!(needed, [256, 512, 1024]);
    }
}
