//! What a channel's server said about itself, for the channel's handles on whatever thread they are.

use std::sync::atomic::{AtomicU64, Ordering};

use corewire_codec::HelloRecords;

const HAS_SHARD: u64 = 1 << 32;
const HAS_CONNECTION: u64 = 1 << 33;

/// What the hello of the last connection said. Written once a connection, by whoever drives it.
#[derive(Debug, Default)]
pub struct ServerSide {
    /// The shard's index, the number of shards, and which of the values there are.
    shard: AtomicU64,
    connection: AtomicU64,
}

impl ServerSide {
    pub(super) fn note(&self, server: &HelloRecords) {
        let shard = server
            .shard
            .map_or(0, |(index, count)| HAS_SHARD | u64::from(index) << 16 | u64::from(count));
        let connection = server.connection_id.map_or(0, |_| HAS_CONNECTION);
        self.connection.store(server.connection_id.unwrap_or(0), Ordering::Relaxed);
        // Whoever sees that there is an id sees this one or a later one.
        self.shard.store(shard | connection, Ordering::Release);
    }

    /// The index of the shard at the other end, and how many shards the server has; `None` before the first hello.
    pub fn shard(&self) -> Option<(u16, u16)> {
        let noted = self.shard.load(Ordering::Relaxed);
        let [count_low, count_high, index_low, index_high, ..] = noted.to_le_bytes();
        let index = u16::from_le_bytes([index_low, index_high]);
        let count = u16::from_le_bytes([count_low, count_high]);
        (noted & HAS_SHARD != 0).then_some((index, count))
    }

    /// The connection's id in the server's process; `None` before the first hello.
    pub fn connection_id(&self) -> Option<u64> {
        let has = self.shard.load(Ordering::Acquire) & HAS_CONNECTION != 0;
        has.then(|| self.connection.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_hello_said_is_kept() {
        let side = ServerSide::default();
        assert_eq!((side.shard(), side.connection_id()), (None, None));
        let mut hello = HelloRecords::default();
        for (shard, connection_id) in [
            (Some((0, 1)), Some(0)),
            (Some((u16::MAX, u16::MAX)), Some(u64::MAX)),
            (None, Some(7)),
            (Some((1, 2)), None),
            (None, None),
        ] {
            hello.shard = shard;
            hello.connection_id = connection_id;
            side.note(&hello);
            assert_eq!((side.shard(), side.connection_id()), (shard, connection_id));
        }
    }
}
