//! Servers whose shards are one: how their mesh is set up, and what calls make use of it.

use corewire_engine::testing::sim::MeshSizes;
use corewire_testing::ground::{Dice, MS, SECOND, SURE};

/// How the shards of a simulated server know each other. It changes nothing else of a seed's plan but the number of
/// shards: what more it needs is drawn from dice of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shards {
    /// Not at all: each is a server of one shard, at an address that they share.
    #[default]
    Apart,
    /// They are the shards of one server, two to four, with a mesh between them.
    Meshed,
}

impl Shards {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Apart, Self::Meshed];
}

/// What is drawn for a run whose servers have a mesh. Rates are in millionths.
#[derive(Clone, Debug)]
pub(crate) struct MeshPlan {
    pub(crate) shards: usize,
    pub(crate) sizes: MeshSizes,
    /// Calls that belong to the shard that owns their key.
    pub(crate) keyed: u32,
    /// How many keys there are, at most [`KEYS_MAX`].
    pub(crate) keys: u64,
    /// Calls by key whose request names the key, so that the server need not look into the body.
    pub(crate) named: u32,
    /// Handlers that run code on other shards.
    pub(crate) errands: u32,
    /// A shard sees nothing of some others from this turn on, for up to `unseen_for` ns.
    pub(crate) unseen: u32,
    pub(crate) unseen_for: u64,
    /// A shard without work sleeps, and is told of news by its doorbell alone.
    pub(crate) sleeps: u32,
    /// The most that a shard takes to make its services, in ns.
    pub(crate) starts_within: u64,
    /// Shards that die.
    pub(crate) deaths: u64,
}

/// The largest number of a key, which begin at 1.
pub(crate) const KEYS_MAX: u64 = 31;

/// The largest number of an errand's kind, which begin at 1.
pub(crate) const ERRANDS_MAX: u64 = 7;

impl MeshPlan {
    pub(crate) fn draw(dice: &Dice) -> Self {
        let chance = |most: u64| u32::try_from(dice.spread(most / 100, most)).unwrap_or(SURE);
        let small = dice.chance(400_000);
        let size = |most| if small { dice.size(1, 8) } else { most };
        let sizes = MeshSizes { ring: size(2048), away_max: size(1024), taken_at_once: size(512) };
        let is_slow = dice.chance(600_000);
        Self {
            shards: 2 + dice.below(3),
            sizes,
            keyed: if dice.chance(900_000) { chance(SURE.into()) } else { 0 },
            keys: dice.spread(1, KEYS_MAX),
            named: if dice.chance(500_000) { chance(SURE.into()) } else { 0 },
            errands: if dice.chance(400_000) { chance(700_000) } else { 0 },
            unseen: if is_slow { chance(500_000) } else { 0 },
            unseen_for: dice.spread(1_000, 20 * MS),
            sleeps: if dice.chance(800_000) { 900_000 } else { 0 },
            starts_within: if dice.chance(300_000) { dice.spread(MS, SECOND) } else { 0 },
            deaths: if dice.chance(150_000) { dice.between(1, 2) } else { 0 },
        }
    }

    /// Which shard or shards a shard sees nothing of; 0 if it sees all.
    pub(crate) fn unseen(&self, dice: &Dice) -> u64 {
        if !dice.chance(self.unseen) {
            return 0;
        }
        dice.between(1, (1 << self.shards) - 1)
    }

    /// The number of a key, for a call that has one; 0 for none.
    pub(crate) fn key(&self, dice: &Dice) -> u8 {
        let key = if dice.chance(self.keyed) { dice.between(1, self.keys) } else { 0 };
        u8::try_from(key).unwrap_or(0)
    }

    /// The number of an errand's kind, for a handler that has one; 0 for none.
    pub(crate) fn errand(&self, dice: &Dice) -> u8 {
        let errand = if dice.chance(self.errands) { dice.between(1, ERRANDS_MAX) } else { 0 };
        u8::try_from(errand).unwrap_or(0)
    }
}
