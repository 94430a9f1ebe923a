//! What is measured of each poll of a handler or a task, if anything is.
//!
//! Three want to know how long polls take: who looks for whatever holds the shard (`holds.rs`), who counts what methods cost
//! (`costs.rs`), and who shares the shard out among classes (`class_queues.rs`). When none of them does, which is usual, a call
//! that begins pays nothing (`calls/observed.rs`), and any other
//! poll pays for one look at a flag before it and one after it.

use std::time::Instant;

use crate::classes::ServiceClass;
use crate::shard::clock::clock;
use crate::shard::context::ShardContext;
use crate::shard::holds::Holder;
use corewire_codec::MethodId;

impl ShardContext {
    /// Somebody wants to know of polls, or does not any more.
    pub(crate) fn observe_polls(&self) {
        let wanted = self.holds.is_watching() || self.costs.is_on() || self.classes.in_use();
        self.polls.observed.set(wanted);
    }

    /// Whether polls are measured, so that [`start_poll`](Self::start_poll) and then an end are to be called.
    #[inline]
    pub(crate) fn observes_polls(&self) -> bool {
        self.polls.observed.get()
    }

    /// A handler of this method is about to be polled, or a task. `again` if it is no handler that begins.
    #[cold]
    pub(crate) fn start_poll(&self, method: Option<MethodId>, again: bool) {
        if !again {
            // The call says what class it is of when it begins.
            self.classes.set_current(ServiceClass::Normal);
        }
        let watching = self.holds.is_watching();
        let begun = (watching || self.classes.in_use()).then(clock);
        if watching && let Some(now) = begun {
            self.thread_time.keep_fine(now);
        }
        self.polls.begun.set(begun);
        // Last, so that the CPU time of what is above is not the method's.
        if let Some(method) = method {
            self.costs.begin(method, again);
        }
    }

    /// The poll of a task has ended.
    #[cold]
    pub(crate) fn end_task_poll(&self, holder: impl FnOnce() -> Holder) {
        if let Some(begun) = self.polls.begun.take() {
            self.end_held(begun, clock(), holder);
        }
    }

    /// The poll of a handler of this class has ended.
    #[cold]
    pub(crate) fn end_call_poll(
        &self,
        class: ServiceClass,
        again: bool,
        holder: impl FnOnce() -> Holder,
    ) {
        self.costs.end();
        let Some(begun) = self.polls.begun.take() else { return };
        let ended = clock();
        if self.classes.in_use() {
            let took = ended.saturating_duration_since(begun).as_nanos();
            self.classes.charge(class, u64::try_from(took).unwrap_or(u64::MAX), again);
        }
        self.end_held(begun, ended, holder);
    }

    fn end_held(&self, begun: Instant, ended: Instant, holder: impl FnOnce() -> Holder) {
        if self.holds.is_watching() {
            let time = ended.saturating_duration_since(begun);
            self.holds.end(time, || self.thread_time.span(time), holder);
        }
    }
}
