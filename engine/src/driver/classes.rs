//! Calls of several classes: which of those that were woken are polled in a turn, and what is known of methods.
//!
//! A shard whose methods are all of the usual class polls every woken call in the next turn of its connection, and nothing
//! here runs. `shard/class_queues.rs` says how it is with several classes.

use std::sync::Arc;

use super::Driver;
use crate::net::io::Io;
use crate::shard::costs::CostTable;

impl<I: Io> Driver<I> {
    /// The dispatcher is known: whether it has classes, and whose costs are measured.
    pub(super) fn know_methods(&mut self) {
        let (config, dispatch) = (&self.shared.config, &self.shared.served);
        if dispatch.has_classes() {
            self.local.classes.start(config.class_shares);
        }
        let methods = if config.method_costs > 0 { dispatch.methods() } else { Vec::new() };
        if !methods.is_empty() {
            let table = Arc::new(CostTable::new(methods));
            self.shared.counters.costs.store(Some(Arc::clone(&table)));
            self.local.costs.start(config.method_costs, table);
        }
        self.shared.observe_polls();
    }

    /// These calls were woken: they wait for the turn of their class.
    #[cold]
    pub(super) fn queue_calls(&self, keys: &mut Vec<u32>) {
        for key in keys.drain(..) {
            self.local.classes.push(self.shared.calls.class(key), key);
        }
    }

    /// Polls as many woken calls as this turn has time for, by the shares of their classes. Returns how many connections
    /// had a turn for that.
    #[cold]
    pub(super) fn run_classes(&mut self) -> usize {
        let mut keys = core::mem::take(&mut self.keys);
        self.local.classes.release(&mut keys);
        let released = !keys.is_empty();
        for key in keys.drain(..) {
            self.wake_call(key);
        }
        self.keys = keys;
        if released { self.run_queue() } else { 0 }
    }
}
