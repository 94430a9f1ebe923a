//! A client host whose channels are driven as tokio's are: each by one task, the production driver
//! (`corewire_client::testing`), over sockets with readiness and wakers.
//!
//! What the production shell has of tokio is imitated here, with what makes it hard:
//!
//! - the runtime hears of a socket late, and first runs tasks and timers that are due;
//! - it remembers readiness until a read or write finds the socket not ready, and may remember too much;
//! - a task that has done much is told that nothing is ready, and is woken again at once;
//! - only a look at the bare socket says what is so;
//! - another thread ends calls when the host was away, before it goes on.
//!
//! What is left out: that thread's own sleeps (`tokio/watch.rs`), tokio's clock, which counts in milliseconds, and connects
//! by name. Of the judge's rules nothing is left out but that the bytes before a server's hello are not told apart: a
//! request is always encoded before its driver sees it.

mod socket;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use corewire_client::testing::{self, Hearing, Shell, TaskDriver};
use corewire_client::{Address, ChannelConfig};
use corewire_engine::Sleep;

use self::socket::{Connecting, Reactor, Wired};
use crate::core::Core;
use crate::hosts::runtime::{self, AnyChannel, Held, Runtime};
use crate::net::Net;
use crate::net::endpoint::address;

/// For how long a call may outlive its deadline because nobody polls the runtime (`tokio/watch.rs`).
const UNPOLLED: Duration = Duration::from_millis(50);

/// A channel's driver, which lives as long as its task.
type Driving = RefCell<TaskDriver<TaskShell>>;

/// A channel that was made here.
struct Made {
    driver: Weak<Driving>,
    unsent_max: usize,
    /// Its peer follows no protocol, or its bytes change.
    tainted: bool,
}

/// The channels of one host.
pub(crate) struct TaskRuntime {
    reactor: Rc<Reactor>,
    made: RefCell<Vec<Made>>,
}

impl TaskRuntime {
    pub(crate) fn new(core: &Rc<Core>, net: &Net, host: usize, mutating: bool) -> Self {
        let reactor = Reactor {
            core: Rc::clone(core),
            net: net.clone(),
            set: net.add_set(),
            host,
            mutating,
            sockets: RefCell::default(),
            sockets_made: Cell::new(0),
            budget: Cell::new(0),
        };
        Self { reactor: Rc::new(reactor), made: RefCell::default() }
    }
}

impl Runtime for TaskRuntime {
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> Option<AnyChannel> {
        let reactor = Rc::clone(&self.reactor);
        let side = &reactor.core.side;
        let queued_max =
            if side.chance(200_000) { side.size(1, 65_536) } else { config.queued_max };
        let unsent_max = if side.chance(400_000) { side.size(1, 256) } else { config.unsent_max };
        // Tokio's is 128.
        let budget = if side.chance(200_000) { side.size(16, 128) } else { 128 };
        let budget = u32::try_from(budget).unwrap_or(128);
        let (bell, hearing) = testing::bell(reactor.core.clock.reader());
        let shell = TaskShell { reactor: Rc::clone(&reactor), hearing, sleep: None };
        let config = ChannelConfig { queued_max, unsent_max, ..config };
        let (channel, driver) = testing::channel(address(server), config, jitter, bell, shell);
        let driver = Rc::new(RefCell::new(driver));
        let tainted = reactor.mutating || server >= reactor.core.plan.servers;
        let mut made = self.made.borrow_mut();
        made.retain(|made| made.driver.strong_count() > 0);
        made.push(Made { driver: Rc::downgrade(&driver), unsent_max, tainted });
        let task = poll_fn(move |context| {
            reactor.budget.set(budget);
            driver.borrow_mut().poll(context)
        });
        corewire_engine::spawn(task).detach();
        Some(AnyChannel::Shared(channel))
    }

    fn set(&self) -> Option<usize> {
        Some(self.reactor.set)
    }

    fn hear(&self) {
        let mut news = Vec::new();
        self.reactor.net.poll(self.reactor.set, &mut news);
        for news in news {
            let ready = self.reactor.sockets.borrow().get(&news.token.0).cloned();
            let Some(ready) = ready else { continue };
            if news.readable || news.hangup {
                ready.readable.set(true);
                ready.reader.take().into_iter().for_each(Waker::wake);
            }
            if news.writable || news.hangup {
                ready.writable.set(true);
                ready.writer.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn expire(&self) {
        let now = self.reactor.core.clock.instant();
        for made in self.made.borrow().iter() {
            let Some(driver) = made.driver.upgrade() else { continue };
            let due = driver.borrow().first_deadline();
            if due.is_some_and(|due| due + UNPOLLED <= now) {
                driver.borrow_mut().expire(now);
            }
        }
    }

    fn drivers(&self) -> usize {
        self.made.borrow().iter().filter(|made| made.driver.strong_count() > 0).count()
    }

    fn held(&self) -> Vec<Held> {
        let mut all = Vec::new();
        for made in self.made.borrow().iter() {
            let Some(driver) = made.driver.upgrade() else { continue };
            let snapshot = driver.borrow().snapshot();
            all.extend(runtime::held(&snapshot, made.unsent_max, made.tainted));
        }
        all
    }
}

/// What the driver of one channel has of its host.
struct TaskShell {
    reactor: Rc<Reactor>,
    hearing: Hearing,
    /// The wait that goes on, and its end.
    sleep: Option<(Instant, Sleep)>,
}

impl Shell for TaskShell {
    type Socket = Wired;
    type Connecting = Connecting;

    fn now(&self) -> Instant {
        self.reactor.core.clock.instant()
    }

    fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        ready!(self.reactor.proceed(context));
        let heard = ready!(self.hearing.poll(context));
        self.reactor.note_progress();
        Poll::Ready(heard)
    }

    fn connect(&mut self, server: &Address, config: &ChannelConfig) -> Connecting {
        let sleep = corewire_engine::sleep(config.connect_timeout);
        let (socket, failure) = match Wired::connect(&self.reactor, server) {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        Connecting { socket, failure, sleep }
    }

    fn poll_sleep(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = until else {
            self.sleep = None;
            return Poll::Pending;
        };
        ready!(self.reactor.proceed(context));
        let left = until.saturating_duration_since(self.now());
        let is_other = self.sleep.as_ref().is_none_or(|(former, _)| *former != until);
        if is_other {
            self.sleep = Some((until, corewire_engine::sleep(left)));
        }
        let Some((_, sleep)) = &mut self.sleep else { return Poll::Pending };
        ready!(Pin::new(sleep).poll(context));
        self.sleep = None;
        Poll::Ready(())
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        corewire_engine::spawn(future).detach();
    }
}
