//! The policy in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// How long a look of a spinning shard takes.
const LOOK: Duration = us(2);

/// A shard in virtual time: what its pauses cost it.
struct Shard {
    idle: IdlePolicy,
    /// How the pause after the last work begins.
    rest: Rest,
    now: Instant,
    spun: Duration,
    sleeps: u32,
    /// Another thread takes the core for the second duration whenever the shard has run for the
    /// first one without a sleep.
    neighbour: Option<(Duration, Duration)>,
    ran: Duration,
}

impl Shard {
    fn new(spin: Spin) -> Self {
        let (mut idle, now) = (IdlePolicy::new(spin), Instant::now());
        let rest = idle.worked(now);
        let (spun, ran) = (Duration::ZERO, Duration::ZERO);
        Self { idle, rest, now, spun, sleeps: 0, neighbour: None, ran }
    }

    fn run(&mut self, time: Duration) {
        self.now += time;
        self.ran += time;
        if let Some((slice, taken)) = self.neighbour
            && self.ran >= slice
        {
            self.now += taken;
            self.ran = Duration::ZERO;
            // A prime, so that slices and pauses are not in step.
            self.neighbour = Some((slice + us(7), taken));
        }
    }

    fn wait(&mut self, until: Instant) {
        self.now = self.now.max(until);
        self.ran = Duration::ZERO;
    }

    /// A pause, and then work.
    fn pause(&mut self, pause: Duration) {
        let until = self.now + pause;
        let mut slept = self.rest == Rest::Doze;
        while !slept && self.now < until {
            match self.idle.idle(self.now, true) {
                Rest::Spin => {
                    let before = self.now;
                    self.run(LOOK.min(until - self.now));
                    self.spun += (self.now - before).min(LOOK);
                }
                Rest::Doze | Rest::Park => slept = true,
            }
        }
        self.sleeps += u32::from(slept);
        if slept {
            self.wait(until);
        }
        self.work();
    }

    fn work(&mut self) {
        self.rest = self.idle.worked(self.now);
    }

    /// The cost of the pauses, with a sleep at this price.
    fn cost(&self, sleep: Duration) -> Duration {
        self.spun + sleep * self.sleeps
    }

    fn window(&self) -> Duration {
        self.idle.window
    }
}

#[test]
fn off_never_spins_and_always_never_sleeps() {
    let (mut off, mut always) = (Shard::new(Spin::Off), Shard::new(Spin::Always));
    for micros in [1, 10, 100, 1000, 10_000] {
        off.pause(us(micros));
        always.pause(us(micros));
    }
    assert_eq!((off.spun, off.sleeps), (Duration::ZERO, 5));
    assert_eq!((always.spun, always.sleeps), (us(11_111), 0));
}

#[test]
fn the_window_grows_to_what_catches_the_pauses_and_falls_to_nothing() {
    let mut shard = Shard::new(Spin::For(us(200)));
    for _ in 0..100 {
        shard.pause(us(40));
    }
    assert_eq!(shard.window(), us(50), "the first of 12.5, 25, 50 that catches 40");
    assert_eq!(shard.sleeps, 3);
    // Pauses that it catches leave the window alone.
    shard.pause(us(3));
    assert_eq!(shard.window(), us(50));
    for _ in 0..3 {
        shard.pause(us(201));
    }
    assert_eq!(shard.window(), Duration::ZERO);
    let spun = shard.spun;
    for _ in 0..1000 {
        shard.pause(us(201));
    }
    assert_eq!(shard.spun, spun, "traffic that no window may catch is slept through");
}

#[test]
fn a_limit_bounds_the_window_and_a_millisecond_the_limit() {
    for (limit, most) in [(0, 0), (7, 7), (10, 10), (50, 50), (1000, 1000), (1_000_000, 1000)] {
        let mut shard = Shard::new(Spin::For(us(limit)));
        for pause in 0..2000 {
            shard.pause(us(pause.min(most)));
            assert!(shard.window() <= us(most), "{limit}");
        }
        assert_eq!(shard.window(), us(most), "{limit}");
        let spread = us(most) / (1 << shard.idle.steps.saturating_sub(1));
        assert!(most < 10 || spread >= WINDOW_MIN && spread < 2 * WINDOW_MIN, "{limit}");
    }
}

#[test]
fn an_idle_shard_dozes_and_parks() {
    let mut idle = IdlePolicy::new(Spin::For(us(100)));
    let start = Instant::now();
    assert_eq!(idle.worked(start), Rest::Doze);
    assert_eq!(idle.idle(start + us(1000), true), Rest::Doze);
    assert_eq!(idle.idle(start + us(5999), true), Rest::Doze);
    assert_eq!(idle.idle(start + us(6000), true), Rest::Park);
    idle.parked();
    assert_eq!(idle.idle(start + us(9000), true), Rest::Doze, "something happened");
    assert_eq!(idle.idle(start + us(9001), false), Rest::Park, "it may not doze");
}

#[test]
fn without_work_all_spinning_converges_to_a_constant() {
    let mut shard = Shard::new(Spin::For(us(1000)));
    for _ in 0..100 {
        shard.pause(us(900));
    }
    assert_eq!(shard.window(), us(1000));
    // Wakes without work, such as those of glommio's timers, do not make it spin again.
    let mut looks = 0;
    for _ in 0..100_000 {
        match shard.idle.idle(shard.now, true) {
            Rest::Spin => {
                looks += 1;
                shard.run(LOOK);
            }
            Rest::Doze => shard.wait(shard.now + us(1000)),
            Rest::Park => {
                shard.wait(shard.now + us(17_000));
                shard.idle.parked();
            }
        }
    }
    assert_eq!(looks, 500, "one window of a millisecond, at two microseconds a look");
    // Nor do pings: 17 in a second, each with an answer that follows at once.
    let spun = shard.spun;
    for _ in 0..17_000 {
        shard.pause(us(60_000));
        shard.pause(us(30));
    }
    let spent = shard.spun - spun;
    assert!(spent < Duration::from_secs(1), "{spent:?} in a thousand seconds");
}

/// Constant load for this long; returns how much of the time was spun.
fn loaded(shard: &mut Shard, time: Duration) -> f64 {
    let (start, spun) = (shard.now, shard.spun);
    while shard.now < start + time {
        shard.run(us(10));
        shard.pause(us(30));
    }
    (shard.spun - spun).as_secs_f64() / time.as_secs_f64()
}

#[test]
fn a_neighbour_on_the_core_stops_it() {
    let second = Duration::from_secs(1);
    let mut shard = Shard::new(Spin::For(us(50)));
    assert!(loaded(&mut shard, second) > 0.7, "alone, it spins");
    // The scheduler gives each a slice in turn.
    shard.neighbour = Some((us(3000), us(4000)));
    let first = loaded(&mut shard, 20 * second);
    let later = loaded(&mut shard, 60 * second);
    assert!(first < 0.01, "{first} of the first 20 s");
    assert!(later < 0.001, "{later} of the minute after");
    // The neighbour leaves: after the last hold it spins again, and soon forgets.
    shard.neighbour = None;
    loaded(&mut shard, HOLD_MAX);
    assert!(loaded(&mut shard, second) > 0.7);
    assert_eq!(shard.idle.hold, HOLD_MIN);
}

#[test]
fn one_short_loss_of_the_core_is_soon_forgotten() {
    let mut shard = Shard::new(Spin::For(us(50)));
    let second = Duration::from_secs(1);
    loaded(&mut shard, second);
    // Shorter holes are interrupts, or a visit to glommio.
    shard.idle.idle(shard.now, true);
    shard.now += TAKEN - us(1);
    shard.idle.idle(shard.now, true);
    assert_eq!(shard.idle.held_until, None);
    for _ in 0..5 {
        shard.work();
        shard.idle.idle(shard.now, true);
        shard.now += TAKEN;
        shard.work();
        assert_eq!(shard.rest, Rest::Doze);
        assert_eq!(shard.window(), Duration::ZERO);
        assert!(loaded(&mut shard, second) > 0.7, "held for more than a little");
        assert_eq!(shard.idle.hold, HOLD_MIN);
    }
}

#[test]
fn time_that_stands_still_or_goes_back_does_no_harm() {
    for spin in [Spin::Off, Spin::For(us(50)), Spin::Always] {
        let mut idle = IdlePolicy::new(spin);
        let now = Instant::now() + Duration::from_secs(1);
        for back in [0, 0, 5, 1000, 3, 0] {
            idle.worked(now - us(back));
            idle.idle(now, true);
            idle.idle(now - us(back), false);
            idle.parked();
        }
    }
}

/// Pauses of several kinds of traffic, in microseconds.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    let kind = prop_oneof![
        proptest::collection::vec(0_u64..60, 0..100),
        proptest::collection::vec(0_u64..400, 0..100),
        proptest::collection::vec(prop_oneof![Just(11_u64), Just(51), Just(2000)], 0..100),
        (1_u64..1500, 0_usize..100).prop_map(|(pause, times)| vec![pause; times]),
    ];
    proptest::collection::vec(kind, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    /// The bound of the ski-rental argument: with a sleep priced at the limit, an adaptive shard pays
    /// at most three times what the best choice in hindsight pays for each pause, and a constant. Both
    /// always sleeping and always spinning pay that or more.
    #[test]
    fn what_is_wasted_is_bounded(pauses in pauses(), limit in 1_u64..1000) {
        let limit = us(limit);
        let mut shard = Shard::new(Spin::For(limit));
        let mut best = Duration::ZERO;
        for pause in &pauses {
            shard.pause(us(*pause));
            best += us(*pause).min(limit);
        }
        let count = u32::try_from(pauses.len()).unwrap();
        let sleeping = limit * count;
        let spinning: Duration = pauses.iter().map(|pause| us(*pause)).sum();
        prop_assert!(best <= sleeping.min(spinning));
        // A window may be overrun by one look.
        let slack = limit * shard.idle.steps + LOOK * count;
        prop_assert!(shard.cost(limit) <= 3 * best + slack, "{:?}", shard.cost(limit));
    }

    /// Whatever came before: when nothing comes any more, the shard spins for one window at most.
    #[test]
    fn silence_costs_one_window(pauses in pauses(), limit in 1_u64..1000) {
        let mut shard = Shard::new(Spin::For(us(limit)));
        for pause in pauses {
            shard.pause(us(pause));
        }
        let spun = shard.spun;
        shard.pause(Duration::from_secs(3600));
        prop_assert!(shard.spun - spun <= us(limit) + LOOK);
    }
}
