//! The server as its author builds it.
//!
//! A call's way: `router.rs` finds the method, `slot.rs` has room for its future, the generated code reads the
//! arguments (`incoming.rs`), and the outcome becomes a reply (`answer.rs`). A blocking method's handler runs on
//! another thread in between (`blocking.rs`). `class.rs` is for methods that are of another class than the usual one, `key.rs` for
//! those with a key.

pub(crate) mod answer;
pub(crate) mod blocking;
pub(crate) mod class;
pub(crate) mod incoming;
pub(crate) mod key;
pub(crate) mod router;
pub(crate) mod service;
pub(crate) mod slot;

use corewire_client::IntoAddress;
use corewire_codec::Limits;
use corewire_engine::{
    Balance, Budgets, ClassShares, Dispatch, Ended, EngineConfig, Host, MakeDispatch, Placement,
    Running, ShardLost, ShardLostHook, Sharded, Spin, StartError, Steering,
};
use corewire_proto::ShardInfo;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::Timeouts;
use crate::layer::{AsyncLayer, Layer};
use crate::server::router::Router;
use crate::server::service::Service;
use crate::server::slot::Methods;

/// Makes a service and returns what adds its methods, or why there is none.
type AddService = Arc<dyn Fn(ShardInfo) -> Making + Send + Sync>;
type Making = Pin<Box<dyn Future<Output = Result<AddMethods, FactoryError>>>>;
type AddMethods = Box<dyn FnOnce(&mut Methods)>;
type FactoryError = Box<dyn Error + Send + Sync>;
type MakeValue = Arc<dyn Fn() + Send + Sync>;
type AddLayer = Arc<dyn Fn(ShardInfo, &mut Methods) + Send + Sync>;

fn add_methods<S: Service>(service: S) -> AddMethods {
    Box::new(move |methods| service.register(methods))
}

/// A server that is not running yet. See [`Server::builder`].
///
/// ```
/// use corewire::{Placement, Server, echo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .address("127.0.0.1:0")
///     .placement(Placement::Unpinned(1))
///     .service(|_shard| echo::EchoServer::new(echo::Echoer))
///     .start()?;
/// println!("listening on {}", server.addresses()[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Begins a server: one shard per allowed CPU, no spinning, recommended limits.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            config: EngineConfig::new(Vec::new()),
            services: Vec::new(),
            values: Vec::new(),
            layers: Vec::new(),
            error: None,
        }
    }
}

/// Collects what a server is made of. Each setting's default, range and cost is with the type it
/// takes, or stated here.
///
/// ```
/// use corewire::layer::TimeLimit;
/// use corewire::{Placement, Server, Spin, echo};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder()
///     .address("127.0.0.1:0") // the kernel chooses the port
///     .placement(Placement::Unpinned(1))
///     .spin(Spin::For(Duration::from_micros(50)))
///     .layer(|_shard| TimeLimit::at_most(Duration::from_secs(30)))
///     .service(|_shard| echo::EchoServer::new(echo::Echoer))
///     .drain_within(Duration::from_secs(10))
///     .start()?;
/// println!("listening on {}", server.addresses()[0]);
///
/// server.stop();
/// assert_eq!(server.wait()?.shards_lost, 0);
/// # Ok(())
/// # }
/// ```
pub struct ServerBuilder {
    config: EngineConfig,
    services: Vec<AddService>,
    /// What makes each shard's values, before its services.
    values: Vec<MakeValue>,
    /// From the outermost inwards.
    layers: Vec<AddLayer>,
    /// The first address that could not be read; reported when the server starts.
    error: Option<String>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("config", &self.config)
            .field("services", &self.services.len())
            .field("values", &self.values.len())
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Adds an address to listen on. Port 0 lets the system choose; see
    /// [`Running::addresses`] for what it chose.
    #[must_use]
    pub fn address(mut self, address: impl IntoAddress) -> Self {
        match address.into_address() {
            Ok(address) => self.config.addresses.push(address),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Where the shards run. Default [`Placement::AllCpus`]. A `placement.toml` is given as [`Placement::File`].
    #[doc(alias("affinity", "pinning", "workers", "threads"))]
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.config.placement = placement;
        self
    }

    /// How the kernel spreads connections over the shards. Default [`Steering::Auto`].
    #[doc(alias("SO_INCOMING_CPU", "reuseport"))]
    #[must_use]
    pub fn steering(mut self, steering: Steering) -> Self {
        self.config.steering = steering;
        self
    }

    /// Whether an idle shard looks for work before it sleeps. Default [`Spin::Off`].
    ///
    /// [`Spin::For`] with some 50 to 200 µs saves busy services their wake-ups and costs an idle one
    /// nothing; [`Spin::Always`] is for cores that run nothing else.
    #[must_use]
    pub fn spin(mut self, spin: Spin) -> Self {
        self.config.spin = spin;
        self
    }

    /// Whether connections change shards so that all have about the same load. Default [`Balance::Off`]. With
    /// [`Balance::Accept`] only new ones do, before anything is read from them; [`Balance::Move`] moves idle connections as well.
    #[doc(alias("rebalance", "migration", "load balancing"))]
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.config.balance = balance;
        self
    }

    /// What owns the shards' threads. Default [`Host::Auto`]: glommio where io_uring is there, otherwise plain
    /// threads that wait in epoll.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.config.host = host;
        self
    }

    /// Adds a service. `make` is called once on each shard's own thread, so what it returns needs
    /// neither `Send` nor locks; state that it makes belongs to that shard alone.
    #[must_use]
    pub fn service<S: Service>(
        mut self,
        make: impl Fn(ShardInfo) -> S + Send + Sync + 'static,
    ) -> Self {
        self.services.push(Arc::new(move |shard| {
            let service = make(shard);
            Box::pin(async move { Ok(add_methods(service)) })
        }));
        self
    }

    /// Adds a service whose making may fail and may await: it opens files, connects to other servers, reads
    /// what it serves. `make` is called once on each shard's own thread, and its future is a task of that
    /// shard, so its channels belong to the service's shard. The shard listens when all of its services are made; a
    /// server does not start if one fails, panics, or takes longer than 30 s, and says why.
    ///
    /// ```no_run
    /// # use corewire::{Server, echo};
    /// # fn main() -> Result<(), corewire::StartError> {
    /// Server::builder()
    ///     .address("127.0.0.1:7000")
    ///     .service_with(|_shard| async {
    ///         let behind = echo::EchoClient::connect("127.0.0.1:7001").await?;
    /// #       drop(behind);
    ///         Ok::<_, corewire::ConnectError>(echo::EchoServer::new(echo::Echoer))
    ///     })
    ///     .run()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn service_with<S, E, F>(
        mut self,
        make: impl Fn(ShardInfo) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: Service,
        E: Into<Box<dyn Error + Send + Sync>>,
        F: Future<Output = Result<S, E>> + 'static,
    {
        self.services.push(Arc::new(move |shard| {
            let service = make(shard);
            Box::pin(async move { service.await.map(add_methods).map_err(Into::into) })
        }));
        self
    }

    /// Makes the value of each shard before its services, and lets threads outside the server reach the values by this
    /// handle. See [`Sharded`].
    ///
    /// ```
    /// use corewire::{Placement, Server, ShardId, Sharded, echo};
    /// use std::cell::Cell;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hits = Sharded::new(|_shard| Cell::new(0));
    /// let server = Server::builder()
    ///     .address("127.0.0.1:0")
    ///     .placement(Placement::Unpinned(2))
    ///     .sharded(&hits)
    ///     .service(|_| echo::EchoServer::new(echo::Echoer))
    ///     .start()?;
    ///
    /// // This thread is no shard. In a handler, the same code sends to the other shards.
    /// let seen = futures_lite::future::block_on(hits.on(ShardId(1), |hits| hits.replace(1)));
    /// assert_eq!(seen, Ok(0));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("shared state"))]
    #[must_use]
    pub fn sharded<T: 'static>(mut self, sharded: &Sharded<T>) -> Self {
        let sharded = sharded.clone();
        self.values.push(Arc::new(move || drop(sharded.here())));
        self
    }

    /// Puts a layer around all methods of all services, including those added later. The layer that
    /// is added first is the outermost. `make` is called once on each shard's own thread, so a limit
    /// is one for each shard. See [`layer`](crate::layer).
    #[doc(alias("middleware", "interceptor"))]
    #[must_use]
    pub fn layer<L: Layer>(
        mut self,
        make: impl Fn(ShardInfo) -> L + Send + Sync + 'static,
    ) -> Self {
        self.layers.push(Arc::new(move |shard, methods| methods.wrap(0, make(shard))));
        self
    }

    /// Puts a layer that calls wait for around all methods of all services, in one order with those of
    /// [`layer`](Self::layer). `make` is called once on each shard's own thread. See [`AsyncLayer`].
    #[doc(alias("middleware", "interceptor", "authentication"))]
    #[must_use]
    pub fn async_layer<L: AsyncLayer>(
        mut self,
        make: impl Fn(ShardInfo) -> L + Send + Sync + 'static,
    ) -> Self {
        self.layers.push(Arc::new(move |shard, methods| methods.wrap_async(0, make(shard))));
        self
    }

    /// What the server accepts from each connection; announced to clients in the hello.
    #[doc(alias("max_frame_size", "max_message_size"))]
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// How long each kind of silence may last.
    #[doc(alias("keepalive", "ping", "idle"))]
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// How much one connection may do per turn, and hold.
    #[doc(alias("backpressure", "memory"))]
    #[must_use]
    pub fn budgets(mut self, budgets: Budgets) -> Self {
        self.config.budgets = budgets;
        self
    }

    /// Connections that may wait to be accepted, per shard. Default 4,096, 1 to 65,535; the kernel
    /// caps it at `net.core.somaxconn`.
    #[must_use]
    pub fn backlog(mut self, backlog: u16) -> Self {
        self.config.backlog = backlog;
        self
    }

    /// One-way calls of a connection that may be pending at once; one more is dropped and counted.
    /// Default 1,024, at most 32,768; 0 means that none are taken.
    #[must_use]
    pub fn one_way_pending_max(mut self, one_way_pending_max: u16) -> Self {
        self.config.one_way_pending_max = one_way_pending_max;
        self
    }

    /// How long a drain may take before what is left is dropped. Default 25 s, 0 to 24 h.
    ///
    /// Kubernetes kills a process 30 s after it asked it to end (`terminationGracePeriodSeconds`), and counts the
    /// [lame duck](Self::lame_duck) and what the process does after the drain as well: the sum of all should stay
    /// below that.
    #[doc(alias("graceful", "shutdown", "grace period"))]
    #[must_use]
    pub fn drain_within(mut self, drain_within: Duration) -> Self {
        self.config.drain_within = drain_within;
        self
    }

    /// How long the server goes on as before when it is asked to stop. It is only not ready any more, as
    /// [`Running::readiness`] and [`is_ready`](crate::is_ready) tell, so that a health check can keep new
    /// clients away before the listener closes and the drain begins. Default 0, at most 1 h.
    #[must_use]
    pub fn lame_duck(mut self, lame_duck: Duration) -> Self {
        self.config.lame_duck = lame_duck;
        self
    }

    /// Calls `tell` for each shard that is lost: its thread died, or did not end in time. The others go on.
    /// A program that cannot do with fewer shards ends itself here. It runs on the supervisor's thread,
    /// which watches over the others: return soon.
    #[must_use]
    pub fn on_shard_lost(mut self, tell: impl Fn(&ShardLost) + Send + Sync + 'static) -> Self {
        self.config.on_shard_lost = Some(ShardLostHook::new(tell));
        self
    }

    /// SIGTERM and SIGINT drain, from before the first connection is accepted until the server has ended;
    /// a second signal ends the process at once. [`run`](Self::run) does so in any case. A server that is
    /// started without this leaves signals alone, so that one ends the process and its calls.
    #[doc(alias("graceful", "shutdown", "SIGTERM", "ctrl_c"))]
    #[must_use]
    pub fn drain_on_signal(mut self) -> Self {
        self.config.drain_on_signal = true;
        self
    }

    /// How long an awake shard may go without a turn before its listener is taken out of service.
    /// Default 5 s, 100 ms to 24 h, or [`Duration::MAX`] for never.
    #[doc(alias("health", "watchdog", "liveness"))]
    #[must_use]
    pub fn stall_after(mut self, stall_after: Duration) -> Self {
        self.config.stall_after = stall_after;
        self
    }

    /// How long a handler or a task may hold its shard before a warning names it: method, shard, time, and when it happens
    /// again the call and its peer. Default 25 ms, 1 ms to 24 h, or [`Duration::MAX`] for never. `ShardCounters::holds`
    /// counts them, `longest_hold_us` is the longest.
    ///
    /// A handler holds its shard by computing and by blocking. Time in which the shard's thread waited for a CPU is not held
    /// against it: another thread ran there, or the quota of a container was used up. The kernel counts such waits
    /// (`/proc/thread-self/schedstat`), and a stall that they can explain is counted in `ShardCounters::cpu_waits` instead, and not
    /// warned of. The warnings say how much was CPU time and how much was such a wait: at the first hold
    /// in a while the most that it can have been since the last look, at most a quarter of a second ago on a busy shard; then, for
    /// 10 s, right within a millisecond. Where the kernel does not count waits all time counts as held. Time that a hypervisor takes
    /// away looks like CPU time.
    #[doc(alias("stall", "slow", "blocked", "watchdog"))]
    #[must_use]
    pub fn warn_held_after(mut self, warn_held_after: Duration) -> Self {
        self.config.warn_held_after = warn_held_after;
        self
    }

    /// How methods of several [classes](crate::ServiceClass) share the time of each shard, while more than one of them has
    /// something to run. Default 1,000 for latency, 500 for normal and 100 for batch; each 1 to 1,000. Without methods of
    /// several classes it does nothing.
    #[doc(alias("scheduling group", "task queue", "qos"))]
    #[must_use]
    pub fn class_shares(mut self, shares: ClassShares) -> Self {
        self.config.class_shares = shares;
        self
    }

    /// Measures what each method costs: `ShardCounters::method_costs`. Calls and polls are all counted, and one of `one_in`
    /// polls is measured with the clock of the thread's CPU time; what it took counts for all. Default 0: nothing is measured.
    /// At most 1,024.
    ///
    /// With 1 each poll is measured, and the figures are exact but for some ten nanoseconds a poll; that costs some
    /// 400 ns for each poll, two system calls. With 32 it costs some 20 ns, and the CPU time of a method that has had *n* polls
    /// of about equal length is right within 6/√*n* or so: 2 % after 100,000.
    #[doc(alias("profiling", "cpu time", "accounting"))]
    #[must_use]
    pub fn method_costs(mut self, one_in: u16) -> Self {
        self.config.method_costs = one_in;
        self
    }

    /// The most threads for blocking methods and [`offload`](crate::offload), for all shards together. Default: as many as
    /// the CPUs that the shards leave free, and at least 2. 1 to 1,024. Work that waits, for files or a database, wants
    /// more of them than work that computes. Where they run: [`offload`](crate::offload).
    #[doc(alias("blocking", "thread pool", "workers"))]
    #[must_use]
    pub fn offload_threads(mut self, threads: u16) -> Self {
        self.config.offload_threads = Some(threads);
        self
    }

    /// How much work may wait for these threads; more is refused at once with `ResourceExhausted`. Default 1,024, 1 to
    /// 65,536. What waits holds its arguments.
    #[doc(alias("blocking", "backpressure"))]
    #[must_use]
    pub fn offload_queue(mut self, queue: u32) -> Self {
        self.config.offload_queue = queue;
        self
    }

    /// Starts the server and returns when every shard is running.
    ///
    /// # Errors
    ///
    /// What is wrong, and how to fix it. Nothing is left running.
    #[doc(alias("serve", "spawn"))]
    pub fn start(self) -> Result<Running, StartError> {
        let (config, make) = self.into_parts()?;
        corewire_engine::start(&config, &make)
    }

    /// The settings, and what makes a shard's dispatcher.
    pub(crate) fn into_parts(self) -> Result<(EngineConfig, MakeDispatch), StartError> {
        if let Some(error) = self.error {
            return Err(StartError::Config(error));
        }
        let (services, layers) = (self.services, self.layers);
        if services.is_empty() {
            return Err(StartError::Config(
                "the server has no service; add one with ServerBuilder::service".into(),
            ));
        }
        let (services, layers) = (Arc::new(services), Arc::new(layers));
        let values = Arc::new(self.values);
        let make: MakeDispatch = Arc::new(move |shard| {
            let (services, layers) = (Arc::clone(&services), Arc::clone(&layers));
            let values = Arc::clone(&values);
            Box::pin(async move {
                values.iter().for_each(|make| make());
                let mut methods = Methods::default();
                for make in services.iter() {
                    make(shard).await?(&mut methods);
                }
                for wrap in layers.iter().rev() {
                    wrap(shard, &mut methods);
                }
                // Around the layers: they see a call when and where it runs.
                methods.serve_classes();
                methods.route_keys(shard.count);
                Ok(Rc::new(Router::new(methods)?) as Rc<dyn Dispatch>)
            })
        });
        Ok((self.config, make))
    }

    /// Starts the server and serves until SIGTERM or SIGINT; then drains.
    ///
    /// # Errors
    ///
    /// What keeps it from starting, and how to fix it. On a thread that drives connections it is
    /// [`StartError::WouldBlock`]: call [`start`](Self::start) there, and await [`Running::ended`].
    #[doc(alias("serve", "graceful", "SIGTERM"))]
    pub fn run(self) -> Result<Ended, StartError> {
        if corewire_client::wait::is_driver() {
            return Err(StartError::WouldBlock);
        }
        self.drain_on_signal().start()?.wait().map_err(|_| StartError::WouldBlock)
    }
}
