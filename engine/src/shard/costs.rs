//! What each method costs: its calls, and the CPU time that they took, on the shard and on the threads for offloaded work.
//!
//! Nothing is measured unless that is asked for. Then every poll of a handler is counted, and one of so many is
//! measured, with the clock of the thread's CPU time, before and after. What it took counts for all of those. Which polls are measured
//! is left to chance, so that what comes in a rhythm does not hide between them; the sum is right on average, whatever the polls' lengths.
//!
//! A reading is a system call. What two of them take with nothing in between is found when the shard begins, and taken off.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shard::chance;
use crate::shard::clock::is_simulated;
use crate::shard::counter::Counter;
use crate::shard::thread_time::thread_cpu;
use corewire_client::MethodName;
use corewire_codec::MethodId;

/// What one method has cost its shard.
///
/// ```
/// # use corewire_engine as corewire;
/// let counters = corewire::ShardCounters::default(); // a running server's: server.shards()[0].counters
/// for cost in counters.method_costs() {
///     println!("{}: {} calls, {:?}", cost.method, cost.calls, cost.cpu);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodCost {
    /// The method.
    pub method: MethodName,
    /// Calls that began. All are counted.
    pub calls: u64,
    /// Polls of its handlers: one for each call, and one more each time that a handler goes on.
    pub polls: u64,
    /// CPU time in these polls, on the shard: decoding arguments, the handler, and writing its reply. What was measured,
    /// times one in how many polls was.
    pub cpu: Duration,
    /// CPU time of its offloaded work, on the threads for that: all of what `#[blocking]` methods do, and what handlers
    /// gave to [`offload`](crate::offload). All of it is measured.
    pub offloaded: Duration,
}

/// The costs of a shard's methods, which any thread may read.
#[derive(Debug, Default)]
pub(crate) struct CostTable {
    /// By id, in order.
    rows: Box<[Row]>,
}

#[derive(Debug)]
struct Row {
    id: MethodId,
    name: MethodName,
    calls: Counter,
    polls: Counter,
    cpu_ns: Counter,
    /// The threads for offloaded work write it together.
    offloaded_ns: AtomicU64,
}

impl CostTable {
    pub(crate) fn new(mut methods: Vec<(MethodId, MethodName)>) -> Self {
        methods.sort_by_key(|(id, _)| id.0);
        let row = |(id, name)| Row {
            id,
            name,
            calls: Counter::default(),
            polls: Counter::default(),
            cpu_ns: Counter::default(),
            offloaded_ns: AtomicU64::new(0),
        };
        Self { rows: methods.into_iter().map(row).collect() }
    }

    /// All methods, by id.
    pub(crate) fn read(&self) -> Vec<MethodCost> {
        let one = |row: &Row| MethodCost {
            method: row.name,
            calls: row.calls.value(),
            polls: row.polls.value(),
            cpu: Duration::from_nanos(row.cpu_ns.value()),
            offloaded: Duration::from_nanos(row.offloaded_ns.load(Ordering::Relaxed)),
        };
        self.rows.iter().map(one).collect()
    }
}

/// Whom offloaded work is counted for.
#[derive(Debug)]
pub(crate) struct Payer {
    table: Arc<CostTable>,
    row: usize,
}

impl Payer {
    /// Runs the work, on its thread, and counts what it takes.
    pub(crate) fn measure<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = thread_cpu();
        let outcome = work();
        if let Some(row) = self.table.rows.get(self.row) {
            let took = thread_cpu().saturating_sub(before);
            row.offloaded_ns.fetch_add(nanos(took), Ordering::Relaxed);
        }
        outcome
    }
}

/// Which polls a shard measures.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// One of how many; 0 is none.
    one_in: Cell<u32>,
    /// How many more are not measured.
    skip: Cell<u32>,
    chance: Cell<u64>,
    /// What a measurement of nothing takes.
    nothing: Cell<Duration>,
    table: RefCell<Arc<CostTable>>,
    /// The row of the method whose handler is polled, and of the last one.
    current: Cell<Option<usize>>,
    last: Cell<Option<usize>>,
    /// The CPU time when the poll began that is measured.
    begun: Cell<Option<Duration>>,
}

impl Costs {
    /// Measures one of so many polls from now on.
    pub(crate) fn start(&self, one_in: u16, table: Arc<CostTable>) {
        self.one_in.set(one_in.into());
        self.chance.set(chance::seed() | 1);
        drop(self.table.replace(table));
        let nothing = (0..32).map(|_| {
            let before = now();
            now().saturating_sub(before)
        });
        self.nothing.set(nothing.min().unwrap_or_default());
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.one_in.get() != 0
    }

    /// A handler of this method is about to be polled; `again` if it was before.
    pub(crate) fn begin(&self, method: MethodId, again: bool) {
        if !self.is_on() {
            return;
        }
        // A handler that panicked may have left it.
        self.begun.set(None);
        let table = self.table.borrow();
        // Most calls are of the method that the last one was of.
        let same = self.last.get().filter(|&row| is_at(&table, row, method));
        let row = same.or_else(|| table.rows.binary_search_by_key(&method.0, |row| row.id.0).ok());
        self.current.set(row);
        self.last.set(row);
        let Some(row) = row.and_then(|row| table.rows.get(row)) else { return };
        row.polls.add(1);
        if !again {
            row.calls.add(1);
        }
        match self.skip.get() {
            0 => self.measure(),
            left => self.skip.set(left - 1),
        }
    }

    #[cold]
    fn measure(&self) {
        // Between 0 and twice the mean, all equally likely.
        let span = 2 * u64::from(self.one_in.get()) - 1;
        // Xorshift (Marsaglia 2003).
        let mut chance = self.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.chance.set(chance);
        self.skip.set(u32::try_from(chance % span).unwrap_or(0));
        self.begun.set(Some(now()));
    }

    /// The poll has ended.
    pub(crate) fn end(&self) {
        let Some(row) = self.current.take() else { return };
        let Some(begun) = self.begun.take() else { return };
        let took = now().saturating_sub(begun).saturating_sub(self.nothing.get());
        let table = self.table.borrow();
        if let Some(row) = table.rows.get(row) {
            row.cpu_ns.add(nanos(took).saturating_mul(self.one_in.get().into()));
        }
    }

    /// Whom work is counted for that the handler offloads which is polled now.
    pub(crate) fn payer(&self) -> Option<Payer> {
        if !self.is_on() {
            return None;
        }
        let row = self.current.get()?;
        Some(Payer { table: Arc::clone(&self.table.borrow()), row })
    }
}

fn is_at(table: &CostTable, row: usize, method: MethodId) -> bool {
    table.rows.get(row).is_some_and(|row| row.id == method)
}

/// The thread's CPU time; in a simulation no time passes in a poll.
fn now() -> Duration {
    if is_simulated() { Duration::ZERO } else { thread_cpu() }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MethodId = MethodId(1);
    const TWO: MethodId = MethodId(2);

    fn costs(one_in: u16) -> (Costs, Arc<CostTable>) {
        let name = |method| MethodName { service: "S", method };
        let table = Arc::new(CostTable::new(vec![(TWO, name("two")), (ONE, name("one"))]));
        let costs = Costs::default();
        costs.start(one_in, Arc::clone(&table));
        (costs, table)
    }

    fn burn(time: Duration) {
        let begun = thread_cpu();
        while thread_cpu() - begun < time {}
    }

    /// With every poll measured, what was burned is what is told, for each method its own.
    #[test]
    fn what_was_burned_is_counted_for_its_method() {
        let (costs, table) = costs(1);
        for _ in 0..5 {
            for (method, ms, again) in [(ONE, 1, false), (TWO, 3, false), (TWO, 1, true)] {
                costs.begin(method, again);
                burn(Duration::from_millis(ms));
                costs.end();
            }
        }
        let read = table.read();
        let [one, two] = &read[..] else { panic!("{read:?}") };
        assert_eq!((one.calls, one.polls, two.calls, two.polls), (5, 5, 5, 10));
        let ms = |cost: &MethodCost| cost.cpu.as_micros() as f64 / 1000.0;
        assert!((5.0..5.5).contains(&ms(one)) && (20.0..21.0).contains(&ms(two)), "{read:?}");
    }

    /// One in 16 is measured, and counts for 16: in a rhythm that a fixed step would always miss or always hit.
    #[test]
    fn a_sample_counts_for_all() {
        let (costs, table) = costs(16);
        for poll in 0..8192 {
            costs.begin(if poll % 16 == 0 { ONE } else { TWO }, false);
            if poll % 16 == 0 {
                burn(Duration::from_micros(100));
            }
            costs.end();
        }
        let read = table.read();
        let one = read[0];
        assert_eq!((one.calls, read[1].calls), (512, 7680));
        // 51.2 ms; some 32 of the 512 are measured, so its deviation is a sixth.
        let ms = one.cpu.as_micros() as f64 / 1000.0;
        assert!((15.0..110.0).contains(&ms), "{ms} ms");
    }

    /// What counting and measuring add to a call: `cargo test --release -p corewire-engine --lib costs -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, which asserts nothing"]
    #[allow(clippy::print_stdout, reason = "what it is for")]
    fn what_it_costs() {
        for one_in in [1, 8, 32, 64, 1024] {
            let (costs, _) = costs(one_in);
            let begun = std::time::Instant::now();
            for _ in 0..1_000_000 {
                costs.begin(std::hint::black_box(ONE), false);
                costs.end();
            }
            println!("one in {one_in}: {:.1} ns", begun.elapsed().as_nanos() as f64 / 1e6);
        }
    }

    #[test]
    fn a_method_that_nobody_knows_is_counted_nowhere() {
        let (costs, table) = costs(1);
        costs.begin(MethodId(3), false);
        costs.end();
        assert!(costs.payer().is_none());
        assert!(table.read().iter().all(|it| it.calls == 0));
    }
}
