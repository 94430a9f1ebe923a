//! A client thread whose shard is a simulated one.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::SimShard;
use crate::channel::driven::{Connects, DrivenChannel};
use crate::error::StartError;
use crate::host::client_thread::{ClientThread, Pump};
use crate::net::io::Io;
use crate::shard::tasks::{Task, spawn};
use corewire_client::address::Address;
use corewire_client::config::ChannelConfig;
use corewire_client::remote::SharedChannel;
use corewire_client::remote::command::Completion;
use corewire_client::remote::mailbox::Bell;
use corewire_client::testing::CoreSnapshot;

/// A client thread's task, and the handle that channels are made with.
pub struct SimClientThread {
    /// `None` once nobody makes channels any more.
    thread: Option<ClientThread>,
    task: Task<()>,
    remote: Rc<Connects<Completion>>,
}

impl fmt::Debug for SimClientThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimClientThread").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// One channel of the thread.
#[derive(Clone, Debug)]
pub struct ThreadChannel {
    /// Its server.
    pub server: Address,
    /// Its setting of that name.
    pub unsent_max: usize,
    /// What it holds.
    pub holds: CoreSnapshot,
}

/// What the thread's task is woken with, and the time of the simulation.
struct SimBell {
    waker: Waker,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl fmt::Debug for SimBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimBell").field("waker", &self.waker).finish_non_exhaustive()
    }
}

impl Bell for SimBell {
    fn ring(&self) {
        self.waker.ring();
    }

    fn now(&self) -> Instant {
        (self.now)()
    }
}

impl<I: Io> SimShard<I> {
    /// Makes this shard a client thread's. `clock` tells callers the time.
    ///
    /// # Errors
    ///
    /// Why the thread cannot start.
    pub fn client_thread(
        &mut self,
        now: Instant,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Result<SimClientThread, StartError> {
        let _within = self.within(now);
        let clock = Box::new(clock);
        let (ready, started) = flume::bounded(1);
        // The task hands the mailbox out as soon as it has run, and is over when nobody can call any more and nothing
        // is in flight.
        let task = spawn(Pump::run(ready, |waker| SimBell { waker, now: clock }));
        self.local.run_tasks();
        let gone =
            |_| StartError::Shard { shard: 0, error: std::io::Error::other("its task ended") };
        let mailbox = started.try_recv().map_err(gone)??;
        let thread = Some(ClientThread { mailbox: Arc::new(mailbox), channels: Arc::default() });
        Ok(SimClientThread { thread, task, remote: Rc::clone(&self.channels.remote) })
    }
}

impl SimClientThread {
    /// A channel, which connects when it is first used; `None` after [`release`](Self::release). What is left to chance
    /// is drawn from `jitter`. Settings may be outside their ranges.
    #[must_use]
    pub fn channel(
        &self,
        address: Address,
        config: ChannelConfig,
        jitter: u64,
    ) -> Option<SharedChannel> {
        Some(self.thread.as_ref()?.open(address, config, jitter))
    }

    /// No channel is made any more.
    pub fn release(&mut self) {
        self.thread = None;
    }

    /// Whether callers have sent what the thread has not taken.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.mailbox.has_news())
    }

    /// Whether its task is over: nobody can call any more, and nothing is in flight.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// What its channels hold, also those without a handle.
    #[must_use]
    pub fn channels(&self) -> Vec<ThreadChannel> {
        let of = |channel: &Rc<DrivenChannel<Completion>>| {
            let core = channel.core.borrow();
            ThreadChannel {
                server: core.server().clone(),
                unsent_max: core.config().unsent_max,
                holds: core.snapshot(),
            }
        };
        self.remote.made.list().iter().map(of).collect()
    }
}
