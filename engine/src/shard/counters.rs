//! Counters that one shard writes and anybody reads.
//!
//! A counter is a relaxed load and a relaxed store: with a single writer no increment is lost, and
//! no instruction locks the bus. Each shard's counters have their own cache lines.

use arc_swap::ArcSwapOption;
use corewire_codec::MethodId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::shard::arrivals::Arrivals;
use crate::shard::costs::{CostTable, MethodCost};
use crate::shard::counter::Counter;

/// What the number of a [`Counter`] is, for a system of metrics that treats the two differently.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{CounterKind, ShardCounters};
///
/// let kinds = ShardCounters::KINDS.iter().copied();
/// let mut gauges = kinds.filter(|(_, kind)| matches!(kind, CounterKind::Gauge));
/// assert!(gauges.any(|(name, _)| name == "connections_open"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CounterKind {
    /// It only grows, from 0 at the start of its shard.
    Counter,
    /// It is a state now, and goes up and down.
    Gauge,
}

/// The call whose handler a shard polled last. A store for each turn of a connection and one for each poll; the
/// supervisor reads them when the shard does not turn, so nothing has to be put back when the poll ends.
#[derive(Debug, Default)]
pub(crate) struct CurrentCall {
    connection: AtomicU64,
    call: AtomicU32,
    /// 0 while tasks run.
    method: AtomicU32,
    /// What it was before the tasks.
    left: AtomicU32,
}

impl CurrentCall {
    /// A connection has its turn.
    #[inline]
    pub(crate) fn enter(&self, connection_id: u64) {
        self.connection.store(connection_id, Ordering::Relaxed);
    }

    /// A handler of that connection is polled.
    #[inline]
    pub(crate) fn begin(&self, call: u32, method: MethodId) {
        self.call.store(call, Ordering::Relaxed);
        self.method.store(method.0, Ordering::Relaxed);
    }

    /// No call's handler runs from now on, but tasks.
    #[inline]
    pub(crate) fn leave(&self) {
        self.left.store(self.method.load(Ordering::Relaxed), Ordering::Relaxed);
        self.method.store(0, Ordering::Relaxed);
    }

    /// The method whose handler was polled last since tasks last ran, or before that; for the shard itself.
    pub(crate) fn last_method(&self) -> Option<MethodId> {
        let method = self.method.load(Ordering::Relaxed);
        let method = if method == 0 { self.left.load(Ordering::Relaxed) } else { method };
        (method != 0).then_some(MethodId(method))
    }

    /// The connection's id, the call's, and the method's; `None` while tasks run. They belong together when the shard
    /// does not turn, which is when they are asked for.
    pub(crate) fn get(&self) -> Option<(u64, u32, MethodId)> {
        let method = self.method.load(Ordering::Relaxed);
        let connection = self.connection.load(Ordering::Relaxed);
        let call = self.call.load(Ordering::Relaxed);
        (method != 0).then_some((connection, call, MethodId(method)))
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $kind:ident $name:ident,)*) => {
        /// What one shard has counted since it started.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardCounters {
            $($(#[$doc])* pub $name: Counter,)*
            /// What runs now; for the warning about a shard that stalls.
            pub(crate) current: CurrentCall,
            /// 1 while it takes connections from other shards.
            pub(crate) takes: Counter,
            /// What its methods cost, if that is measured.
            pub(crate) costs: ArcSwapOption<CostTable>,
            /// Where all shards of a server count its connections, if it is wanted.
            pub(crate) arrivals: Option<Arc<Arrivals>>,
        }

        impl ShardCounters {
            /// What each counter is, in the order of [`snapshot`](Self::snapshot).
            pub const KINDS: &'static [(&'static str, CounterKind)] =
                &[$((stringify!($name), CounterKind::$kind),)*];

            /// What each method has cost, by `ServerBuilder::method_costs`; empty unless that was asked for. A method is here
            /// as soon as its shard serves it.
            #[doc(alias("profiling", "cpu time", "accounting"))]
            #[must_use]
            pub fn method_costs(&self) -> Vec<MethodCost> {
                self.costs.load().as_ref().map_or_else(Vec::new, |table| table.read())
            }

            /// A call with this id was refused: only one-way calls are counted here, since nobody else hears of it.
            pub(crate) fn note_one_way_dropped(&self, call: u32) {
                if corewire_proto::is_one_way_id(call) {
                    self.one_way_dropped.add(1);
                }
            }

            /// All counters at one moment, by name.
            ///
            /// ```
            /// # use corewire_engine as corewire;
            /// let counters = corewire::ShardCounters::default(); // a running server's: server.shards()[0].counters
            /// for (name, value) in counters.snapshot() {
            ///     println!("corewire_{name} {value}");
            /// }
            /// ```
            #[doc(alias("metrics", "prometheus"))]
            #[must_use]
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    Counter connections_accepted,
    /// Those of them whose packets arrive on the shard's own CPU, as of when they were accepted; on shards that are pinned. See
    /// [`Steering`](crate::Steering).
    Counter connections_local,
    /// Connections open now.
    Gauge connections_open,
    /// Connections that were accepted here and handed to a shard with less load before anything was read from them; see
    /// [`Balance`](crate::Balance).
    Counter connections_handed_off,
    /// Connections that went to another shard, those handed off included.
    Counter connections_moved_away,
    /// Connections that came from other shards.
    Counter connections_moved_here,
    /// Microseconds that the shard was at work: CPU time of its thread, without fruitless spinning.
    Counter busy_us,
    /// The share of its time that it was at work, in thousandths, over the last quarter of a second in which it was awake.
    Gauge busy_permille,
    /// 1 while the shard has more than its share of the load, and no connection whose move would even it out.
    Gauge uneven,
    /// Connections that ended with a fault.
    Counter connections_faulted,
    /// Connections cut off because memory was short and they gave nothing back; see
    /// [`Budgets::stalled_for`](crate::Budgets::stalled_for).
    Counter connections_cut_off,
    /// Requests given to a handler or refused by the dispatcher.
    Counter calls,
    /// Those of them that were handed to the shard that owns their key.
    Counter calls_forwarded,
    /// Calls of other shards' connections that were run here, because this shard owns their key.
    Counter calls_taken,
    /// Handlers that pended at their first poll.
    Counter calls_parked,
    /// Calls that were refused because their connection or shard held too much; see
    /// [`Budgets`](crate::Budgets).
    Counter calls_refused,
    /// Calls that were refused because they waited too long; see [`QueueDelay`](crate::QueueDelay).
    Counter calls_shed,
    /// Calls whose deadline passed before they ran.
    Counter calls_expired,
    /// Handlers that pend now.
    Gauge calls_pending,
    /// Bytes that connections hold now, as [`Budgets`](crate::Budgets) counts them.
    Gauge held_bytes,
    /// Parked handlers dropped because their caller cancelled, left or ran out of time, or because their stream
    /// brought more than there was room for.
    Counter calls_dropped,
    /// One-way calls that did not run: not known, too many pending, out of time, or the server drains.
    Counter one_way_dropped,
    /// Handlers that panicked.
    Counter panics,
    /// Times that a handler or a task held the shard for longer than `warn_held_after`, by its CPU time or because it blocked.
    Counter holds,
    /// The longest of these, in µs, without the time in which the thread waited for a CPU.
    Gauge longest_hold_us,
    /// Times that the shard stood still for longer than `warn_held_after`, and that its thread waited for a CPU explains it.
    Counter cpu_waits,
    /// Microseconds in which the shard's thread was ready to run and had no CPU: another thread ran there, or the quota of the
    /// control group was used up. 0 where the kernel does not count it. Read four times a second while the shard is awake.
    Counter cpu_wait_us,
    /// Bytes received.
    Counter bytes_received,
    /// Bytes sent.
    Counter bytes_sent,
    /// Receive operations.
    Counter receives,
    /// Send operations.
    Counter sends,
    /// Times that reading from a connection was paused: too much was unsent, or there was no room for its calls.
    Counter reads_paused,
    /// Connections refused for lack of descriptors or memory.
    Counter accept_failures,
    /// Turns of the driver; the supervisor uses it as the shard's heartbeat.
    Counter turns,
    /// Times that the shard gave its thread to the executor to sleep; dozes are not counted.
    Counter parks,
    /// 1 while the shard sleeps like this, otherwise 0.
    Gauge parked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_says_what_it_is_in_the_order_of_the_snapshot() {
        let names = ShardCounters::default().snapshot().into_iter().map(|(name, _)| name);
        let kinds = ShardCounters::KINDS.iter().map(|(name, _)| *name);
        assert_eq!(names.collect::<Vec<_>>(), kinds.collect::<Vec<_>>());
        let gauges = ShardCounters::KINDS.iter().filter(|(_, kind)| *kind == CounterKind::Gauge);
        let gauges: Vec<_> = gauges.map(|(name, _)| *name).collect();
        assert_eq!(
            gauges,
            [
                "connections_open",
                "busy_permille",
                "uneven",
                "calls_pending",
                "held_bytes",
                "longest_hold_us",
                "parked"
            ]
        );
    }
}
