//! The shard's one task: turn, spin, sleep.
//!
//! After each turn it polls the shard's own tasks and sends what they asked for (`Driver::settle`;
//! `docs/decisions/0008-own-tasks.md`). Then glommio's other tasks have their turn, while the shard spins only
//! every 20 µs, and its reactor every millisecond. On a plain host nothing else is on the thread, and every sleep
//! is in the driver's own epoll set. How a shard without work rests is decided in `idle.rs`.

use std::error::Error;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Balance;
use crate::calls::dispatch::{Dispatch, Dispatched, Incoming, ReplySlot};
use crate::channel::ChannelContext;
use crate::driver::Driver;
use crate::driver::hosting::{self, Got, Hosting};
use crate::driver::idle::{IdlePolicy, Rest};
use crate::driver::runtime::{self, Reactor};
use crate::identity::{DriverConfig, Spin};
use crate::net::doorbell::Doorbell;
use crate::net::epoll::Epoll;
use crate::shard::affinity::Unpinned;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::mesh::{Mesh, MeshEnd};
use crate::shard::tasks::Task;
use crate::workers::pool::Pool;
use corewire_client::MethodName;
use corewire_client::panics::panic_text;
use corewire_codec::{MethodId, Status};

/// A dispatcher that is being made, or the reason why there is none. It runs as a task of its shard.
pub type MadeDispatch =
    Pin<Box<dyn Future<Output = Result<Rc<dyn Dispatch>, Box<dyn Error + Send + Sync>>>>>;

/// What a shard needs to serve, until its dispatcher is made.
struct Starting {
    dispatch: Task<<MadeDispatch as Future>::Output>,
    listeners: Vec<Arc<rustix::fd::OwnedFd>>,
    ready: Box<dyn FnOnce(KnownMethods)>,
}

/// The methods of a dispatcher, for logs.
type KnownMethods = Vec<(MethodId, MethodName)>;

/// Nobody can call before the shard listens.
pub(crate) struct NotYet;

impl Dispatch for NotYet {
    fn dispatch(
        &self,
        _: &mut Incoming<'_>,
        _: &mut std::task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        reply.refuse(&Status::unavailable("the server is starting"));
        Dispatched::Replied
    }
}

/// Everything one shard needs to run.
pub(crate) struct ShardParts {
    pub(crate) config: DriverConfig,
    pub(crate) spin: Spin,
    pub(crate) hosting: Hosting,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) listeners: Vec<Arc<rustix::fd::OwnedFd>>,
    /// How it evens its load with that of the others, whose counters these are, in order. No shard of a server has none.
    pub(crate) even: Option<(Balance, Arc<[Arc<ShardCounters>]>)>,
    /// The server's threads for offloaded work; a shard without a server makes its own.
    pub(crate) workers: Option<Arc<Pool>>,
}

/// The driver with what it needs to sleep.
pub(crate) struct ShardTask {
    driver: Driver<Epoll>,
    /// `None` on a plain host.
    reactor: Option<Reactor>,
    local: Rc<ShardContext>,
    mesh: Rc<Mesh>,
    counters: Arc<ShardCounters>,
    idle: IdlePolicy,
    /// `None` once it serves.
    starting: Option<Starting>,
}

impl ShardTask {
    /// To be called on the shard's host, within its context.
    fn new(
        parts: ShardParts,
        host: Got,
        channels: Rc<ChannelContext>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<Self> {
        let (local, mesh) = (Rc::clone(&channels.shard), Rc::clone(&channels.mesh));
        let io = Epoll::new(&parts.doorbell)?;
        let reactor = match host {
            Got::Glommio => {
                Some(Reactor::new(io.descriptor()?, Rc::clone(&local), Instant::now())?)
            }
            Got::Plain => None,
        };
        let counters = Arc::clone(&parts.counters);
        let mut driver =
            Driver::new(io, parts.config, channels, parts.listeners, dispatch, parts.counters)?;
        if let Some((setting, members)) = parts.even {
            driver.even(setting, members);
        }
        let idle = IdlePolicy::new(parts.spin);
        Ok(Self { driver, reactor, local, mesh, counters, idle, starting: None })
    }

    /// Turns until the shard is drained or `until` returns true, and then drops its tasks.
    pub(crate) async fn run(mut self, until: impl Fn() -> bool) -> io::Result<()> {
        let outcome = self.turns(until).await;
        self.mesh.leave();
        self.local.drop_tasks();
        // Dropping them may have left frames to send to the server, such as cancels.
        self.driver.settle_last();
        self.driver.end_channels();
        outcome
    }

    async fn turns(&mut self, until: impl Fn() -> bool) -> io::Result<()> {
        let mut wait = Duration::ZERO;
        let mut spinning = false;
        let mut parcels = 0;
        // When a look began after which the shard looked again at once, having found nothing.
        let mut looked: Option<Instant> = None;
        loop {
            let hot = if spinning { self.look_closely(&mut parcels) } else { None };
            let worked = match hot {
                Some(received) => received,
                None => self.turn(wait)?,
            };
            self.counters.turns.add(1);
            let now = self.driver.now();
            self.local.sleepers.wake_due(now);
            self.counters.current.leave();
            let took = self.mesh.has_news() && self.mesh.take();
            if took {
                // Calls that came that way are not the tasks that follow.
                self.counters.current.leave();
            }
            let ran = self.local.run_tasks() || took;
            // Before the sockets: another core works while this one writes.
            self.mesh.settle();
            if self.starting.as_ref().is_some_and(|starting| starting.dispatch.is_finished()) {
                self.begin_serving()?;
            }
            self.driver.settle();
            self.mesh.settle();
            if self.is_over() || until() {
                return Ok(());
            }
            if let Some(reactor) = &mut self.reactor {
                reactor.take_turn(now, spinning).await;
            }
            wait = Duration::ZERO;
            // Tasks and sleeps that have just run may have left work, too.
            let news =
                self.local.wakes.has_news() || self.mesh.has_news() || self.mesh.has_unsent();
            if worked || ran || news || self.driver.has_queue() {
                // The next turn may as well wait for readiness as poll for it: one system call
                // instead of two.
                if self.idle.worked(now) == Rest::Doze && self.may_doze(now) {
                    wait = self.doze(now);
                }
                spinning = self.idle.spins();
                looked = None;
                continue;
            }
            if let Some(looked) = looked {
                self.driver.note_spun(now.saturating_duration_since(looked));
            }
            let rest = self.idle.idle(now, self.may_doze(now));
            spinning = rest == Rest::Spin;
            looked = spinning.then_some(now);
            match rest {
                Rest::Spin => self.mesh.look(),
                Rest::Doze => wait = self.doze(now),
                Rest::Park => wait = self.park(now).await?,
            }
        }
    }

    /// A turn that may sleep.
    fn turn(&mut self, wait: Duration) -> io::Result<bool> {
        if wait.is_zero() {
            return self.driver.turn(wait);
        }
        let wait = self.mesh.sleep_for(wait);
        let worked = self.driver.turn(wait);
        self.mesh.awake();
        worked
    }

    /// For a shard that spins: what other shards left comes first, without a look at the sockets, unless that was so for
    /// some turns; then the busy connection. Returns `None` if it is time for a whole turn.
    fn look_closely(&mut self, parcels: &mut u32) -> Option<bool> {
        if *parcels < PARCEL_TURNS && self.mesh.has_news() {
            *parcels += 1;
            return Some(false);
        }
        *parcels = 0;
        self.driver.try_hot()
    }

    /// Whether the shard may end: it is drained, and no other shard of the server needs it any more.
    fn is_over(&self) -> bool {
        self.driver.is_drained()
            && (self.mesh.is_drained() || self.driver.is_past_drain(DRAIN_GRACE))
    }

    /// The dispatcher is made: the shard listens, or ends with the reason why it cannot.
    #[cold]
    fn begin_serving(&mut self) -> io::Result<()> {
        let Some(Starting { dispatch, listeners, ready }) = self.starting.take() else {
            return Ok(());
        };
        let made = match catch_unwind(AssertUnwindSafe(|| dispatch.take())) {
            Ok(Some(made)) => made,
            Ok(None) => Err("its services were not made".into()),
            Err(panic) => {
                let text = panic_text(&*panic);
                Err(format!("what makes its services panicked: {text}").into())
            }
        };
        let dispatch = made.map_err(io::Error::other)?;
        let methods = dispatch.methods();
        self.driver.serve(listeners, dispatch)?;
        ready(methods);
        Ok(())
    }

    /// Whether the thread may sleep where glommio cannot wake it: not while somebody has just begun
    /// to wait for something that glommio would bring within microseconds, a file for example.
    fn may_doze(&self, now: Instant) -> bool {
        self.reactor.is_none() || !self.local.has_foreign_wait(now, PROMPT_FOR)
    }

    /// How long the next turn may wait in the kernel.
    fn doze(&self, now: Instant) -> Duration {
        let most = if self.reactor.is_some() { runtime::REACTOR_EVERY } else { SLEEP_MAX };
        let timer = self.driver.next_timer().map(|at| at.saturating_duration_since(now));
        let most = if self.driver.is_drained() { most.min(DRAIN_GRACE) } else { most };
        timer.map_or(most, |timer| timer.min(most))
    }

    /// Sleeps in glommio; on a plain host the next turn does that. Returns how long it may wait.
    async fn park(&mut self, now: Instant) -> io::Result<Duration> {
        self.counters.parks.add(1);
        self.driver.look_before_sleep();
        let next = self.driver.next_timer();
        let Some(reactor) = &mut self.reactor else { return Ok(self.doze(now)) };
        let most = if self.driver.is_drained() { DRAIN_GRACE } else { Duration::MAX };
        let most = self.mesh.sleep_for(most);
        if most.is_zero() {
            return Ok(Duration::ZERO);
        }
        let next = next.into_iter().chain(now.checked_add(most)).min();
        self.counters.parked.set(1);
        self.local.set_now(None);
        let outcome = reactor.park(next).await;
        self.mesh.awake();
        self.counters.parked.set(0);
        self.idle.parked();
        outcome.map(|()| Duration::ZERO)
    }
}

/// How many turns in a row a spinning shard takes parcels without a look at its sockets and at the clock.
const PARCEL_TURNS: u32 = 4;

/// A shard that is drained waits for the others for this long after the deadline of the drain.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// The longest sleep of a plain host, which its timers usually end much sooner.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// For this long after somebody began to wait for something of glommio's, the shard sleeps only in
/// glommio. Later it may doze as well, and glommio's news waits for up to [`runtime::REACTOR_EVERY`].
const PROMPT_FOR: Duration = Duration::from_millis(5);

/// Tells the other shards that this one is gone, also if its thread panics.
struct LeavesMesh(Rc<Mesh>);

impl Drop for LeavesMesh {
    fn drop(&mut self) {
        self.0.say_gone();
    }
}

/// Runs a server's shard on this thread until it is drained. It listens when `dispatch` is made, and then
/// calls `ready`.
pub(crate) fn run_server(
    mut parts: ShardParts,
    mesh: MeshEnd,
    dispatch: MadeDispatch,
    ready: impl FnOnce(KnownMethods) + 'static,
) -> io::Result<()> {
    let cpu = parts.config.info.cpu;
    let context = ChannelContext::in_mesh(ShardContext::new(Arc::clone(&parts.doorbell)), mesh);
    let (entered, leaving) = (context.enter(), Rc::clone(&context.mesh));
    let _member = LeavesMesh(Rc::clone(&context.mesh));
    if let Some(workers) = parts.workers.take() {
        context.shard.set_workers(workers);
    }
    // Before the host pins the thread.
    let unpinned = Unpinned::remember();
    let outcome = hosting::run(parts.hosting, cpu, async move |host| {
        let listeners = core::mem::take(&mut parts.listeners);
        let mut task = ShardTask::new(parts, host, Rc::clone(&context), Rc::new(NotYet))?;
        let dispatch = context.shard.spawn(dispatch);
        task.starting = Some(Starting { dispatch, listeners, ready: Box::new(ready) });
        host.run_driver(task.run(|| false)).await
    });
    leaving.values.clear();
    drop((entered, unpinned));
    outcome
}

/// Runs `main` on this thread together with a driver, until `main` ends.
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
    let context = ChannelContext::new(ShardContext::new(Arc::clone(&parts.doorbell)));
    let (entered, leaving) = (context.enter(), Rc::clone(&context.mesh));
    // Before the host pins the thread.
    let unpinned = Unpinned::remember();
    let outcome = hosting::run(parts.hosting, cpu, async move |host| {
        let task = ShardTask::new(parts, host, Rc::clone(&context), dispatch())?;
        let main = context.shard.spawn(main());
        host.run_driver(async move {
            task.run(|| main.is_finished()).await?;
            main.take().ok_or_else(|| io::Error::other("the driver ended before its work did"))
        })
        .await
    });
    leaving.values.clear();
    drop((entered, unpinned));
    outcome
}
