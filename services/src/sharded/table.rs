//! Which connection reaches which shard.

use corewire_proto::owner_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicUsize, Ordering};

use super::member::ShardMember;

/// How often to connect for each shard of the server, until all are reached. By chance alone, 8 shards need 22 tries on
/// average, and 64 need 304.
const TRIES_PER_SHARD: u32 = 8;

/// How many connects may be under way at once.
const AT_ONCE: usize = 4;

/// What the calls of one connection leave there.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls that were made and have not ended.
    pub(super) in_flight: AtomicU32,
    /// How many shards a reply said that the server has, if that was not the number that the call was routed by; 0 if
    /// none did.
    pub(super) told: AtomicU16,
}

/// One connection, or one that is being made.
#[derive(Clone, Debug)]
pub(super) struct Lane<C> {
    pub(super) channel: C,
    pub(super) load: Arc<Load>,
    /// Which shard it reaches and how many there are, when the table was made.
    noted: Option<(u16, u16)>,
}

impl<C: ShardMember> Lane<C> {
    fn new(channel: C) -> Self {
        Self { channel, load: Arc::default(), noted: None }
    }

    /// Whether it still leads to the shard that was noted for it.
    fn is_as_noted(&self) -> bool {
        self.noted.is_some()
            && self.channel.server_shard() == self.noted
            && self.load.told.load(Ordering::Relaxed) == 0
    }
}

/// The connections of a channel at one moment. There is always at least one.
#[derive(Debug)]
pub(super) struct Table<C> {
    /// 0 while it is not known.
    shards: u16,
    lanes: Vec<Lane<C>>,
    /// The place of each shard's lane.
    owners: Vec<Option<usize>>,
    tries_left: u32,
    /// How often another number of shards was heard of without a connection having been lost. Each time brings half as many tries: behind
    /// one address may stand servers that differ for good.
    surprises: u32,
    /// Where the search for the least busy begins, so that equal ones have turns.
    turn: AtomicUsize,
}

impl<C: ShardMember> Table<C> {
    pub(super) fn new(first: C) -> Self {
        Self {
            shards: 0,
            lanes: vec![Lane::new(first)],
            owners: Vec::new(),
            tries_left: 0,
            surprises: 0,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn shards(&self) -> u16 {
        self.shards
    }

    /// How many shards have a lane.
    pub(super) fn reached(&self) -> usize {
        self.owners.iter().flatten().count()
    }

    /// Whether each shard has a lane.
    pub(super) fn is_complete(&self) -> bool {
        !self.owners.is_empty() && self.owners.iter().all(Option::is_some)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &C> {
        self.lanes.iter().map(|lane| &lane.channel)
    }

    /// The connections whose server has not said hello.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &C> {
        self.lanes.iter().filter(|lane| lane.noted.is_none()).map(|lane| &lane.channel)
    }

    /// The lane that a call should take: that of its key's owner, or the least busy one. `None` if the table must be
    /// looked at first.
    pub(super) fn right_lane(&self, key: Option<u64>) -> Option<&Lane<C>> {
        let Some(hash) = key else { return self.is_complete().then(|| self.any_lane()) };
        let owner = usize::from(owner_of(hash, self.shards).0);
        let lane = self.lanes.get((*self.owners.get(owner)?)?)?;
        lane.is_as_noted().then_some(lane)
    }

    /// The lane with the fewest calls in flight, of those whose server has said hello if there are any.
    pub(super) fn any_lane(&self) -> &Lane<C> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let (last, first) = self.lanes.split_at(start);
        let busy =
            |lane: &&Lane<C>| (lane.noted.is_none(), lane.load.in_flight.load(Ordering::Relaxed));
        first.iter().chain(last).min_by_key(busy).unwrap_or(&self.lanes[0])
    }

    /// The same with all tries left.
    #[cfg(feature = "shard")]
    pub(super) fn with_full_tries(&self) -> Self {
        let tries_left = TRIES_PER_SHARD * u32::from(self.shards);
        let (lanes, owners) = (self.lanes.clone(), self.owners.clone());
        Self {
            shards: self.shards,
            lanes,
            owners,
            tries_left,
            surprises: 0,
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether a connection has heard something that is not in the table.
    fn has_news(&self) -> bool {
        self.lanes.iter().any(|lane| {
            lane.channel.server_shard() != lane.noted || lane.load.told.load(Ordering::Relaxed) != 0
        })
    }

    /// Whether a connection may be opened for a shard that has none.
    fn may_open(&self) -> bool {
        let missing = self.owners.len() - self.reached();
        self.unknown().count() < missing.min(AT_ONCE) && self.tries_left > 0
    }

    /// The table after what the connections have heard since this one was made, with what `open` opens for shards that
    /// have none; `None` if nothing changes. Connections that are not needed are not in it.
    pub(super) fn next(&self, mut open: impl FnMut() -> Option<C>) -> Option<Self> {
        if !self.has_news() && !self.may_open() {
            return None;
        }
        let (mut shards, mut changed, mut begins_anew) = (self.shards, false, false);
        let mut is_surprised = false;
        let mut lanes = self.lanes.clone();
        for lane in &mut lanes {
            let told = lane.load.told.swap(0, Ordering::Relaxed);
            let found = lane.channel.server_shard();
            let hello = found.filter(|_| found != lane.noted).map_or(0, |(_, count)| count);
            // A reply is news of a connection that has said hello before.
            let count = if told != 0 { told } else { hello };
            if found != lane.noted {
                // It was lost, and its next connection led elsewhere.
                begins_anew |= lane.noted.is_some();
                lane.noted = found;
                changed = true;
            }
            if count != 0 && count != shards {
                shards = count;
                (changed, is_surprised) = (true, true);
            }
        }
        let mut next = Self {
            shards,
            lanes,
            owners: Vec::new(),
            tries_left: self.tries_left,
            surprises: self.surprises,
            turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)),
        };
        let full = TRIES_PER_SHARD * u32::from(shards);
        if begins_anew {
            next.tries_left = full;
        } else if is_surprised {
            // What is left may be more, of a server with more shards.
            next.tries_left = full.checked_shr(self.surprises).unwrap_or(0);
            next.surprises = self.surprises.saturating_add(1);
        }
        next.assign();
        changed |= next.open_missing(&mut open);
        changed.then_some(next)
    }

    /// Gives each shard its first lane, and drops lanes that lead to none or to one that has another.
    fn assign(&mut self) {
        self.owners = vec![None; usize::from(self.shards)];
        let mut kept = Vec::with_capacity(self.lanes.len());
        let mut spare = None;
        for lane in self.lanes.drain(..) {
            let Some((shard, _)) = lane.noted else {
                kept.push(lane);
                continue;
            };
            match self.owners.get_mut(usize::from(shard)) {
                Some(place) if place.is_none() => {
                    *place = Some(kept.len());
                    kept.push(lane);
                }
                _ => spare = Some(lane),
            }
        }
        if kept.is_empty() {
            kept.extend(spare);
        }
        self.lanes = kept;
    }

    /// Opens connections for shards that have none, a few at once. Returns whether there are more now.
    fn open_missing(&mut self, open: &mut impl FnMut() -> Option<C>) -> bool {
        let before = self.lanes.len();
        while self.may_open()
            && let Some(channel) = open()
        {
            self.lanes.push(Lane::new(channel));
            self.tries_left -= 1;
        }
        self.lanes.len() > before
    }
}

#[cfg(test)]
mod tests;
