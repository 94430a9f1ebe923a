//! The shard's own tasks.
//!
//! A caller's task waits for replies that the driver brings, so the driver polls it: a wake is a push
//! into a list, and a poll needs no detour through the executor underneath. Glommio's own tasks run
//! alongside these as always.

use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::shard::clock::clock;
use crate::shard::context::ShardContext;
use crate::shard::holds::Holder;
use crate::shard::task_table::{Place, Work};
use crate::shard::wakes::{ShardWaker, TASK};
use corewire_client::log_limit::{Topic, admit_here};
use corewire_client::panics::panic_text;

/// This many tasks are polled with the same time. Deadlines of the calls that they make count from it,
/// and thousands may be ready at once.
const POLLS_PER_LOOK: usize = 32;

impl ShardContext {
    /// Makes a future a task of this shard; it is polled after the driver's next turn.
    #[track_caller]
    pub(crate) fn spawn<F>(self: &Rc<Self>, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let join = Rc::new(Join::default());
        let spawned = Spawned { future, join: Rc::clone(&join) };
        let mut table = self.tasks.table.borrow_mut();
        let entry = table.vacant_entry();
        // 2³¹ tasks would need more memory than there is.
        let key = u32::try_from(entry.key()).unwrap_or(u32::MAX) & !TASK;
        let source = ShardWaker::new(key | TASK, Arc::clone(&self.wakes.doorbell));
        let waker = Waker::from(Arc::clone(&source));
        let spawned_at = Location::caller();
        let future = Box::pin(spawned);
        entry.insert(Place::Idle(Work { future, waker: waker.clone(), source, spawned_at }));
        drop(table);
        waker.wake();
        Task { join, local: Rc::clone(self), key }
    }

    /// Polls each task that is ready now, once; returns whether there was any.
    pub(crate) fn run_tasks(&self) -> bool {
        let ready = self.wakes.ready_tasks();
        for number in 1..=ready {
            if number % POLLS_PER_LOOK == 0 {
                self.look_at_clock();
            }
            if let Some(key) = self.wakes.pop_task() {
                self.poll_task(key);
            }
        }
        ready > 0
    }

    fn poll_task(&self, key: u32) {
        let Some(mut work) = self.take_work(key, Place::Running) else { return };
        work.source.rearm();
        let waits = self.known_waits();
        let spawned_at = work.spawned_at;
        self.holds.note_task(spawned_at);
        if self.observes_polls() {
            self.start_poll(None, true);
        }
        let poll = work.future.as_mut().poll(&mut Context::from_waker(&work.waker));
        if self.observes_polls() {
            self.end_task_poll(|| Holder::Task(spawned_at));
        }
        if poll.is_pending() && waits == self.known_waits() && !work.source.is_queued() {
            self.note_foreign_wait();
        }
        let mut table = self.tasks.table.borrow_mut();
        match table.get_mut(key as usize) {
            Some(place @ Place::Running) if poll.is_pending() => *place = Place::Idle(work),
            _ => {
                table.try_remove(key as usize);
                // What it owns may spawn or cancel tasks when it is dropped.
                drop(table);
                drop(work);
            }
        }
    }

    /// Takes out what is idle at this place and leaves `instead`.
    fn take_work(&self, key: u32, instead: Place) -> Option<Work> {
        let mut table = self.tasks.table.borrow_mut();
        let place = table.get_mut(key as usize)?;
        match core::mem::replace(place, instead) {
            Place::Idle(work) => Some(work),
            // Only a task that cancels itself comes here.
            Place::Running | Place::Cancelled => None,
        }
    }

    fn cancel_task(&self, key: u32) {
        if let Some(work) = self.take_work(key, Place::Cancelled) {
            self.tasks.table.borrow_mut().try_remove(key as usize);
            drop(work);
        }
    }

    /// Drops all tasks; for a shard that ends.
    pub(crate) fn drop_tasks(&self) {
        // Dropping one may spawn another; they are dropped in turn.
        while let Some(key) = {
            let table = self.tasks.table.borrow();
            table.iter().next().map(|(key, _)| key)
        } {
            let place = self.tasks.table.borrow_mut().try_remove(key);
            drop(place);
        }
    }
}

/// Where a task leaves its outcome.
struct Join<T> {
    outcome: Cell<Option<Result<T, Box<dyn Any + Send>>>>,
    waiter: Cell<Option<Waker>>,
    finished: Cell<bool>,
    detached: Cell<bool>,
}

impl<T> Default for Join<T> {
    fn default() -> Self {
        Self {
            outcome: Cell::new(None),
            waiter: Cell::new(None),
            finished: Cell::new(false),
            detached: Cell::new(false),
        }
    }
}

impl<T> Join<T> {
    fn finish(&self, outcome: Result<T, Box<dyn Any + Send>>) {
        if let Err(panic) = &outcome
            && self.detached.get()
            && admit_here(Topic::TASK_PANIC, clock())
        {
            let panic = panic_text(&**panic);
            tracing::error!(panic, "a detached task panicked; its shard goes on");
        }
        self.outcome.set(Some(outcome));
        self.finished.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

pin_project! {
    /// A task's future, which passes its outcome, or its panic, to its handle.
    struct Spawned<F: Future> {
        #[pin]
        future: F,
        join: Rc<Join<F::Output>>,
    }
}

impl<F: Future> Future for Spawned<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outcome = match catch_unwind(AssertUnwindSafe(|| this.future.poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        this.join.finish(outcome);
        Poll::Ready(())
    }
}

/// A task of the shard, to be awaited for its value. Dropping it cancels the task.
///
/// A task that panicked passes its panic on to the code that awaits it.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// use corewire::{ClientShard, block_on_shard, spawn};
///
/// block_on_shard(ClientShard::default(), || async {
///     drop(spawn(std::future::pending::<()>())); // cancelled
///     spawn(async { println!("runs to its end, whoever waits") }).detach();
/// })?;
/// # Ok::<(), corewire::StartError>(())
/// ```
pub struct Task<T> {
    join: Rc<Join<T>>,
    local: Rc<ShardContext>,
    key: u32,
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.join.finished.get()).finish_non_exhaustive()
    }
}

impl<T> Task<T> {
    /// Lets the task run to its end on its own.
    pub fn detach(self) {
        self.join.detached.set(true);
    }

    /// Whether the task is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.finished.get()
    }

    /// The value of a task that is over, once.
    pub(crate) fn take(&self) -> Option<T> {
        match self.join.outcome.take()? {
            Ok(value) => Some(value),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.take() {
            return Poll::Ready(value);
        }
        self.local.note_known_wait();
        self.join.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // A key is reused for another task when its own is over.
        if !self.join.detached.get() && !self.join.finished.get() {
            self.local.cancel_task(self.key);
        }
    }
}

/// Runs a future concurrently with the current one, on the same shard.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// use corewire::{ClientShard, block_on_shard, spawn};
///
/// let value = block_on_shard(ClientShard::default(), || async {
///     let task = spawn(async { 40 }); // runs meanwhile
///     task.await + 2
/// })?;
/// assert_eq!(value, 42);
/// # Ok::<(), corewire::StartError>(())
/// ```
///
/// # Panics
///
/// When the thread is not a shard's: run the code with `block_on_shard`, or in a handler.
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match ShardContext::current() {
        Some(local) => local.spawn(future),
        #[allow(clippy::panic, reason = "a mistake in the program, documented")]
        None => panic!("corewire tasks run on shards; run this code with corewire::block_on_shard"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::net::doorbell::Doorbell;
    use std::cell::RefCell;
    use std::time::{Duration, Instant};

    #[test]
    fn thousands_of_tasks_do_not_all_run_at_one_time() {
        let local = ShardContext::new(Arc::new(Doorbell::new().unwrap()));
        let _entered = local.enter();
        let seen = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..2 * POLLS_PER_LOOK {
            let (here, seen) = (Rc::clone(&local), Rc::clone(&seen));
            local.spawn(async move { seen.borrow_mut().push(here.now()) }).detach();
        }
        // A turn that began long ago.
        let turn = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        local.set_now(Some(turn));
        assert!(local.run_tasks());
        let seen = seen.borrow();
        let old = seen.iter().filter(|now| **now == turn).count();
        assert_eq!((seen.len(), old), (2 * POLLS_PER_LOOK, POLLS_PER_LOOK - 1));
    }
}
