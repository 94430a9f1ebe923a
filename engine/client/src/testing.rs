//! Access for the simulator, `engine/sim`: a channel whose driver is polled by its caller, over sockets and a clock of the
//! caller's. What blocking channels need is in [`blocking`].
//!
//! The code behind it is the production driver of tokio channels and the production handle, unchanged. Nothing here is
//! part of what the crate promises to anybody else.

pub use crate::blocking::testing as blocking;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use atomic_waker::AtomicWaker;

use crate::address::Address;
use crate::config::ChannelConfig;
pub use crate::core::channel::{ConnectionSnapshot, CoreSnapshot};
use crate::remote::SharedChannel;
use crate::remote::command::ClientCore;
use crate::remote::mailbox::{Bell, Mailbox};
use crate::task::Driver;
pub use crate::task::shell::{Bare, Shell, Socket};

/// The bell of a channel whose driver is a task, with the caller's clock.
pub struct TaskBell {
    rings: Arc<Rings>,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
}

#[derive(Debug, Default)]
struct Rings {
    is_rung: AtomicBool,
    is_gone: AtomicBool,
    task: AtomicWaker,
}

impl fmt::Debug for TaskBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBell").field("rings", &self.rings).finish_non_exhaustive()
    }
}

impl Bell for TaskBell {
    fn ring(&self) {
        if !self.rings.is_rung.swap(true, Ordering::AcqRel) {
            self.rings.task.wake();
        }
    }

    fn now(&self) -> Instant {
        (self.now)()
    }
}

impl Drop for TaskBell {
    fn drop(&mut self) {
        self.rings.is_gone.store(true, Ordering::Release);
        self.rings.task.wake();
    }
}

/// What the task of a driver hears its bell with.
#[derive(Debug)]
pub struct Hearing(Arc<Rings>);

impl Hearing {
    /// As [`Shell::poll_bell`] is to be.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.0.task.register(context.waker());
        if self.0.is_rung.swap(false, Ordering::AcqRel) {
            return Poll::Ready(Some(()));
        }
        if self.0.is_gone.load(Ordering::Acquire) { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// A bell that tells the time as `now` does, and what hears it.
pub fn bell(now: impl Fn() -> Instant + Send + Sync + 'static) -> (TaskBell, Hearing) {
    let rings = Arc::<Rings>::default();
    (TaskBell { rings: Arc::clone(&rings), now: Box::new(now) }, Hearing(rings))
}

/// A channel and its driver. What is left to chance is drawn from `jitter`. Settings may be outside their ranges.
pub fn channel<S: Shell>(
    server: Address,
    config: ChannelConfig,
    jitter: u64,
    bell: TaskBell,
    shell: S,
) -> (SharedChannel, TaskDriver<S>) {
    let (mailbox, inbox) = Mailbox::new(bell);
    let channel = SharedChannel::new(Arc::new(mailbox), 0, server.clone(), &config);
    let core = ClientCore::with_jitter(server, config, jitter).telling(channel.server_side());
    (channel, TaskDriver(Driver::new(inbox, shell, core)))
}

/// The driver of one channel.
pub struct TaskDriver<S: Shell>(Driver<S>);

impl<S: Shell> fmt::Debug for TaskDriver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDriver").finish_non_exhaustive()
    }
}

impl<S: Shell> TaskDriver<S> {
    /// One turn; `Ready` when nobody can call any more and nothing is in flight. It is not to be polled again then.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll(context)
    }

    /// Nobody polls the task: ends the calls whose time is over, and leaves everything else as it is.
    pub fn expire(&mut self, now: Instant) {
        self.0.expire(now);
    }

    /// A lower bound on the first deadline of all calls.
    #[must_use]
    pub fn first_deadline(&self) -> Option<Instant> {
        self.0.first_deadline()
    }

    /// What its channel holds.
    #[must_use]
    pub fn snapshot(&self) -> CoreSnapshot {
        let Driver { inbox, core, .. } = &self.0;
        CoreSnapshot { has_news: inbox.has_news(), ..core.snapshot() }
    }
}
