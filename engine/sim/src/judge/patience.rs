//! The judgement of those who judge: whoever gives a peer up for a time-out must have looked at what had
//! arrived, and must have been there for as long as the time-out lasts.
//!
//! The engine says of each connection why it ends ([`Io::ending`](corewire_engine::testing::sim::Io::ending)). What is
//! asked of it is known to the network alone: what lies unread, when something came last, and which frame
//! is not whole. So this holds whoever the peer is, and nothing that happens to hosts or lines excuses it.

use std::time::Duration;

use corewire_codec::Rule;
use corewire_proto::{CloseReason, Timeouts};

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::plan::{MS, SECOND};

/// When hosts were not there: what happened meanwhile they could not see.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    /// By host, from when to when in ns, in their order.
    hosts: Vec<Vec<(u64, u64)>>,
}

impl Absences {
    /// This host does nothing from now until then.
    pub(crate) fn begin(&mut self, host: usize, now: u64, until: u64) {
        if self.hosts.len() <= host {
            self.hosts.resize(host + 1, Vec::new());
        }
        let Some(times) = self.hosts.get_mut(host) else { return };
        match times.last_mut() {
            // One that began before goes on. Behind one that ends now, it may have looked.
            Some((_, end)) if *end > now => *end = until.max(*end),
            _ => times.push((now, until)),
        }
    }

    /// This host is there, if it was away.
    pub(crate) fn end(&mut self, host: usize, now: u64) {
        if let Some((begin, end)) = self.hosts.get_mut(host).and_then(|times| times.last_mut()) {
            *end = (*end).min(now.max(*begin));
        }
    }

    /// How much of the time from `since` to `now` counts against a peer of this host, which looks at its
    /// clocks every `glance`: an absence that shows counts as one such time.
    fn counted(&self, host: usize, since: u64, now: u64, glance: u64) -> u64 {
        let times = self.hosts.get(host).into_iter().flatten();
        let away = times.map(|&(begin, end)| end.min(now).saturating_sub(begin.max(since)));
        let shows = away.filter(|&ns| ns > 2 * glance);
        let excused: u64 = shows.map(|ns| ns - glance).sum();
        now.saturating_sub(since).saturating_sub(excused)
    }
}

/// What an end of a wire has come to, as the network knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Bytes that have arrived and were not taken.
    pub(crate) unread: usize,
    /// When its owner began with it, in ns.
    pub(crate) begun: u64,
    /// When bytes arrived last.
    pub(crate) arrived: u64,
    /// When the other side took something last, or more was given to it.
    pub(crate) moved: u64,
    /// How many whole frames were taken, the hello counted.
    pub(crate) frames: u64,
    /// Since when a frame is taken of which the rest is not there.
    pub(crate) partial_since: Option<u64>,
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
            // Who is away while a client is idle owes it a look at what it said, and no more.
            Rule::IdleTimeout => (Some(seen.arrived.max(seen.begun)), Duration::ZERO),
            _ => return,
        },
        _ => return,
    };
    core.note(Note::Judged { host, wire, reason });
    // What a peer owes that takes nothing is not to be found in what it sent.
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
