//! What the author of a test holds of a simulation.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use corewire_client::panics::panic_text;

use crate::failure::{FailureKind, SimulationFailed, TestOutcome};
use crate::net::Net;
use crate::network::Network;
use crate::role::{Role, SimulatedServer};
use crate::state::{HostOrder, Order, SimState, ip};
use crate::world::World;

/// The name of the host on which the test itself runs.
const TEST_HOST: &str = "test";

/// The variable that names the one seed to run.
const SEED: &str = "COREWIRE_SEED";
/// The variable that says how many seeds are run, in place of the test.
const SEEDS: &str = "COREWIRE_SEEDS";
/// The variable that asks for all that happens.
const TRACE: &str = "COREWIRE_TRACE";

/// Hosts, the network between them, and their time: all of it simulated on one thread, and decided by one seed.
///
/// What runs on the hosts is production's: servers with their shards, layers, limits, deadlines and drains, generated
/// clients with their channels, back-off and retries. Only sockets, clock and threads are simulated. Time is virtual: it
/// passes when everybody waits, so an hour of [`sleep`](corewire_engine::sleep) takes no time, and is the same in each run.
/// The same seed of the same program gives the same run.
///
/// It is a handle: clones stand for the same simulation. Make hosts with [`server`](Self::server) and
/// [`host`](Self::host), then [`run`](Self::run) the test; it may make further hosts, and do harm, while it runs. The
/// commands to hosts take effect when the code that gives them awaits next, those to the network at once.
///
/// ```
/// use corewire::testing::{Network, Simulation};
/// use corewire::{CallOptions, Server, Status, sleep};
/// use std::time::Duration;
///
/// #[corewire::service]
/// pub trait Clock {
///     async fn tick(&self, after: u64) -> Result<u64, Status>;
/// }
///
/// struct Ticks;
///
/// impl Clock for Ticks {
///     async fn tick(&self, after: u64) -> Result<u64, Status> {
///         sleep(Duration::from_secs(after)).await;
///         Ok(after)
///     }
/// }
///
/// let sim = Simulation::new(7);
/// sim.server("clock", Server::builder().service(|_| ClockServer::new(Ticks)));
/// sim.set_network(Network { cuts: 0.5, ..Network::default() });
/// sim.run({
///     let sim = sim.clone();
///     async move {
///         let clock = ClockClient::connect("clock:1").await.expect("it serves");
///         assert_eq!(clock.with_timeout(Duration::from_secs(7200)).tick(3600).await, Ok(3600));
///         assert!(sim.elapsed() > Duration::from_secs(3600)); // an hour, in no time
///     }
/// });
/// ```
///
/// # Panics
///
/// All methods that take the names of hosts panic if there is no host of that name, and say which there are.
#[derive(Clone)]
pub struct Simulation {
    state: Rc<SimState>,
    net: Net<SimState>,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.state.seed).finish_non_exhaustive()
    }
}

/// The number that a variable of the environment asks for.
fn number_of_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.trim().parse();
    Some(or_panic(number.map_err(|_| format!("{name} is '{text}'; it takes a number, such as 42"))))
}

#[allow(clippy::panic, reason = "mistakes in a test end it, documented at each use")]
fn or_panic<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

impl Simulation {
    /// A simulation with one host, `test`, on which the test will run, and a [`Network`] at its default.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let prints = std::env::var_os(TRACE).is_some_and(|value| value != "0");
        let state = Rc::new(SimState::new(seed, prints));
        or_panic(state.add_host(TEST_HOST, Vec::new()));
        Self { net: Net::new(Rc::clone(&state)), state }
    }

    /// Runs a test with each of these seeds. If the variable `COREWIRE_SEED` is set, it runs with that one only, and if
    /// `COREWIRE_SEEDS` is set, with that many seeds instead of its own number.
    ///
    /// ```
    /// use corewire::testing::{Network, Simulation};
    /// use corewire::{Bytes, Server, echo};
    ///
    /// Simulation::for_seeds(0..20, |sim| async move {
    ///     sim.server("echo", Server::builder().service(|_| echo::EchoServer::new(echo::Echoer)));
    ///     let client = loop {
    ///         match echo::EchoClient::connect("echo:1").await {
    ///             Ok(client) => break client,
    ///             Err(_) => corewire::sleep(std::time::Duration::from_millis(10)).await,
    ///         }
    ///     };
    ///     sim.set_network(Network::lossy());
    ///     for _ in 0..20 {
    ///         if let Ok(reply) = client.echo(Bytes::from_static(b"hi")).await {
    ///             assert_eq!(reply, "hi");
    ///         }
    ///     }
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// With the first seed that fails, as [`run`](Self::run) does, or that returns an `Err`.
    pub fn for_seeds<F>(seeds: Range<u64>, test: impl Fn(Self) -> F)
    where
        F: Future + 'static,
        F::Output: TestOutcome + 'static,
    {
        Self::last_of_seeds(seeds, test);
    }

    /// The same; returns what the last seed's test returned. The macro's code calls it.
    #[doc(hidden)]
    pub fn last_of_seeds<F>(seeds: Range<u64>, test: impl Fn(Self) -> F) -> Option<F::Output>
    where
        F: Future + 'static,
        F::Output: TestOutcome + 'static,
    {
        let seeds = match (number_of_environment(SEED), number_of_environment(SEEDS)) {
            (Some(seed), _) => seed..seed.saturating_add(1),
            (None, Some(count)) => seeds.start..seeds.start.saturating_add(count),
            (None, None) => seeds,
        };
        let mut last = None;
        for seed in seeds {
            let sim = Self::new(seed);
            let outcome = sim.run(test(sim.clone()));
            if let Some(failure) = outcome.failure() {
                let failed = sim.failed(FailureKind::Failed(failure), Vec::new());
                sim.fail(SimulationFailed { last: sim.trace(), ..failed });
            }
            last = Some(outcome);
        }
        last
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.state.seed
    }

    /// A number of this range, by the seed: for what the test itself leaves to chance. It does not change what else is
    /// drawn.
    #[doc(alias("random", "rand"))]
    #[must_use]
    pub fn draw(&self, range: Range<u64>) -> u64 {
        self.state.own_dice.between(range.start, range.end.saturating_sub(1))
    }

    /// The virtual time since the simulation began.
    #[doc(alias("now", "clock"))]
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.state.clock.now())
    }

    /// How much virtual time the test may take; when it is over, the run fails. Default 24 h.
    #[doc(alias("timeout"))]
    pub fn set_time_limit(&self, limit: Duration) {
        self.state.limit.set(limit);
    }

    /// How many events and turns of shards the test may take: when it takes more, the run fails, because time hardly
    /// passes. Default 100 million, which take minutes.
    pub fn set_step_limit(&self, steps: u64) {
        self.state.step_limit.set(steps);
    }

    // Hosts.

    /// A new host with a server: of a `ServerBuilder`, as it would be started in production. Clients reach it at
    /// `name:port`, with the ports of its addresses; at every port if it has none, or port 0. It has the shards that
    /// its `Placement` names, and one if that would depend on the machine. Spinning, hosts of threads and signals have no
    /// meaning here.
    ///
    /// # Panics
    ///
    /// The name is taken or invalid; a setting is out of its range, or the server has no service.
    #[doc(alias("listen", "start"))]
    pub fn server(&self, name: &str, server: impl Into<SimulatedServer>) {
        let server = server.into();
        or_panic(server.check().map_err(|error| format!("the server '{name}': {error}")));
        let ports = or_panic(server.ports());
        self.start(name, ports, Role::Server(Rc::new(server)));
    }

    /// A new host that runs the future that `begin` returns, as a process that ends with it. It is called once, and
    /// again at each [restart](Self::restart). The test does not wait for it.
    ///
    /// # Panics
    ///
    /// The name is taken or invalid. If the host's code panics, or returns an `Err`, the run fails.
    #[doc(alias("client", "process", "node"))]
    pub fn host<F>(&self, name: &str, begin: impl Fn() -> F + 'static)
    where
        F: Future + 'static,
        F::Output: TestOutcome,
    {
        let named = name.to_owned();
        let begin = move || -> Pin<Box<dyn Future<Output = ()>>> {
            let (name, code) = (named.clone(), begin());
            Box::pin(async move {
                let failure = code.await.failure();
                or_panic(failure.map_or(Ok(()), |why| Err(format!("the host '{name}': {why}"))));
            })
        };
        self.start(name, Vec::new(), Role::Client(Rc::new(begin)));
    }

    fn start(&self, name: &str, ports: Vec<u16>, role: Role) {
        let host = or_panic(self.state.add_host(name, ports));
        self.state.orders.borrow_mut().push_back(Order::Start(host, role));
    }

    /// The address of a host, as servers see it in `Context::peer`, and as clients may use it in place of the name.
    #[must_use]
    pub fn ip(&self, host: &str) -> std::net::IpAddr {
        ip(self.number(host)).into()
    }

    /// Whether a host runs: it has started, and has neither crashed nor ended.
    #[must_use]
    pub fn is_up(&self, host: &str) -> bool {
        let number = self.number(host);
        self.state.hosts.borrow().get(number).is_some_and(|named| named.is_up.get())
    }

    /// Ends a host as `kill -9` does: its memory is gone, and its connections end. What was written before is
    /// still delivered.
    #[doc(alias("kill"))]
    pub fn crash(&self, host: &str) {
        self.order(host, HostOrder::Crash);
    }

    /// Starts a host again, after a [crash](Self::crash) if it still runs: its services are made anew.
    #[doc(alias("bounce", "reboot"))]
    pub fn restart(&self, host: &str) {
        self.order(host, HostOrder::Restart);
    }

    /// Has a server drain, as SIGTERM does: it takes no new calls, finishes those that it has within
    /// `ServerBuilder::drain_within`, and ends.
    #[doc(alias("shutdown", "SIGTERM"))]
    pub fn drain(&self, host: &str) {
        self.order(host, HostOrder::Drain);
    }

    /// Stops a host as SIGSTOP does: its connections stay, and it does nothing until it is
    /// [continued](Self::resume).
    #[doc(alias("freeze", "SIGSTOP"))]
    pub fn stop(&self, host: &str) {
        self.order(host, HostOrder::Stop(None));
    }

    /// Has a stopped host go on, as SIGCONT does.
    #[doc(alias("SIGCONT", "unfreeze"))]
    pub fn resume(&self, host: &str) {
        self.order(host, HostOrder::Continue);
    }

    /// Stops a host for this long, as a long garbage collection or a loaded machine would.
    pub fn pause(&self, host: &str, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = self.state.clock.now().saturating_add(ns);
        self.order(host, HostOrder::Stop(Some(until)));
    }

    // The network.

    /// What the network is like from now on, between all hosts.
    ///
    /// # Panics
    ///
    /// A setting is out of its range.
    #[doc(alias("latency", "loss", "bandwidth"))]
    pub fn set_network(&self, network: Network) {
        or_panic(network.fault().map_or(Ok(()), Err));
        self.state.set_network(network);
    }

    /// What it is like between these two, until [`set_network`](Self::set_network) is called again.
    ///
    /// # Panics
    ///
    /// A setting is out of its range.
    #[doc(alias("latency", "loss", "bandwidth"))]
    pub fn set_link(&self, one: &str, other: &str, network: Network) {
        or_panic(network.fault().map_or(Ok(()), Err));
        self.state.set_way(self.number(one), self.number(other), network);
    }

    /// Nothing passes between these two hosts any more. Nobody is told: connects and calls wait until their time is up.
    /// What was on its way arrives when the partition is [healed](Self::heal).
    #[doc(alias("split", "netsplit"))]
    pub fn partition(&self, one: &str, other: &str) {
        self.state.set_cut(self.number(one), self.number(other), true);
    }

    /// Ends a partition.
    #[doc(alias("repair"))]
    pub fn heal(&self, one: &str, other: &str) {
        self.state.set_cut(self.number(one), self.number(other), false);
        self.net.release();
    }

    /// Partitions a host from all others.
    pub fn isolate(&self, host: &str) {
        let number = self.number(host);
        let hosts = self.state.hosts.borrow().len();
        (0..hosts)
            .filter(|&other| other != number)
            .for_each(|other| self.state.set_cut(number, other, true));
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        for (one, other) in self.state.cuts() {
            self.state.set_cut(one, other, false);
        }
        self.net.release();
    }

    // The run.

    /// Starts the hosts, waits until their servers serve, runs `test` on the host `test` until it ends, and then ends all
    /// hosts. Returns what it returns.
    ///
    /// # Panics
    ///
    /// When the test panics, or the code of a host; when it waits for something that can never happen; when its
    /// [time](Self::set_time_limit) is up, or [hardly passes](Self::set_step_limit); when a server does not start. The seed and the last that happened
    /// are printed. Also when it is called twice.
    pub fn run<F>(&self, test: F) -> F::Output
    where
        F: Future + 'static,
    {
        self.try_run(test).unwrap_or_else(|failure| self.fail(failure))
    }

    /// The same; what would be a panic is an error.
    ///
    /// # Errors
    ///
    /// Why the run failed, with its seed.
    ///
    /// # Panics
    ///
    /// When it is called twice.
    pub fn try_run<F>(&self, test: F) -> Result<F::Output, SimulationFailed>
    where
        F: Future + 'static,
    {
        assert!(
            !self.state.has_run.replace(true),
            "a simulation runs once; make another one for a second run"
        );
        let mut world = World::new(Rc::clone(&self.state), self.net.clone());
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(test)));
        let hosts = match &ran {
            Ok(Ok(_)) => Vec::new(),
            Ok(Err(_)) => world.describe(),
            // The test does not wait any more.
            Err(_) => world.describe().split_off(1),
        };
        let last = self.state.last();
        world.end();
        match ran {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(why)) => Err(SimulationFailed { last, ..self.failed(why, hosts) }),
            Err(panic) => {
                let why = FailureKind::Panicked(panic_text(&*panic));
                Err(SimulationFailed { last, panic: Some(panic), ..self.failed(why, hosts) })
            }
        }
    }

    /// A hash over all that has happened: two runs of the same program with the same seed have the same.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.hash()
    }

    /// The last things that happened, one per line, each with its time.
    #[doc(alias("log"))]
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state.last()
    }

    fn failed(&self, why: FailureKind, hosts: Vec<String>) -> SimulationFailed {
        SimulationFailed {
            seed: self.state.seed,
            elapsed: self.elapsed(),
            why,
            hosts,
            last: Vec::new(),
            panic: None,
        }
    }

    #[allow(clippy::panic, clippy::unused_self, reason = "it fails the test, documented")]
    fn fail(&self, mut failure: SimulationFailed) -> ! {
        match failure.panic.take() {
            Some(panic) => {
                // The panic itself has been printed.
                eprintln!("{failure}");
                resume_unwind(panic)
            }
            None => panic!("{failure}"),
        }
    }

    fn order(&self, host: &str, order: HostOrder) {
        let number = self.number(host);
        if number == 0 && !matches!(order, HostOrder::Continue) {
            or_panic(Err::<(), _>(format!(
                "the host '{TEST_HOST}' runs the test itself; put what is to be harmed on a host of its own, by Simulation::host"
            )));
        }
        let order = Order::Change(number, order);
        self.state.orders.borrow_mut().push_back(order);
    }

    fn number(&self, host: &str) -> usize {
        or_panic(self.state.host(host))
    }
}
