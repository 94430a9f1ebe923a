//! Counters that one shard writes and anybody reads.
//!
//! A counter is a relaxed load and a relaxed store: with a single writer no increment is lost, and
//! no instruction locks the bus. Each shard's counters have their own cache lines.

use corewire_codec::MethodId;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its shard changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, as the owner.
    #[inline]
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Sets, as the owner.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value, as of a moment ago.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The call whose handler a shard polled last. Two stores for each poll; the supervisor reads them when the shard
/// does not turn, so nothing has to be put back when the poll ends.
#[derive(Debug, Default)]
pub(crate) struct CurrentCall {
    connection: AtomicU64,
    /// The method's id above, the call's id below.
    method_call: AtomicU64,
}

impl CurrentCall {
    #[inline]
    pub(crate) fn begin(&self, connection_id: u64, call: u32, method: MethodId) {
        let method_call = u64::from(method.0) << 32 | u64::from(call);
        self.connection.store(connection_id, Ordering::Relaxed);
        self.method_call.store(method_call, Ordering::Relaxed);
    }

    /// No call's handler runs from now on, but tasks.
    #[inline]
    pub(crate) fn leave(&self) {
        self.method_call.store(0, Ordering::Relaxed);
    }

    /// The connection's id, the call's, and the method's; `None` while tasks run.
    pub(crate) fn get(&self) -> Option<(u64, u32, MethodId)> {
        let method_call = self.method_call.load(Ordering::Relaxed);
        // Neither half is cut: each has 32 bits of its own.
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        let (method, call) = (MethodId(half(method_call >> 32)), half(method_call));
        let connection = self.connection.load(Ordering::Relaxed);
        (method_call != 0).then_some((connection, call, method))
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one shard has counted since it started.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardCounters {
            $($(#[$doc])* pub $name: Counter,)*
            /// What runs now; for the warning about a shard that stalls.
            pub(crate) current: CurrentCall,
        }

        impl ShardCounters {
            /// All counters at one moment, by name.
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    connections_accepted,
    /// Connections open now.
    connections_open,
    /// Connections that ended with a fault.
    connections_faulted,
    /// Connections cut off because memory was short and they gave nothing back; see
    /// [`Budgets::stalled_for`](crate::Budgets::stalled_for).
    connections_cut_off,
    /// Requests given to a handler or refused by the dispatcher.
    calls,
    /// Handlers that pended at their first poll.
    calls_parked,
    /// Calls that were refused because their connection or shard held too much; see
    /// [`Budgets`](crate::Budgets).
    calls_refused,
    /// Calls that were refused because they waited too long; see [`QueueDelay`](crate::QueueDelay).
    calls_shed,
    /// Calls whose deadline passed before they ran.
    calls_expired,
    /// Handlers that pend now.
    calls_pending,
    /// Bytes that connections hold now, as [`Budgets`](crate::Budgets) counts them.
    held_bytes,
    /// Parked handlers dropped because their caller cancelled, left or ran out of time, or because their stream
    /// brought more than there was room for.
    calls_dropped,
    /// One-way calls that did not run: not known, too many pending, out of time, or the server drains.
    one_way_dropped,
    /// Handlers that panicked.
    panics,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Receive operations.
    receives,
    /// Send operations.
    sends,
    /// Times that reading from a connection was paused: too much was unsent, or there was no room for its calls.
    reads_paused,
    /// Connections refused for lack of descriptors or memory.
    accept_failures,
    /// Turns of the driver; the supervisor uses it as the shard's heartbeat.
    turns,
    /// Times that the shard gave its thread to the executor to sleep; dozes are not counted.
    parks,
    /// 1 while the shard sleeps like this, otherwise 0.
    parked,
}
