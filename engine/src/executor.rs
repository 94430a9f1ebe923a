//! The shard's one task: turn, spin, sleep.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::counters::ShardCounters;
use crate::dispatch::Dispatch;
use crate::doorbell::Doorbell;
use crate::driver::Driver;
use crate::epoll::Epoll;
use crate::local::Local;
use crate::rt::{self, Parker};
use crate::shard::{DriverConfig, Spin};

/// Everything one shard needs to run.
pub(crate) struct ShardParts {
    pub(crate) config: DriverConfig,
    pub(crate) spin: Spin,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) listeners: Vec<Arc<rustix::fd::OwnedFd>>,
}

/// The driver with what it needs to sleep.
pub(crate) struct ShardTask {
    driver: Driver<Epoll>,
    parker: Parker,
    local: Rc<Local>,
    counters: Arc<ShardCounters>,
    spin: Spin,
}

impl ShardTask {
    /// To be called on the shard's executor, within its mailbox.
    pub(crate) fn new(
        parts: ShardParts,
        local: Rc<Local>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<Self> {
        let io = Epoll::new(&parts.doorbell)?;
        let parker = Parker::new(io.descriptor()?, Rc::clone(&local))?;
        let counters = Arc::clone(&parts.counters);
        let driver = Driver::new(
            io,
            parts.config,
            Rc::clone(&local),
            parts.listeners,
            dispatch,
            parts.counters,
        )?;
        Ok(Self { driver, parker, local, counters, spin: parts.spin })
    }

    /// Turns until the shard is drained.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut idle_since: Option<Instant> = None;
        let mut reactor_at = self.driver.now();
        loop {
            let worked = self.driver.turn(Duration::ZERO)?;
            self.counters.turns.add(1);
            if self.driver.is_drained() {
                return Ok(());
            }
            // Others on this shard run now: tasks that a reply has woken, glommio when it is due.
            let now = self.driver.now();
            if now.duration_since(reactor_at) >= rt::REACTOR_EVERY {
                reactor_at = now;
                rt::visit_reactor().await;
            } else {
                rt::yield_now().await;
            }
            if worked || self.local.has_news() {
                idle_since = None;
                continue;
            }
            if self.keeps_spinning(&mut idle_since, now) {
                continue;
            }
            idle_since = None;
            self.counters.parks.add(1);
            self.counters.parked.set(1);
            let outcome = self.parker.park(self.driver.next_timer()).await;
            self.counters.parked.set(0);
            outcome?;
        }
    }

    fn keeps_spinning(&self, idle_since: &mut Option<Instant>, now: Instant) -> bool {
        match self.spin {
            Spin::Off => false,
            Spin::Always => true,
            Spin::For(limit) => now.duration_since(*idle_since.get_or_insert(now)) < limit,
        }
    }
}

/// Runs a server's shard on this thread until it is drained; `ready` is called when it can turn.
pub(crate) fn run_server(
    parts: ShardParts,
    dispatch: impl FnOnce() -> Result<Rc<dyn Dispatch>, String>,
    ready: impl FnOnce() + 'static,
) -> io::Result<()> {
    let cpu = parts.config.info.cpu;
    let local = Local::new(Arc::clone(&parts.doorbell));
    let entered = local.enter();
    let outcome = rt::run("corewire", cpu, async move {
        let dispatch = dispatch().map_err(io::Error::other)?;
        let task = ShardTask::new(parts, local, dispatch)?;
        ready();
        rt::spawn_driver(task.run())?.await
    });
    drop(entered);
    outcome?
}

/// Runs `main` on this thread with a driver beside it, until `main` ends.
pub(crate) fn run_with_driver<F, T>(
    parts: ShardParts,
    dispatch: impl FnOnce() -> Rc<dyn Dispatch>,
    main: impl FnOnce() -> F,
) -> io::Result<T>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    let cpu = parts.config.info.cpu;
    let local = Local::new(Arc::clone(&parts.doorbell));
    let entered = local.enter();
    let outcome = rt::run("corewire", cpu, async move {
        let task = ShardTask::new(parts, local, dispatch())?;
        let main = main();
        // Main runs in the driver's queue: going from one to the other is the cheapest switch.
        let both = rt::spawn_driver(async move {
            let driver = rt::spawn(task.run());
            let outcome = main.await;
            drop(driver);
            outcome
        })?;
        Ok(both.await)
    });
    drop(entered);
    outcome?
}
