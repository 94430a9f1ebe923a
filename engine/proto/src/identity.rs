//! A shard's number, and what else the shard knows about itself.

use std::fmt;

/// A shard's number in its server, from 0.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::ShardId;
///
/// assert_eq!(ShardId(3).to_string(), "3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a shard knows about itself when its services are made.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::{ShardId, ShardInfo};
///
/// /// Which shard owns a key.
/// fn owns(shard: &ShardInfo, key: u64) -> bool {
///     key % u64::from(shard.count) == u64::from(shard.id.0)
/// }
///
/// let shard = ShardInfo { id: ShardId(1), count: 4, cpu: None };
/// assert!(owns(&shard, 9));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// How many shards the server has.
    pub count: u16,
    /// The CPU it is pinned to, if it is pinned.
    pub cpu: Option<usize>,
}
