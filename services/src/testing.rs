//! Tests of services without sockets: handlers on their own, a server and a client in memory, or a whole fleet in virtual
//! time, with the faults of networks and hosts, by a seed that replays. Feature `testing`, for `[dev-dependencies]`.
//!
//! - **A handler on its own**: call it, with [`Context::for_test`](crate::Context::for_test) if it takes a context.
//! - **One service and a client**: [`pair`].
//! - **Everything else**: a [`Simulation`], by `#[corewire::test]` on a function that takes one.
//!
//! Three services, one of which calls another that calls the third, while the network loses connections and the last one
//! crashes:
//!
//! ```
//! use corewire::testing::{Network, Simulation};
//! use corewire::{Context, Server, Status, sleep};
//! use std::time::Duration;
//!
//! #[corewire::service]
//! pub trait Adder {
//!     async fn add(&self, context: &Context, one: u32, other: u32) -> Result<u32, Status>;
//! }
//!
//! struct Sums;
//!
//! impl Adder for Sums {
//!     async fn add(&self, _: &Context, one: u32, other: u32) -> Result<u32, Status> {
//!         Ok(one + other)
//!     }
//! }
//!
//! /// Has the next server add.
//! struct Behind(AdderClient);
//!
//! impl Adder for Behind {
//!     async fn add(&self, context: &Context, one: u32, other: u32) -> Result<u32, Status> {
//!         self.0.in_context(context).add(one, other).await.map_err(|error| error.to_status())
//!     }
//! }
//!
//! Simulation::for_seeds(0..10, |sim| async move {
//!     let behind = |next: &'static str| {
//!         Server::builder().service(move |_| {
//!             let channel = corewire::Channel::new((next, 1), Default::default()).expect("an address");
//!             AdderServer::new(Behind(AdderClient::new(channel)))
//!         })
//!     };
//!     sim.server("front", behind("middle"));
//!     sim.server("middle", behind("back"));
//!     sim.server("back", Server::builder().service(|_| AdderServer::new(Sums)));
//!     sim.set_network(Network::lossy());
//!     sim.pause("middle", Duration::from_millis(sim.draw(0..500)));
//!     sim.crash("back");
//!     sleep(Duration::from_secs(1)).await;
//!     sim.restart("back");
//!     let channel = corewire::Channel::new("front:1", Default::default()).expect("an address");
//!     let front = AdderClient::new(channel).with_timeout(Duration::from_secs(5));
//!     while front.add(1, 2).await != Ok(3) {
//!         sleep(Duration::from_millis(100)).await; // it is safe to try again
//!     }
//! });
//! ```
//!
//! # What is real and what is simulated
//!
//! Real: everything from the generated client down to the bytes on the wire, and back up to the handler. Simulated:
//! sockets, names, the clock behind [`sleep`](crate::sleep), [`now`](crate::now), deadlines, back-off and keep-alive, and
//! what is left to chance in them. What a test gets from elsewhere is not: `Instant::now`, threads, files, real sockets,
//! tokio, `ClientThread` and `SharedChannel`, hash maps that are iterated over. A run that uses these may still work, but
//! does not replay, and a wake from another thread comes too late: a simulation does not wait for real time.
//!
//! A server's threads, placement, spinning and signals are not simulated, nor is the supervisor: `lame_duck` and
//! `stall_after` have no effect. A handler that panics fails its call with `Internal`, as in production.

mod context;

use corewire_engine::{Channel, Dispatch};
use std::future::Future;
use std::rc::Rc;

pub use self::context::TestContext;
/// What went wrong in a simulation.
///
/// ```
/// use corewire::testing::{FailureKind, Simulation};
///
/// let failed = Simulation::new(1).try_run(std::future::pending::<()>()).unwrap_err();
/// assert_eq!(failed.why, FailureKind::Hung);
/// ```
#[doc(alias("error", "deadlock"))]
pub use corewire_testing::FailureKind;
#[doc(alias("latency", "packet loss", "bandwidth", "turmoil"))]
pub use corewire_testing::Network;
/// What [`Simulation::server`] starts: a server's builder.
///
/// ```
/// use corewire::testing::{SimulatedServer, Simulation};
/// use corewire::{Server, echo};
///
/// let builder = Server::builder().service(|_| echo::EchoServer::new(echo::Echoer));
/// Simulation::new(1).server("echo", SimulatedServer::from(builder));
/// ```
pub use corewire_testing::SimulatedServer;
#[doc(alias(
    "mock",
    "fake",
    "turmoil",
    "madsim",
    "deterministic",
    "virtual time",
    "start_paused"
))]
pub use corewire_testing::Simulation;
/// Why a simulation failed, with the seed that shows it again.
///
/// ```
/// use corewire::testing::Simulation;
///
/// let failed = Simulation::new(7).try_run(std::future::pending::<()>()).unwrap_err();
/// assert_eq!(failed.seed, 7);
/// println!("{failed}"); // what each host waited for, and what happened last
/// ```
#[doc(alias("error", "replay", "seed"))]
pub use corewire_testing::SimulationFailed;
/// What a simulated test may return: nothing, or a `Result`.
///
/// ```
/// use corewire::testing::TestOutcome;
///
/// assert_eq!(().failure(), None);
/// assert!(Err::<(), _>("no reply").failure().is_some());
/// ```
pub use corewire_testing::TestOutcome;

use crate::server::ServerBuilder;
use crate::server::router::Router;
use crate::server::service::Service;
use crate::server::slot::Methods;

/// A server with the settings of the builder.
impl From<ServerBuilder> for SimulatedServer {
    fn from(builder: ServerBuilder) -> Self {
        match builder.into_parts() {
            Ok((config, make)) => Self::new(config, make),
            Err(error) => Self::wrong(error.to_string()),
        }
    }
}

/// Runs a test with a client of a service, in memory: one server with one shard, a channel to it, virtual time, no
/// faults, no latency. The service needs not be `Send`, so that the test can share its state with it.
///
/// ```
/// use corewire::testing::pair;
/// use corewire::{Bytes, echo};
///
/// pair(echo::EchoServer::new(echo::Echoer), |channel| async move {
///     let client = echo::EchoClient::new(channel);
///     assert_eq!(client.echo(Bytes::from_static(b"hi")).await.expect("echoed"), "hi");
/// });
/// ```
///
/// # Panics
///
/// When the test panics, or waits for what can never happen.
#[doc(alias("mock", "fake", "in-memory", "duplex", "bufconn"))]
pub fn pair<S, F>(service: S, test: impl FnOnce(Channel) -> F + 'static) -> F::Output
where
    S: Service,
    F: Future + 'static,
{
    let sim = Simulation::new(0);
    sim.set_network(Network::instant());
    let made = async move {
        let mut methods = Methods::default();
        service.register(&mut methods);
        Ok(Rc::new(Router::new(methods)?) as Rc<dyn Dispatch>)
    };
    sim.server("server", SimulatedServer::once(Box::pin(made)));
    sim.run(async move {
        #[allow(clippy::panic, reason = "the address is right, and a shard is here")]
        let channel = Channel::connect("server:1")
            .await
            .unwrap_or_else(|error| panic!("the server in memory cannot be reached: {error}"));
        test(channel).await
    })
}
