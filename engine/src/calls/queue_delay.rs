//! Turning requests away because they waited too long for their shard.
//!
//! The rule and its source are described at [`QueueDelay`], its settings. This module keeps what the
//! rule needs to know: since when there was no turn in which nobody waited for longer than a target.
//! Targets double from one priority to the next, so the longest wait in a turn tells for each of them
//! whether it was kept.

use std::cell::Cell;
use std::time::{Duration, Instant};

use corewire_codec::{RequestHead, Status};

use crate::budgets::QueueDelay;

const PRIORITIES: usize = RequestHead::PRIORITY_MAX as usize + 1;

/// What is known of the waits of one priority.
#[derive(Clone, Copy, Debug)]
struct Level {
    target: Duration,
    /// When a turn last kept the target.
    kept: Instant,
    /// When a request was last shed.
    shed: Option<Instant>,
}

/// The queue delay of one shard. The driver and calls that come from other shards share it: they wait for the same thread.
#[derive(Debug)]
pub(crate) struct DelayWatch {
    interval: Duration,
    levels: [Cell<Level>; PRIORITIES],
    /// When a turn last kept all targets.
    calm: Cell<Instant>,
    /// The longest wait of the current turn.
    longest: Cell<Duration>,
}

impl DelayWatch {
    pub(crate) fn new(config: QueueDelay, now: Instant) -> Self {
        let mut priority = 0;
        let levels = [(); PRIORITIES].map(|()| {
            let target = target(config.target, priority);
            priority += 1;
            Cell::new(Level { target, kept: now, shed: None })
        });
        Self {
            interval: config.interval,
            levels,
            calm: Cell::new(now),
            longest: Cell::new(Duration::ZERO),
        }
    }

    /// When a caller whose call was shed should come back: when the queue may be a different one.
    pub(crate) fn retry_after(&self) -> Duration {
        self.interval
    }

    /// A turn begins: records the last one.
    #[inline]
    pub(crate) fn begin_turn(&self, now: Instant) {
        let longest = self.longest.take();
        if longest <= self.levels[0].get().target {
            self.calm.set(now);
            return;
        }
        let kept = |level: &&Cell<Level>| longest <= level.get().target;
        for level in self.levels.iter().rev().take_while(kept) {
            level.set(Level { kept: now, ..level.get() });
        }
    }

    /// Whether to turn away a request that waited for `waited`.
    #[inline]
    pub(crate) fn sheds(&self, priority: u8, waited: Duration, now: Instant) -> bool {
        self.longest.set(self.longest.get().max(waited));
        // Most requests have not waited; those are not even looked at by priority.
        waited > self.levels[0].get().target && self.sheds_late(priority, waited, now)
    }

    #[cold]
    fn sheds_late(&self, priority: u8, waited: Duration, now: Instant) -> bool {
        let interval = self.interval;
        let Some(place) = self.levels.get(usize::from(priority)) else { return false };
        let level = place.get();
        if waited <= level.target {
            return false;
        }
        let stands = now.saturating_duration_since(level.kept.max(self.calm.get())) > interval;
        // Shedding itself makes turns that keep the target; it must not stop at each of them, or the
        // queue would have another interval to grow in.
        let goes_on = |shed: Instant| now.saturating_duration_since(shed) < interval;
        let sheds = stands || level.shed.is_some_and(goes_on);
        if sheds {
            place.set(Level { shed: Some(now), ..level });
        }
        sheds
    }
}

/// The status of a call that was shed.
#[cold]
pub(crate) fn shed_status(waited: Duration, retry_after: Duration) -> Status {
    let text = format!("the server is overloaded: this call waited {waited:?} for its turn");
    Status::resource_exhausted(text).with_retry_after(retry_after)
}

/// The status of a call whose time passed while it waited.
#[cold]
pub(crate) fn expired_status() -> Status {
    Status::deadline_exceeded("the call's time was over when its turn came")
}

/// The target of a priority: the usual one's, halved for each step below it, doubled for each above.
fn target(usual: Duration, priority: u8) -> Duration {
    match priority.checked_sub(RequestHead::PRIORITY_USUAL) {
        Some(above) => usual.saturating_mul(1 << above),
        None => usual / (1 << (RequestHead::PRIORITY_USUAL - priority)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn watch() -> (DelayWatch, Instant) {
        let now = Instant::now();
        (DelayWatch::new(QueueDelay { target: 8 * MS, interval: 100 * MS }, now), now)
    }

    /// Turns of 10 ms from `from` to `to`, both in ms, each with a request that waited for `waited` at its end.
    fn turns(watch: &DelayWatch, start: Instant, from: u32, to: u32, waited: Duration) -> usize {
        let mut shed = 0;
        for at in (from..to).step_by(10) {
            watch.begin_turn(start + at * MS);
            shed += usize::from(watch.sheds(3, waited, start + at * MS));
        }
        shed
    }

    #[test]
    fn a_burst_is_served_and_a_queue_that_stands_is_cut() {
        let (watch, start) = watch();
        assert_eq!(turns(&watch, start, 0, 100, 9 * MS), 0, "within the interval");
        assert_eq!(turns(&watch, start, 100, 110, MS / 2), 0, "a calm turn");
        assert_eq!(turns(&watch, start, 110, 210, 9 * MS), 0, "the interval begins again");
        assert!(turns(&watch, start, 210, 260, 9 * MS) > 3, "now it stands");
        assert_eq!(turns(&watch, start, 260, 270, 8 * MS), 0, "none that kept the target");
        assert_eq!(turns(&watch, start, 270, 280, MS / 2), 0);
        assert_eq!(turns(&watch, start, 280, 290, 9 * MS), 1, "one calm turn does not end it");
        assert_eq!(turns(&watch, start, 290, 400, MS / 2), 0);
        assert_eq!(turns(&watch, start, 400, 410, 9 * MS), 0, "an interval without shedding does");
    }

    #[test]
    fn the_lowest_priority_goes_first() {
        let (watch, start) = watch();
        turns(&watch, start, 0, 300, 9 * MS);
        let at = start + 300 * MS;
        watch.begin_turn(at);
        let shed = |watch: &DelayWatch, waited| {
            (0..8).map(|priority| watch.sheds(priority, waited, at)).collect::<Vec<_>>()
        };
        let first = |count| (0..8).map(|priority| priority < count).collect::<Vec<_>>();
        assert_eq!(shed(&watch, MS), first(0), "the lowest target is 1 ms");
        assert_eq!(shed(&watch, 3 * MS), first(2));
        assert_eq!(shed(&watch, 9 * MS), first(4), "the usual one among them");
        assert_eq!(shed(&watch, 127 * MS), first(4), "the others' targets were kept so far");
    }

    #[test]
    fn priorities_have_targets_that_double() {
        let targets: Vec<_> = (0..8).map(|priority| target(8 * MS, priority).as_millis()).collect();
        assert_eq!(targets, [1, 2, 4, 8, 16, 32, 64, 128]);
    }
}
