//! Whose turn it is among the classes: fair queueing by virtual time.
//!
//! Each class has a clock of its own. It goes by what the class has run, divided by its shares, so a class with many
//! shares ages slowly. The class whose clock is furthest behind goes next. All clocks are kept relative to the one
//! furthest behind among the classes that have something to do: the difference is a class's *lead*. A class that had nothing to do
//! for a while begins where the others are. It gets nothing for the time in which it did not want any, and owes nothing for
//! the time in which it ran alone.
//!
//! No clock is read here, and nothing waits here: time is what callers say that something took.

use super::{CLASSES, ClassShares, ServiceClass};

/// What a poll counts for at least. In a simulation polls take no time, and a class that is always ready would otherwise
/// never give way.
const LEAST_NS: u64 = 100;

/// Virtual nanoseconds for one nanosecond of a class with one share. With 1,000 shares a poll of the least length
/// still counts.
const SCALE: u64 = 1024;

/// The longest time that is counted for one poll: an hour. What is longer is no matter of shares.
const MOST_NS: u64 = 3_600_000_000_000;

/// The clocks of the classes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FairShares {
    lanes: [Lane; CLASSES],
}

#[derive(Clone, Copy, Debug)]
struct Lane {
    shares: u64,
    /// How far its clock is ahead of the one furthest behind.
    lead: u64,
    /// Whether it ran, or has something to run, in this round.
    active: bool,
}

impl FairShares {
    pub(crate) fn new(shares: ClassShares) -> Self {
        let lane = |shares: u16| Lane { shares: u64::from(shares.max(1)), lead: 0, active: false };
        Self { lanes: shares.by_class().map(lane) }
    }

    /// A class has something to run in this round.
    #[inline]
    pub(crate) fn join(&mut self, class: ServiceClass) {
        self.lane(class).active = true;
    }

    /// A class ran for so long.
    #[inline]
    pub(crate) fn charge(&mut self, class: ServiceClass, ns: u64) {
        let lane = self.lane(class);
        lane.active = true;
        // At most 2^52 for each poll, and `rebase` keeps leads small.
        let passed = ns.clamp(LEAST_NS, MOST_NS) * SCALE / lane.shares;
        lane.lead = lane.lead.saturating_add(passed);
    }

    /// The class to run now: among those that are active, the one that is furthest behind.
    pub(crate) fn next(&self) -> Option<ServiceClass> {
        let active = ServiceClass::ALL.into_iter().zip(&self.lanes).filter(|(_, lane)| lane.active);
        active.min_by_key(|(_, lane)| lane.lead).map(|(class, _)| class)
    }

    /// A round begins: leads count from the class that is furthest behind among those that are active.
    pub(crate) fn rebase(&mut self) {
        let active = self.lanes.iter().filter(|lane| lane.active);
        let Some(behind) = active.map(|lane| lane.lead).min() else { return };
        for lane in &mut self.lanes {
            lane.lead = lane.lead.saturating_sub(behind);
        }
    }

    /// A round is over: who is active is found anew.
    pub(crate) fn end_round(&mut self) {
        for lane in &mut self.lanes {
            lane.active = false;
        }
    }

    fn lane(&mut self, class: ServiceClass) -> &mut Lane {
        let [latency, normal, batch] = &mut self.lanes;
        match class {
            ServiceClass::Latency => latency,
            ServiceClass::Normal => normal,
            ServiceClass::Batch => batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ServiceClass::{Batch, Latency, Normal};
    use proptest::prelude::*;

    /// Runs pieces of the given lengths of classes that always have something to run, until `total_ns` are over.
    fn run(fair: &mut FairShares, pieces: [Option<u64>; CLASSES], total_ns: u64) -> [u64; CLASSES] {
        let mut ran = [0; CLASSES];
        while ran.iter().sum::<u64>() < total_ns {
            for class in ServiceClass::ALL {
                if pieces[class.index()].is_some() {
                    fair.join(class);
                }
            }
            fair.rebase();
            let class = fair.next().expect("one has something to run");
            let piece = pieces[class.index()].expect("it is one of those");
            fair.charge(class, piece);
            ran[class.index()] += piece;
            fair.end_round();
        }
        ran
    }

    #[test]
    fn a_hundred_against_a_thousand_shares_get_a_tenth() {
        let mut fair = FairShares::new(ClassShares { latency: 1000, normal: 500, batch: 100 });
        let ran = run(&mut fair, [Some(2_000), None, Some(500_000)], 10_000_000_000);
        let ratio = ran[0] as f64 / ran[2] as f64;
        assert!((9.9..10.1).contains(&ratio), "{ratio}");
    }

    /// A class that ran alone for an hour owes nothing for it, and one that slept has saved nothing.
    #[test]
    fn nothing_is_owed_or_saved_for_time_that_nobody_else_wanted() {
        let mut fair = FairShares::new(ClassShares::default());
        run(&mut fair, [None, None, Some(500_000)], 3_600_000_000_000);
        let ran = run(&mut fair, [Some(10_000), None, Some(500_000)], 1_000_000_000);
        let ratio = ran[0] as f64 / ran[2] as f64;
        assert!((9.5..10.5).contains(&ratio), "{ratio} soon after");
    }

    #[test]
    fn among_equals_latency_goes_first() {
        let mut fair = FairShares::new(ClassShares::default());
        ServiceClass::ALL.into_iter().rev().for_each(|class| fair.join(class));
        assert_eq!(fair.next(), Some(Latency));
        fair.end_round();
        assert_eq!(fair.next(), None);
        fair.join(Batch);
        fair.join(Normal);
        assert_eq!(fair.next(), Some(Normal));
    }

    proptest! {
        /// Whatever the shares and however long the pieces are: what each class gets is what its shares say, up to one
        /// piece of each class, as long as all have something to run.
        #[test]
        fn shares_are_kept(
            shares in prop::array::uniform3(1u16..=1000),
            pieces in prop::array::uniform3(1_000u64..1_000_000),
            former in prop::array::uniform3(prop::option::of(1_000u64..1_000_000)),
        ) {
            let [latency, normal, batch] = shares;
            let mut fair = FairShares::new(ClassShares { latency, normal, batch });
            // What was before changes nothing but whose turn it is first.
            if former.iter().any(Option::is_some) {
                run(&mut fair, former, 50_000_000);
            }
            let before = fair.lanes.map(|lane| lane.lead / SCALE);
            let ran = run(&mut fair, pieces.map(Some), 2_000_000_000);
            let passed = |class: usize| ran[class] / u64::from(shares[class]) + before[class];
            for one in 0..CLASSES {
                for other in 0..CLASSES {
                    let slack = pieces[one] / u64::from(shares[one])
                        + pieces[other] / u64::from(shares[other])
                        // Of integer divisions, one for each piece.
                        + ran[one] / pieces[one] / SCALE + ran[other] / pieces[other] / SCALE + 4;
                    // One that was ahead before may not have had its turn again.
                    let ahead = before[other].max(before[one]);
                    prop_assert!(
                        passed(one) <= passed(other).max(ahead) + slack,
                        "{one}: {} {other}: {} slack {slack}, {ran:?}", passed(one), passed(other)
                    );
                }
            }
        }

        /// No class waits for ever: between two of its pieces the others get at most what their shares are worth.
        #[test]
        fn nobody_starves(
            shares in prop::array::uniform3(1u16..=1000),
            pieces in prop::array::uniform3(1u64..1_000_000),
        ) {
            let [latency, normal, batch] = shares;
            let mut fair = FairShares::new(ClassShares { latency, normal, batch });
            let least = |ns: u64| ns.max(LEAST_NS);
            let mut waited = [0u64; CLASSES];
            for _ in 0..20_000 {
                ServiceClass::ALL.into_iter().for_each(|class| fair.join(class));
                fair.rebase();
                let next = fair.next().expect("all have something to run");
                let piece = pieces[next.index()];
                fair.charge(next, piece);
                fair.end_round();
                for class in 0..CLASSES {
                    waited[class] = if class == next.index() { 0 } else { waited[class] + least(piece) };
                    let own = least(pieces[class]) / u64::from(shares[class]) + 1;
                    let most: u64 = (0..CLASSES).filter(|other| *other != class)
                        .map(|other| (own + 1) * u64::from(shares[other]) + 2 * least(pieces[other]))
                        .sum();
                    prop_assert!(waited[class] <= most, "{class} waited {} of {most}", waited[class]);
                }
            }
        }
    }
}
