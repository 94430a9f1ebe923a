//! A running server: its shards' threads, and the supervisor that watches them.
//!
//! ```text
//!  main thread          supervisor thread                       shard threads
//!  ───────────          ─────────────────                       ─────────────
//!  listeners, checks ─▶ starts ────────────────────────────────▶ pin, executor, driver
//!  wait()          ◀─── hears: a shard ended, or was asked to stop; looks every second whether
//!                       each shard that is awake still turns
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corewire_codec::{Limits, OutOfRange, Range};
use corewire_proto::{ServerConfig, ShardId, ShardInfo, Timeouts};

use crate::balance::Balance;
use crate::budgets::Budgets;
use crate::calls::dispatch::Dispatch;
use crate::classes::ClassShares;
use crate::driver::executor::{MadeDispatch, ShardParts, run_with_driver};
use crate::driver::hosting::Hosting;
use crate::error::StartError;
use crate::host::choice::{self, Host};
use crate::host::events::{Event, ShardLostHook};
use crate::host::placement::{Placement, allowed_cpus};
use crate::host::preflight;
use crate::host::running::{Running, RunningShard, Supervising};
use crate::host::signals;
use crate::host::steering::Steerer;
use crate::host::supervisor::{Supervision, Supervisor, Watched};
use crate::identity::{DriverConfig, Spin};
use crate::net::doorbell::Doorbell;
use crate::net::listener::{self, SharedListener, SocketFile};
use crate::net::steering::Steering;
use crate::shard::affinity::{THREADS_MIN, offload_cpus};
use crate::shard::counters::ShardCounters;
use crate::shard::helpers::{Noted, helper_cpus, keep_to};
use crate::shard::mesh::{self, MeshEnd};
use crate::workers::pool::{Pool, PoolPlan};
use corewire_client::address::Address;
use corewire_client::dial;
use corewire_client::resolver::Resolver;
use corewire_placement::{Choice, CpuSet};
use sync_wrapper::SyncWrapper;

/// Makes a shard's dispatcher, on that shard's thread, before it takes connections.
pub type MakeDispatch = Arc<dyn Fn(ShardInfo) -> MadeDispatch + Send + Sync>;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DRAIN_WITHIN: Range<Duration> = Range::new(Duration::ZERO, DAY);
const LAME_DUCK: Range<Duration> = Range::new(Duration::ZERO, Duration::from_secs(3600));
const WARN_HELD_AFTER: Range<Duration> = Range::new(Duration::from_millis(1), DAY).or_never();
const STALL_AFTER: Range<Duration> = Range::new(Duration::from_millis(100), DAY).or_never();

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where to listen: every shard on every address. At least one, at most 1,024.
    pub addresses: Vec<Address>,
    /// Where the shards run.
    pub placement: Placement,
    /// How the kernel spreads connections over the shards. Default [`Steering::Auto`].
    pub steering: Steering,
    /// Whether an idle shard looks for work before it sleeps.
    pub spin: Spin,
    /// What owns the shards' threads. Default [`Host::Auto`].
    pub host: Host,
    /// Whether connections change shards so that all have about the same load. Default [`Balance::Off`].
    pub balance: Balance,
    /// Connections that may wait to be accepted, per shard; the kernel caps it at
    /// `net.core.somaxconn`. Default 4,096; 1 to 65,535.
    pub backlog: u16,
    /// What the server accepts from each connection.
    pub limits: Limits,
    /// How long a peer may be silent.
    pub timeouts: Timeouts,
    /// How much one connection may do and hold.
    pub budgets: Budgets,
    /// One-way calls of a connection that may pend at once; one more is dropped. Default 1,024, at most
    /// 32,768; 0 means that none are taken.
    pub one_way_pending_max: u16,
    /// How long a shard that is awake may go without a turn before its listener is taken out of
    /// service. Default 5 s, 100 ms to 24 h, or [`Duration::MAX`] for never.
    pub stall_after: Duration,
    /// How long a handler or a task may hold its shard before a warning names it, and `ShardCounters::holds` counts it.
    /// Default 25 ms, 1 ms to 24 h, or [`Duration::MAX`] for never.
    pub warn_held_after: Duration,
    /// How the classes of its methods share the time of each shard.
    pub class_shares: ClassShares,
    /// One of how many polls of handlers is measured, to tell what each method costs; 0 is none. Default 0, at most 1,024.
    pub method_costs: u16,
    /// The most threads for offloaded work, for all shards together. Default `None`: as many as the CPUs that the
    /// shards leave free, and at least 2. 1 to 1,024.
    pub offload_threads: Option<u16>,
    /// How much offloaded work may wait for a thread; more is refused. Default 1,024, 1 to 65,536.
    pub offload_queue: u32,
    /// How long a drain may take. Default 25 s, 0 to 24 h. Kubernetes and others kill a process 30 s after
    /// they asked it to end: a drain that takes as long would be cut off, and nothing logged.
    pub drain_within: Duration,
    /// How long the server goes on as before when it is asked to stop, but not ready any more, so that
    /// whoever sends it clients notices. Default 0, at most 1 h.
    pub lame_duck: Duration,
    /// Called when a shard is lost.
    pub on_shard_lost: Option<ShardLostHook>,
    /// Whether SIGTERM and SIGINT drain, from before the first connection is accepted until the server
    /// has ended; a second signal ends the process at once. Default no: signals belong to the process,
    /// and a server that did not ask for them leaves them alone.
    pub drain_on_signal: bool,
}

impl EngineConfig {
    /// The defaults, for these addresses.
    #[must_use]
    pub fn new(addresses: Vec<Address>) -> Self {
        Self {
            addresses,
            placement: Placement::default(),
            steering: Steering::default(),
            spin: Spin::default(),
            host: Host::default(),
            balance: Balance::default(),
            backlog: 4096,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            budgets: Budgets::default(),
            one_way_pending_max: 1024,
            stall_after: Duration::from_secs(5),
            warn_held_after: Duration::from_millis(25),
            class_shares: ClassShares::default(),
            method_costs: 0,
            offload_threads: None,
            offload_queue: 1024,
            drain_within: Duration::from_secs(25),
            lame_duck: Duration::ZERO,
            on_shard_lost: None,
            drain_on_signal: false,
        }
    }

    /// Checks the range of each setting.
    ///
    /// # Errors
    ///
    /// [`StartError::Config`] with the first setting that is out of its range, and what is allowed.
    pub fn check(&self) -> Result<(), StartError> {
        self.in_range().map_err(|error| StartError::Config(error.to_string()))
    }

    fn in_range(&self) -> Result<(), OutOfRange> {
        Range::new(1, 1024)
            .check("the number of addresses, such as 127.0.0.1:7000,", self.addresses.len())?;
        Range::new(1, 65_535).check("backlog", self.backlog.into())?;
        self.spin.check()?;
        self.timeouts.check()?;
        self.budgets.check(self.limits.frame_bytes.get() as usize)?;
        let pending = self.one_way_pending_max.into();
        Range::new(0, 32_768).check("one_way_pending_max", pending)?;
        DRAIN_WITHIN.check("drain_within", self.drain_within)?;
        LAME_DUCK.check("lame_duck", self.lame_duck)?;
        WARN_HELD_AFTER.check("warn_held_after", self.warn_held_after)?;
        self.class_shares.check()?;
        Range::new(0, 1024).check("method_costs", self.method_costs.into())?;
        if let Some(threads) = self.offload_threads {
            Range::new(1, 1024).check("offload_threads", threads.into())?;
        }
        Range::new(1, 65_536).check("offload_queue", self.offload_queue as usize)?;
        STALL_AFTER.check("stall_after", self.stall_after)
    }
}

/// Starts a server: checks the machine, makes the listeners, starts a thread per shard, and returns
/// when every shard turns.
///
/// # Errors
///
/// What is wrong, with how to fix it. Nothing is left running.
pub fn start(config: &EngineConfig, make: &MakeDispatch) -> Result<Running, StartError> {
    config.check()?;
    let placed = config.placement.choose()?;
    let as_cpu = |cpu: u32| usize::try_from(cpu).ok();
    let cpus: Vec<Option<usize>> = placed.shards.iter().map(|cpu| cpu.and_then(as_cpu)).collect();
    let hosting = choice::choose(config.host, cpus.len())?;
    let Opened { addresses, listeners, files } = open(config, cpus.len())?;
    // Caught before anybody is served, so that no call is lost to a signal that came too early. Most
    // things that keep a server from starting have been checked by now.
    let caught = config.drain_on_signal.then(signals::Caught::new).transpose();
    let caught = caught.map_err(|error| StartError::Io { what: "catch signals", error })?;
    let (events, inbox) = flume::unbounded();
    // Fewer than 65,536, as the placement checked.
    let count = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
    let backlog = i32::from(config.backlog);
    let settings = Supervision {
        stall_after: config.stall_after,
        backlog,
        lame_duck: config.lame_duck,
        on_shard_lost: config.on_shard_lost.clone(),
    };
    let groups = listeners.iter().map(|shard| shard.own.clone()).collect();
    let kernel = preflight::kernel();
    let steerer = Steerer::start(config.steering, kernel, &cpus, placed.is_aligned, groups);
    let arrivals = steerer.arrivals();
    let noted = note_shards(&placed)?;
    let workers = Pool::new(pool_plan(config, &cpus));
    let mut supervisor =
        Supervisor::new(inbox, settings, files, Arc::clone(&workers), steerer, noted);
    let mut shards = Vec::with_capacity(cpus.len());
    let salt = process_salt();
    let infos = (0..count).zip(cpus);
    let infos = infos.map(|(id, cpu)| ShardInfo { id: ShardId(id), count, cpu });
    let members = infos.map(|info| Ok((info, Arc::new(Doorbell::new()?))));
    let members: Vec<_> = members
        .collect::<std::io::Result<_>>()
        .map_err(|error| StartError::Io { what: "make the shards' eventfds", error })?;
    let ends = mesh::make(&members);
    let counters: Arc<[Arc<ShardCounters>]> = members
        .iter()
        .map(|_| {
            let arrivals = arrivals.clone();
            Arc::new(ShardCounters { arrivals, ..ShardCounters::default() })
        })
        .collect();
    let mut places = members.into_iter().zip(ends).zip(listeners);
    while let Some((((info, doorbell), end), listeners)) = places.next() {
        let counters = Arc::clone(&counters);
        let place = Place { info, doorbell, mesh: end, listeners, counters };
        let watched = start_shard(config, hosting, place, (salt, &workers), make, &events);
        match watched {
            Ok(watched) => {
                shards.push(RunningShard { info, counters: watched.counters() });
                supervisor.watch(watched);
            }
            Err(error) => {
                // Those that have started wait for nobody who never will.
                drop(places);
                supervisor.end_all();
                return Err(error);
            }
        }
    }
    if let Err(error) = supervisor.wait_until_ready() {
        supervisor.end_all();
        return Err(error);
    }
    let drain_within = config.drain_within;
    let signals = caught.map(|caught| caught.drain(events.clone(), drain_within)).transpose();
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            supervisor.end_all();
            return Err(StartError::Io { what: "start the thread for signals", error });
        }
    };
    let shown = addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(addresses = shown, shards = count, "serving");
    let (sender, ended) = oneshot::async_channel();
    let (readiness, evenness) = (supervisor.readiness(), supervisor.evenness());
    let cpus = helper_cpus();
    let run = move || {
        keep_to(cpus.as_ref());
        // Nobody may wait for it.
        let _ = sender.send(supervisor.run());
    };
    let thread = thread::Builder::new()
        .name("corewire-watch".into())
        .spawn(run)
        .map_err(|error| StartError::Io { what: "start the supervisor's thread", error })?;
    let ended = SyncWrapper::new(ended);
    let supervisor = Some(Supervising { thread, ended, signals });
    let offload = workers.counts();
    Ok(Running {
        addresses,
        shards,
        events,
        supervisor,
        readiness,
        evenness,
        drain_within,
        offload,
    })
}

/// The threads for offloaded work beside shards on these CPUs.
fn pool_plan(config: &EngineConfig, cpus: &[Option<usize>]) -> PoolPlan {
    let taken = cpus.iter().copied().flatten().collect::<Vec<_>>();
    let (beside, left) = offload_cpus(&taken);
    // Shards that are not pinned are somewhere, too.
    let left = left.saturating_sub(cpus.len() - taken.len());
    let threads = config.offload_threads.map_or_else(|| left.max(THREADS_MIN), usize::from);
    let plan = PoolPlan::new(threads, config.offload_queue as usize, beside);
    // Beside a shard that never sleeps it would never run.
    PoolPlan { gives_way: left == 0 && config.spin != Spin::Always, ..plan }
}

/// What a server listens on.
struct Opened {
    /// With the ports that the system chose.
    addresses: Vec<Address>,
    /// By shard.
    listeners: Vec<Listeners>,
    files: Vec<SocketFile>,
}

/// Listens on every address, for each shard.
fn open(config: &EngineConfig, shards: usize) -> Result<Opened, StartError> {
    let mut addresses = Vec::with_capacity(config.addresses.len());
    let mut listeners = vec![Listeners::default(); shards];
    let mut files = Vec::new();
    for address in &config.addresses {
        let backlog = i32::from(config.backlog);
        match address {
            Address::Tcp(address) => {
                let (address, group) = listener::listen(*address, shards, backlog)?;
                addresses.push(Address::Tcp(address));
                listeners.iter_mut().zip(group).for_each(|(shard, it)| shard.own.push(it));
            }
            Address::Name { host, port } => {
                let found = dial::look_up(&Resolver::system(), host, *port);
                let cannot = |error| StartError::Listen { address: address.clone(), error };
                let first = found.map_err(cannot)?.into_iter().next();
                let Some(found) = first else { continue };
                let (bound, group) = listener::listen(found, shards, backlog)?;
                addresses.push(Address::Tcp(bound));
                listeners.iter_mut().zip(group).for_each(|(shard, it)| shard.own.push(it));
            }
            Address::Unix(path) => {
                let (listener, file) = listener::listen_unix(path, backlog)?;
                addresses.push(address.clone());
                files.push(file);
                listeners.iter_mut().for_each(|shard| shard.shared.push(Arc::clone(&listener)));
            }
            _ => {
                let error = std::io::ErrorKind::Unsupported.into();
                return Err(StartError::Listen { address: address.clone(), error });
            }
        }
    }
    Ok(Opened { addresses, listeners, files })
}

/// Lets helper threads know where the shards are.
fn note_shards(placed: &Choice) -> Result<Noted, StartError> {
    let numbers = |cpus: &CpuSet| cpus.iter().filter_map(|cpu| usize::try_from(cpu).ok()).collect();
    let shards: Vec<usize> = numbers(&placed.shard_cpus());
    let avoided = if placed.helpers.is_empty() {
        shards.clone()
    } else {
        allowed_cpus()?
            .into_iter()
            .filter(|&cpu| u32::try_from(cpu).is_ok_and(|cpu| !placed.helpers.contains(cpu)))
            .collect()
    };
    Ok(Noted::new(shards, avoided))
}

/// Where one shard accepts.
#[derive(Clone, Debug, Default)]
struct Listeners {
    /// Its members of the groups; the supervisor takes them out of service when the shard stalls.
    own: Vec<SharedListener>,
    /// Unix sockets, which all shards watch: any shard that is awake takes the next client.
    shared: Vec<SharedListener>,
}

/// What is a shard's own from the start.
struct Place {
    info: ShardInfo,
    doorbell: Arc<Doorbell>,
    mesh: MeshEnd,
    listeners: Listeners,
    /// Those of all shards, in order.
    counters: Arc<[Arc<ShardCounters>]>,
}

/// Starts the thread of one shard.
fn start_shard(
    config: &EngineConfig,
    hosting: Hosting,
    place: Place,
    (salt, workers): (u64, &Arc<Pool>),
    make: &MakeDispatch,
    events: &flume::Sender<Event>,
) -> Result<Watched, StartError> {
    let Place { info, doorbell, mesh, listeners, counters: members } = place;
    let counters = members.get(usize::from(info.id.0)).map(Arc::clone).unwrap_or_default();
    let server = ServerConfig {
        limits: config.limits,
        timeouts: config.timeouts,
        shard: info.id.0,
        shards: info.count,
        streams: true,
        one_way_pending_max: config.one_way_pending_max,
        ..ServerConfig::default()
    };
    let connection_ids = (salt.wrapping_add(u64::from(info.id.0)), u64::from(info.count));
    let parts = ShardParts {
        config: DriverConfig {
            info,
            server,
            budgets: config.budgets,
            connection_ids,
            warn_held_after: config.warn_held_after,
            class_shares: config.class_shares,
            method_costs: config.method_costs,
        },
        spin: config.spin,
        hosting,
        doorbell: Arc::clone(&doorbell),
        counters: Arc::clone(&counters),
        listeners: listeners.own.iter().chain(&listeners.shared).cloned().collect(),
        even: Some((config.balance, members)),
        workers: Some(Arc::clone(workers)),
    };
    let thread = spawn_shard(parts, mesh, Arc::clone(make), events.clone())?;
    Ok(Watched::new(info, doorbell, counters, listeners.own, thread))
}

/// A random start for connection ids, so that two runs of a server do not use the same ones.
fn process_salt() -> u64 {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
    random & 0x0000_ffff_ffff_0000
}

/// Reports how the thread ended, even if it panicked.
struct ExitGuard {
    shard: ShardId,
    events: flume::Sender<Event>,
    outcome: Option<std::io::Result<()>>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let reason = match self.outcome.take() {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error),
            None => Some(std::io::Error::other("its thread panicked")),
        };
        let _ = self.events.send(Event::Ended { shard: self.shard, reason });
    }
}

fn spawn_shard(
    parts: ShardParts,
    mesh: MeshEnd,
    make: MakeDispatch,
    events: flume::Sender<Event>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let info = parts.config.info;
    let name = format!("corewire-{}", info.id);
    let body = move || {
        let mut exit = ExitGuard { shard: info.id, events, outcome: None };
        let events = exit.events.clone();
        // In a task, so that it may await, and a panic is told like an error.
        let dispatch = Box::pin(async move { make(info).await });
        exit.outcome = Some(run_shard(parts, mesh, dispatch, events));
    };
    thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| StartError::Io { what: "start a shard's thread", error })
}

fn run_shard(
    parts: ShardParts,
    mesh: MeshEnd,
    dispatch: MadeDispatch,
    events: flume::Sender<Event>,
) -> std::io::Result<()> {
    let shard = parts.config.info.id;
    crate::driver::executor::run_server(parts, mesh, dispatch, move |methods| {
        let _ = events.send(Event::Ready { shard, methods });
    })
}

/// The settings of a shard for [`run_on_shard`].
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{ClientShard, Spin};
/// use std::time::Duration;
///
/// let anywhere = ClientShard::default(); // not pinned, no spinning
/// let spin = Spin::For(Duration::from_micros(50));
/// let pinned = ClientShard { cpu: Some(2), spin, ..ClientShard::default() };
/// # let _ = (anywhere, pinned);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ClientShard {
    /// The CPU to pin the thread to.
    #[doc(alias("affinity", "pinning"))]
    pub cpu: Option<usize>,
    /// Whether the shard looks for work before it sleeps.
    pub spin: Spin,
    /// What owns the thread while the shard runs.
    pub host: Host,
}

/// Runs a future on this thread as a shard of its own without a listener, so that it can use
/// [`Channel`](crate::Channel)s. Returns when the future ends; tasks that it left are dropped.
///
/// ```
/// # mod corewire {
/// #     pub use corewire_engine::*;
/// #     pub use corewire_engine::run_on_shard as block_on_shard;
/// # }
/// use corewire::{ClientShard, block_on_shard, sleep};
/// use std::time::Duration;
///
/// let value = block_on_shard(ClientShard::default(), || async {
///     sleep(Duration::from_millis(1)).await;
///     42
/// })?;
/// assert_eq!(value, 42);
/// # Ok::<(), corewire::StartError>(())
/// ```
///
/// # Errors
///
/// Why the shard cannot start, with how to fix it. On a thread that runs a shard already, as in a
/// handler, it is [`StartError::OnShard`], and that shard goes on.
pub fn run_on_shard<F, T>(shard: ClientShard, main: impl FnOnce() -> F) -> Result<T, StartError>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    if corewire_client::wait::is_shard() {
        return Err(StartError::OnShard);
    }
    shard.spin.check().map_err(|error| StartError::Config(error.to_string()))?;
    if let Some(cpu) = shard.cpu {
        Placement::Cpus(vec![cpu]).choose()?;
    }
    let hosting = choice::choose(shard.host, 1)?;
    let failed = |error| StartError::Io { what: "run a shard", error };
    let info = ShardInfo { id: ShardId(0), count: 1, cpu: shard.cpu };
    let parts = ShardParts {
        config: DriverConfig {
            info,
            server: ServerConfig::default(),
            budgets: Budgets::default(),
            connection_ids: (0, 1),
            warn_held_after: Duration::from_millis(25),
            class_shares: ClassShares::default(),
            method_costs: 0,
        },
        spin: shard.spin,
        hosting,
        doorbell: Arc::new(Doorbell::new().map_err(failed)?),
        counters: Arc::new(ShardCounters::default()),
        listeners: Vec::new(),
        even: None,
        workers: None,
    };
    run_with_driver(parts, || Rc::new(NoService), main).map_err(failed)
}

/// A client's shard serves nothing.
struct NoService;

impl Dispatch for NoService {
    fn dispatch(
        &self,
        _: &mut crate::calls::dispatch::Incoming<'_>,
        _: &mut std::task::Context<'_>,
        reply: &mut crate::calls::dispatch::ReplySlot<'_>,
    ) -> crate::calls::dispatch::Dispatched {
        reply.refuse(&corewire_codec::Status::unimplemented("no service is here"));
        crate::calls::dispatch::Dispatched::Replied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::events::Ended;
    use crate::host::supervisor::GRACE;

    /// Kubernetes and others kill a process 30 s after they asked it to end.
    #[test]
    fn a_drain_by_default_ends_before_it_would_be_killed() {
        let config = EngineConfig::new(Vec::new());
        assert_eq!(
            (config.drain_within, config.lame_duck),
            (Duration::from_secs(25), Duration::ZERO)
        );
        assert!(config.drain_within + GRACE < Duration::from_secs(30));
    }

    #[test]
    fn a_shard_whose_thread_panics_is_told_as_lost() {
        let (sender, told) = flume::unbounded();
        let hook = ShardLostHook::new(move |lost| sender.send(lost.clone()).expect("it is heard"));
        let settings = Supervision {
            stall_after: Duration::from_secs(5),
            backlog: 1,
            lame_duck: Duration::ZERO,
            on_shard_lost: Some(hook),
        };
        let (events, inbox) = flume::unbounded();
        let workers = Pool::new(PoolPlan::new(1, 1, Vec::new()));
        let steerer = Steerer::start(Steering::Auto, None, &[None], false, vec![Vec::new()]);
        let noted = Noted::new(Vec::new(), Vec::new());
        let mut supervisor = Supervisor::new(inbox, settings, Vec::new(), workers, steerer, noted);
        let info = ShardInfo { id: ShardId(0), count: 1, cpu: None };
        let thread = thread::spawn(move || {
            let _exit = ExitGuard { shard: info.id, events, outcome: None };
            panic!("as the test wants");
        });
        let doorbell = Arc::new(Doorbell::new().expect("there are descriptors"));
        supervisor.watch(Watched::new(info, doorbell, Arc::default(), Vec::new(), thread));
        assert_eq!(supervisor.run(), Ended { shards_lost: 1 });
        let lost = told.recv().expect("the hook was called");
        assert_eq!((lost.shard.id, lost.reason.as_str()), (ShardId(0), "its thread panicked"));
        assert!(told.is_empty(), "it is told once");
    }
}
