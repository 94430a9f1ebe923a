//! How a shard rests: whether it looks again at once, dozes, or parks.
//!
//! [`IdlePolicy`] reads no clock: it is given the time of every look, which the driver knows anyway.
//!
//! A shard with [`Spin::For`] keeps a *window*: how long it looks for work before it sleeps. The
//! window is adjusted by how long each pause turned out to be, in the way of KVM's halt polling
//! (Linux, `Documentation/virt/kvm/halt-polling.rst`):
//!
//! - a pause that the window caught leaves it alone;
//! - one that was longer than the window, but not than the limit, doubles it: a longer look would
//!   have saved the sleep;
//! - one that was longer than the limit halves it, and to nothing where it would fall below
//!   [`WINDOW_MIN`]: no allowed look would have caught it.
//!
//! The limit is what a wake-up is worth. If that is the price of a sleep, all that a shard pays,
//! spinning and sleeping, is at most three times what the best choice in hindsight would have paid
//! for each of the same pauses, plus a constant (`docs/decisions/0006-adaptive-spinning.md` has the
//! argument, the tests below check it).
//!
//! A shard whose core is wanted by others must not spin at all. While it spins, its looks follow each
//! other within microseconds, so a gap of [`TAKEN`] between two of them means that somebody else had
//! the core. Then the window is closed and stays closed for a while, twice as long each time.

use std::time::{Duration, Instant};

use crate::driver::runtime::REACTOR_EVERY;
use crate::identity::Spin;

/// The smallest window above zero.
const WINDOW_MIN: Duration = Duration::from_micros(10);

/// The largest window. Longer pauses than a doze are not the kind of traffic that spinning is for,
/// and the pings of a thousand idle connections are much further apart.
const WINDOW_MAX: Duration = REACTOR_EVERY;

/// A gap of at least this between two looks of a spinning shard means that its core was taken. A
/// look takes some microseconds and a visit to glommio some tens; a thread that preempts another
/// one on a busy core runs for the better part of a millisecond at least.
const TAKEN: Duration = Duration::from_micros(500);

/// How long a shard does not spin after its core was taken, the first time and at most.
const HOLD_MIN: Duration = Duration::from_millis(20);
const HOLD_MAX: Duration = Duration::from_millis(20 << 8);

/// After spinning for this long in all without losing the core, the shard forgets that it ever did.
/// A scheduler that has another thread to run takes the core much sooner.
const FORGET: Duration = Duration::from_millis(100);

/// How long to doze before parking. The ski-rental argument: dozing until it has cost as much as a
/// park costs more pays at most twice the best choice, whatever the pauses are. Five looks at
/// glommio are taken for that point; it was not measured more closely.
const DOZE_FOR: Duration = Duration::from_millis(5);

/// The three ways of having nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Look again at once.
    Spin,
    /// Wait for sockets in the kernel, from within the driver, and look after glommio every
    /// millisecond. A wake-up from here costs much less than one from a park
    /// (docs/decisions/0005).
    Doze,
    /// Sleep until anything happens: in glommio, or on a plain host in the next turn's epoll wait.
    Park,
}

/// Decides how one shard rests.
#[derive(Debug)]
pub(crate) struct IdlePolicy {
    /// How long the shard looks for work before it sleeps.
    window: Duration,
    /// How far the window may grow; `None` if it never moves.
    limit: Option<Duration>,
    /// The steps from no window to the limit, and how many of them it has gone up. Each step doubles
    /// the window; up and down are exact inverses, which the bound on wasted time needs.
    steps: u32,
    step: u32,
    /// When the current pause began.
    since: Option<Instant>,
    /// When the shard began to doze in it, or would have.
    dozes_since: Option<Instant>,
    /// The last look, if the next one was to follow at once.
    looked: Option<Instant>,
    /// Until when the window stays closed, and how long it will be closed the next time.
    held_until: Option<Instant>,
    hold: Duration,
    /// Time spun since the core was last taken.
    undisturbed: Duration,
}

impl IdlePolicy {
    pub(crate) fn new(spin: Spin) -> Self {
        let (window, limit) = match spin {
            Spin::Off => (Duration::ZERO, None),
            Spin::For(limit) => (Duration::ZERO, Some(limit.min(WINDOW_MAX))),
            Spin::Always => (Duration::MAX, None),
        };
        Self {
            window,
            limit,
            steps: limit.map_or(0, steps),
            step: 0,
            since: None,
            dozes_since: None,
            looked: None,
            held_until: None,
            hold: HOLD_MIN,
            undisturbed: Duration::ZERO,
        }
    }

    /// Whether a pause that begins now begins with spinning.
    #[inline]
    pub(crate) fn spins(&self) -> bool {
        !self.window.is_zero()
    }

    /// The shard found work at `now`. Returns how its next turn may begin: with a look, or with a
    /// doze, which is a look that waits.
    #[inline]
    pub(crate) fn worked(&mut self, now: Instant) -> Rest {
        if self.since.is_some() {
            self.end_pause(now);
        }
        if self.spins() {
            return Rest::Spin;
        }
        // The next look may sleep, and nobody reads the clock before it. So the time of this work
        // counts as pause, which errs towards sleeping.
        self.since = Some(now);
        Rest::Doze
    }

    /// The shard found nothing at `now`. `may_doze` says whether it may sleep where glommio cannot
    /// wake it.
    pub(crate) fn idle(&mut self, now: Instant, may_doze: bool) -> Rest {
        self.check_core(now);
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.window {
            self.looked = Some(now);
            return Rest::Spin;
        }
        let dozes_since = *self.dozes_since.get_or_insert(now);
        if may_doze && now.saturating_duration_since(dozes_since) < DOZE_FOR {
            Rest::Doze
        } else {
            Rest::Park
        }
    }

    /// A park is over. Something happened, perhaps only in glommio, so that the next sleep is a
    /// doze again; the pause goes on until there is work.
    pub(crate) fn parked(&mut self) {
        self.dozes_since = None;
    }

    fn end_pause(&mut self, now: Instant) {
        self.check_core(now);
        self.dozes_since = None;
        let Some(since) = self.since.take() else { return };
        let Some(limit) = self.limit else { return };
        let pause = now.saturating_duration_since(since);
        self.undisturbed += pause.min(self.window);
        if self.undisturbed >= FORGET {
            self.undisturbed = Duration::ZERO;
            self.hold = HOLD_MIN;
        }
        if pause > limit {
            self.set_step(limit, self.step.saturating_sub(1));
        } else if pause > self.window && self.held_until.is_none_or(|until| until <= now) {
            self.set_step(limit, self.steps.min(self.step + 1));
        }
    }

    fn set_step(&mut self, limit: Duration, step: u32) {
        self.step = step;
        self.window = match step {
            0 => Duration::ZERO,
            // `steps` is so small that the shift keeps WINDOW_MIN.
            _ => limit / (1 << (self.steps - step)),
        };
    }

    /// Closes the window when somebody else had the core since the last look.
    fn check_core(&mut self, now: Instant) {
        let Some(looked) = self.looked.take() else { return };
        let Some(limit) = self.limit else { return };
        if now.saturating_duration_since(looked) < TAKEN {
            return;
        }
        self.set_step(limit, 0);
        self.undisturbed = Duration::ZERO;
        self.held_until = Some(now + self.hold);
        self.hold = (self.hold * 2).min(HOLD_MAX);
    }
}

/// How many times a window doubles from the smallest one until it reaches the limit, plus one for the
/// step from none to the smallest.
fn steps(limit: Duration) -> u32 {
    match limit.as_nanos() / WINDOW_MIN.as_nanos() {
        0 => u32::from(!limit.is_zero()),
        times => 1 + times.ilog2(),
    }
}

#[cfg(test)]
mod tests;
