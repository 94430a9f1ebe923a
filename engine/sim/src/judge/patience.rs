//! Checks those who enforce timeouts: a host that gives a peer up for a timeout must have looked at what
//! had arrived, and must have been running for as long as the timeout lasts.
//!
//! For each connection, the engine reports why it ends ([`Io::ending`](corewire_engine::testing::sim::Io::ending)). The
//! check uses only what the network knows: what lies unread, when something last came, and which frame is not
//! whole. So it holds whatever the peer is, and nothing that happens to hosts or wires is an excuse.

use std::time::Duration;

use corewire_codec::Rule;
use corewire_proto::{CloseReason, Timeouts};
use corewire_testing::net::Seen;

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::plan::{MS, SECOND};

/// When hosts were not running: they could not see what happened meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    /// By host, the start and end in ns, in their order.
    hosts: Vec<Vec<(u64, u64)>>,
    /// The hosts of threads that are away by themselves, which are counted as hosts from [`ACTORS`] on.
    actors: Vec<usize>,
}

/// There are fewer hosts than this.
const ACTORS: usize = 1000;

impl Absences {
    /// This host does nothing from now until `until`.
    pub(crate) fn begin(&mut self, host: usize, now: u64, until: u64) {
        if self.hosts.len() <= host {
            self.hosts.resize(host + 1, Vec::new());
        }
        let Some(times) = self.hosts.get_mut(host) else { return };
        match times.last_mut() {
            // An absence that began before goes on. After one that ends now, the host may have looked.
            Some((_, end)) if *end > now => *end = until.max(*end),
            _ => times.push((now, until)),
        }
    }

    /// A thread of this host that is away by itself, too. Returns what it counts as.
    pub(crate) fn add_actor(&mut self, host: usize) -> usize {
        self.actors.push(host);
        ACTORS + self.actors.len() - 1
    }

    /// When this host, or this thread, was away, in order; a thread is away when its host is.
    fn times(&self, host: usize) -> Vec<(u64, u64)> {
        let own = self.hosts.get(host).into_iter().flatten();
        let of_host = host.checked_sub(ACTORS).and_then(|actor| self.actors.get(actor));
        let of_host = of_host.and_then(|host| self.hosts.get(*host)).into_iter().flatten();
        let mut times: Vec<(u64, u64)> = own.chain(of_host).copied().collect();
        if host < ACTORS {
            return times;
        }
        times.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (begin, end) in times {
            match merged.last_mut() {
                Some((_, last)) if *last > begin => *last = end.max(*last),
                _ => merged.push((begin, end)),
            }
        }
        merged
    }

    /// This host runs again, if it was away.
    pub(crate) fn end(&mut self, host: usize, now: u64) {
        if let Some((begin, end)) = self.hosts.get_mut(host).and_then(|times| times.last_mut()) {
            *end = (*end).min(now.max(*begin));
        }
        if let Some(times) = self.hosts.get_mut(host) {
            times.pop_if(|(begin, end)| begin == end);
        }
    }

    /// How much of the time from `since` to `now` counts against a peer of this host, which looks at its
    /// clocks every `glance`: an absence that is noticed counts as one `glance`.
    fn counted(&self, host: usize, since: u64, now: u64, glance: u64) -> u64 {
        let times = self.times(host);
        let away =
            times.into_iter().map(|(begin, end)| end.min(now).saturating_sub(begin.max(since)));
        let shows = away.filter(|&ns| ns > 2 * glance);
        let excused: u64 = shows.map(|ns| ns - glance).sum();
        now.saturating_sub(since).saturating_sub(excused)
    }
}

/// How often clocks are looked at, as the engine documents it.
fn glance(timeouts: &Timeouts) -> u64 {
    let Timeouts { hello, frame, ping, write, .. } = *timeouts;
    let shortest = ns(hello.min(frame).min(ping).min(write));
    (shortest / 4).clamp(MS, SECOND)
}

/// How often a shard whose memory is short looks at all its connections (`relief.rs`).
const LOOK: u64 = 100 * MS;

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A connection of this host ends.
pub(crate) fn judge(core: &Core, host: usize, wire: usize, seen: &Seen, reason: CloseReason) {
    let timeouts = &core.plan.timeouts;
    let (since, within) = match reason {
        CloseReason::PeerMisbehaved(rule) => match rule {
            Rule::HelloTimeout => ((seen.frames == 0).then_some(seen.begun), timeouts.hello),
            Rule::FrameTimeout => (seen.partial_since, timeouts.frame),
            Rule::PingTimeout => (Some(seen.arrived.max(seen.begun)), timeouts.ping),
            Rule::WriteTimeout => (Some(seen.moved.max(seen.begun)), timeouts.write),
            Rule::MemoryShort => (Some(seen.begun), core.plan.budgets.stalled_for),
            // A host that was away while a client was idle owes it a look at what the client sent, and no more.
            Rule::IdleTimeout => (Some(seen.arrived.max(seen.begun)), Duration::ZERO),
            _ => return,
        },
        _ => return,
    };
    core.note(Note::Judged { host, wire, reason });
    // What is owed by a peer that takes nothing cannot be found in what it sent.
    let is_about_words =
        !matches!(reason, CloseReason::PeerMisbehaved(Rule::WriteTimeout | Rule::MemoryShort));
    if is_about_words && seen.unread > 0 {
        core.violated(Violated::Patience, || {
            format!(
                "host {host} ends wire {wire} ({reason}) and has not read what is there: {seen:?}"
            )
        });
    }
    let Some(since) = since else {
        core.violated(Violated::Patience, || {
            format!("host {host} ends wire {wire} ({reason}), and it is not so: {seen:?}")
        });
        return;
    };
    let look = match reason {
        CloseReason::PeerMisbehaved(Rule::MemoryShort) => LOOK,
        _ => glance(timeouts),
    };
    let counted = core.absences.borrow().counted(host, since, core.now(), look);
    if counted < ns(within) {
        core.violated(Violated::Patience, || {
            format!(
                "host {host} ends wire {wire} ({reason}) when {counted} ns of {within:?} count: {seen:?}"
            )
        });
    }
}
