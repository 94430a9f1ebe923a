//! The decisions of one shard.
//!
//! Loads are shares of a core. A move is made only if the shard that gives remains the busier one of the two by a
//! [`MARGIN`], or the two come nearer to each other by as much. So with constant loads the sum of the squares of all
//! loads falls with each move, and no sequence of moves repeats.
//!
//! Shards decide at the same time, from nearly the same numbers. The busiest takes the shard with the least load, the
//! second busiest the second least, and so on, so that few of them give to the same one.

/// A shard is over when its load is more than this times the mean.
pub(crate) const BOUND: f64 = 1.1;

/// A shard that works less than this share of the time is never over: nobody waits for it.
pub(crate) const BUSY_MIN: f64 = 0.05;

/// By how much of the mean the two shards of a move come nearer to each other, at least.
const MARGIN: f64 = 0.02;

/// Looks in a row at which a shard is over before it weighs its connections.
const PATIENCE: u32 = 3;

/// Looks for which it weighs them.
const WEIGH_FOR: u32 = 2;

/// Looks after a move at which nothing is decided: the loads of before fade out.
const SETTLE_FOR: u32 = 3;

/// Moves after one weighing, at most.
pub(crate) const MOVES_MAX: usize = 8;

/// How much a new measure counts, against those before it.
const FRESH: f64 = 0.5;

/// What one shard says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardLoad {
    /// The share of the time that it was at work.
    pub(crate) busy: f64,
    /// Whether it may be given anything.
    pub(crate) takes: bool,
    /// Whether it is over and has nothing to give.
    pub(crate) stuck: bool,
}

/// What the shard is to do until the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Rest,
    /// To measure how much each of its connections makes it work.
    Weigh,
    /// The connections are weighed: [`Balancer::choose`].
    Choose,
}

/// That a connection is to go to another shard: its place in the list that was given, and the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) place: usize,
    pub(crate) to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many looks in a row it was over.
    Calm(u32),
    /// So many more looks it weighs.
    Weighing(u32),
    /// So many more looks it waits.
    Settling(u32),
}

/// The decisions of one shard.
#[derive(Debug)]
pub(crate) struct Balancer {
    me: usize,
    state: State,
    /// The loads, smoothed, and what was given since the last look.
    loads: Vec<f64>,
    /// Whether the smoothed loads are of now.
    smooth: bool,
    mean: f64,
    /// Shards that this one gives to first, and all that it may give to; those with the least load come first.
    takers: Vec<usize>,
    all_takers: Vec<usize>,
    over: bool,
    stuck: bool,
}

impl Balancer {
    /// Of shard `me`.
    pub(crate) fn new(me: usize) -> Self {
        Self {
            me,
            state: State::Calm(0),
            loads: Vec::new(),
            smooth: false,
            mean: 0.0,
            takers: Vec::new(),
            all_takers: Vec::new(),
            over: false,
            stuck: false,
        }
    }

    /// Whether the shard has more than its share and nothing to give that would help.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// The loads of all shards are measured again.
    pub(crate) fn look(&mut self, shards: &[ShardLoad]) -> Step {
        self.read(shards);
        if !self.over {
            self.stuck = false;
        }
        let (state, step) = match self.state {
            State::Settling(left) if left > 1 => (State::Settling(left - 1), Step::Rest),
            State::Settling(_) => (State::Calm(0), Step::Rest),
            _ if !self.over => (State::Calm(0), Step::Rest),
            State::Calm(looks) if looks + 1 < PATIENCE => (State::Calm(looks + 1), Step::Rest),
            State::Calm(_) => (State::Weighing(WEIGH_FOR), Step::Weigh),
            State::Weighing(left) if left > 1 => (State::Weighing(left - 1), Step::Weigh),
            State::Weighing(_) => (State::Settling(SETTLE_FOR), Step::Choose),
        };
        self.state = state;
        step
    }

    fn read(&mut self, shards: &[ShardLoad]) {
        if self.smooth && self.loads.len() == shards.len() {
            for (load, shard) in self.loads.iter_mut().zip(shards) {
                *load += (shard.busy - *load) * FRESH;
            }
        } else {
            self.loads = shards.iter().map(|shard| shard.busy).collect();
            self.smooth = true;
        }
        let own = self.loads.get(self.me).copied().unwrap_or_default();
        // What cannot be evened is left out; what this shard has is not, so that it learns when it can be.
        let counts =
            |index: usize, shard: &ShardLoad| index == self.me || (shard.takes && !shard.stuck);
        let mut ranked: Vec<(usize, f64)> = shards
            .iter()
            .zip(&self.loads)
            .enumerate()
            .filter(|(index, (shard, _))| counts(*index, shard))
            .map(|(index, (_, load))| (index, *load))
            .collect();
        ranked.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
        self.mean = mean(ranked.iter().map(|(_, load)| *load));
        let bound = self.mean * BOUND;
        self.over = own >= BUSY_MIN && own > bound;
        let givers = ranked.iter().filter(|(_, load)| *load > bound).count().max(1);
        let rank = ranked.iter().rev().position(|(index, _)| *index == self.me).unwrap_or(0);
        let below = ranked.iter().filter(|(index, load)| *index != self.me && *load < self.mean);
        let takers: Vec<usize> = below.map(|(index, _)| *index).collect();
        let first = rank % takers.len().max(1);
        self.takers = takers.iter().copied().skip(first).step_by(givers).collect();
        self.all_takers = takers;
    }

    /// Which of these connections go where. `shares` are their parts of the shard's load, of those that may move; all of its
    /// connections together have 1.
    pub(crate) fn choose(&mut self, shares: &[f64]) -> Vec<Move> {
        // Of the smoothed load: otherwise one connection that is all of it might seem to be less.
        let own = self.loads.get(self.me).copied().unwrap_or_default();
        let mut left: Vec<(usize, f64)> =
            shares.iter().map(|share| share * own).enumerate().collect();
        let mut moves = Vec::new();
        while moves.len() < MOVES_MAX {
            // What fits nowhere among its own is worth a collision with another giver.
            let best = self.best(&left, &self.takers);
            let Some((to, place)) = best.or_else(|| self.best(&left, &self.all_takers)) else {
                break;
            };
            let (place, weight) = left.swap_remove(place);
            self.shift(to, weight);
            moves.push(Move { place, to });
        }
        self.stuck = moves.is_empty();
        // What was measured before the moves says nothing about the time after them.
        self.smooth = moves.is_empty();
        moves
    }

    /// The move that brings this shard and the taker with the least load nearest to each other.
    fn best(&self, left: &[(usize, f64)], takers: &[usize]) -> Option<(usize, usize)> {
        let own = self.loads.get(self.me).copied()?;
        if own <= self.mean {
            return None;
        }
        let (to, load) = self.least(takers)?;
        let (gap, margin) = (own - load, self.mean * MARGIN);
        let far = |weight: f64| (weight - gap / 2.0).abs();
        let fits = left.iter().enumerate();
        let fits = fits.filter(|(_, (_, weight))| *weight > 0.0 && *weight + margin <= gap);
        let best = fits.min_by(|one, other| far(one.1.1).total_cmp(&far(other.1.1)))?;
        Some((to, best.0))
    }

    fn least(&self, takers: &[usize]) -> Option<(usize, f64)> {
        let loads = takers.iter().filter_map(|to| Some((*to, *self.loads.get(*to)?)));
        loads.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn shift(&mut self, to: usize, weight: f64) {
        if let Some(load) = self.loads.get_mut(to) {
            *load += weight;
        }
        if let Some(load) = self.loads.get_mut(self.me) {
            *load -= weight;
        }
    }

    /// Where a connection goes that was just accepted, if not here. `connections` is how many this shard has.
    pub(crate) fn hand_off(&mut self, connections: usize) -> Option<usize> {
        if !self.over || matches!(self.state, State::Calm(_)) {
            return None;
        }
        let own = self.loads.get(self.me).copied()?;
        let (to, load) = self.least(&self.takers)?;
        // Nobody knows what it will do: about as much as the others, until the next look.
        let count = u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
        let expected = own / f64::from(count);
        if own <= self.mean || load >= self.mean {
            return None;
        }
        if let Some(load) = self.loads.get_mut(to) {
            *load += expected;
        }
        Some(to)
    }
}

/// The mean; 0 of nothing.
pub(crate) fn mean(loads: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for load in loads {
        sum += load;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// The greatest load over the mean; 1 if nobody works.
pub(crate) fn max_over_mean(loads: impl Iterator<Item = f64> + Clone) -> f64 {
    let mean = mean(loads.clone());
    if mean > 0.0 { loads.fold(0.0, f64::max) / mean } else { 1.0 }
}
