//! Every kind of channel, over every kind of socket, and the table of scenarios that each is put through.

use super::service::{Habits, SubjectServer, Target};
use super::streams::{FeedServer, Seen, Source};
use super::{PATIENCE, end};
use corewire::{
    Address, Channel, ChannelConfig, ClientShard, ClientThread, Limits, Placement, Running, Server,
    ShardCounters, SharedChannel, StartError, blocking,
};
use futures_lite::future::{block_on, yield_now};
use std::future::Future;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Code on a shard.
    Shard,
    /// A plain thread, whose calls a client thread carries.
    Thread,
    /// A task of tokio.
    Tokio,
    /// A thread that drives its connection itself.
    Blocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Tcp,
    Unix,
}

/// A server and what the scenario knows of it.
pub struct World {
    pub shell: Shell,
    pub family: Family,
    pub address: Address,
    pub limits: Limits,
    pub habits: Habits,
    pub seen: Seen,
    pub server: Option<Running>,
    _files: tempfile::TempDir,
}

/// A server with both services of the tests.
pub fn serve(address: &Address, limits: Limits, habits: &Habits, seen: &Seen) -> Running {
    try_to_serve(address, limits, habits, seen, Duration::from_millis(100)).unwrap()
}

fn try_to_serve(
    address: &Address,
    limits: Limits,
    habits: &Habits,
    seen: &Seen,
    drain_within: Duration,
) -> Result<Running, StartError> {
    let (habits, seen) = (habits.clone(), seen.clone());
    Server::builder()
        .address(address)
        .placement(Placement::Unpinned(1))
        .drain_within(drain_within)
        .limits(limits)
        .service(move |_| SubjectServer::new(Target::new(habits.clone())))
        .service(move |_| FeedServer::new(Source { seen: seen.clone() }))
        .start()
}

impl World {
    pub fn new(shell: Shell, family: Family, limits: Limits) -> Self {
        let files = tempfile::tempdir().unwrap();
        let wanted = match family {
            Family::Tcp => "127.0.0.1:0".parse().unwrap(),
            Family::Unix => Address::Unix(files.path().join("subject.sock")),
        };
        let (habits, seen) = (Habits::default(), Seen::default());
        let server = serve(&wanted, limits, &habits, &seen);
        let address = server.addresses()[0].clone();
        Self { shell, family, address, limits, habits, seen, server: Some(server), _files: files }
    }

    /// A new server at the same address.
    pub fn serve_again(&self) -> Running {
        serve(&self.address, self.limits, &self.habits, &self.seen)
    }

    /// The same, with `drain_within` to drain.
    pub fn serve_until(&self, drain_within: Duration) -> Running {
        try_to_serve(&self.address, self.limits, &self.habits, &self.seen, drain_within).unwrap()
    }

    /// Another one, with these habits, as soon as the one before has left the address.
    pub fn serve_when_free(&self, habits: &Habits) -> Running {
        let (start, drain) = (Instant::now(), Duration::from_millis(100));
        loop {
            match try_to_serve(&self.address, self.limits, habits, &self.seen, drain) {
                Ok(server) => break server,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The sum of one counter of the server's.
    pub fn count(&self, read: impl Fn(&ShardCounters) -> u64) -> u64 {
        super::count(self.server.as_ref().unwrap(), read)
    }

    /// What the scenario's channel is told.
    fn config(&self) -> ChannelConfig {
        let mut config = ChannelConfig::default();
        config.connection.limits = self.limits;
        config
    }

    pub fn stop(&mut self) {
        end(self.server.take().unwrap());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take().filter(|_| !std::thread::panicking()) {
            end(server);
        }
    }
}

pub fn on_shard<F>(
    family: Family,
    limits: Limits,
    scenario: impl FnOnce(Channel, World) -> F + 'static,
) where
    F: Future<Output = ()> + 'static,
{
    let world = World::new(Shell::Shard, family, limits);
    super::client(move || async move {
        let channel = Channel::new(world.address.clone(), world.config()).unwrap();
        scenario(channel, world).await;
    });
}

pub fn on_thread<F>(
    family: Family,
    limits: Limits,
    scenario: impl FnOnce(SharedChannel, World) -> F,
) where
    F: Future<Output = ()>,
{
    let world = World::new(Shell::Thread, family, limits);
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = thread.channel(&world.address, world.config()).unwrap();
    block_on(scenario(channel, world));
}

pub fn on_tokio<F>(family: Family, limits: Limits, scenario: impl FnOnce(SharedChannel, World) -> F)
where
    F: Future<Output = ()>,
{
    let world = World::new(Shell::Tokio, family, limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let channel = SharedChannel::on_tokio(&world.address, world.config()).unwrap();
        scenario(channel, world).await;
    });
}

pub fn on_blocking<F>(
    family: Family,
    limits: Limits,
    scenario: impl FnOnce(blocking::Channel, World) -> F,
) where
    F: Future<Output = ()>,
{
    let world = World::new(Shell::Blocking, family, limits);
    let channel = blocking::Channel::new(&world.address, world.config()).unwrap();
    block_on(scenario(channel, world));
}

/// A channel that is closed, whatever drives it.
pub trait Close {
    fn close(&self) -> impl Future<Output = ()>;
}

impl Close for Channel {
    fn close(&self) -> impl Future<Output = ()> {
        Self::close(self)
    }
}

impl Close for SharedChannel {
    fn close(&self) -> impl Future<Output = ()> {
        Self::close(self)
    }
}

impl Close for blocking::Channel {
    async fn close(&self) {
        Self::close(self);
    }
}

/// Each scenario in each shell over each family: with a client of this type, under these limits.
#[macro_export]
macro_rules! table {
    ($client:ident, $limits:expr => $($scenario:ident)*) => { $(
        mod $scenario {
            use super::support::shells::{Family, on_blocking, on_shard, on_thread, on_tokio};
            use super::*;

            #[test]
            fn on_a_shard_over_tcp() {
                on_shard(Family::Tcp, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn on_a_shard_over_unix() {
                on_shard(Family::Unix, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn from_a_thread_over_tcp() {
                on_thread(Family::Tcp, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn from_a_thread_over_unix() {
                on_thread(Family::Unix, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn on_tokio_over_tcp() {
                on_tokio(Family::Tcp, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn on_tokio_over_unix() {
                on_tokio(Family::Unix, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn blocking_over_tcp() {
                on_blocking(Family::Tcp, $limits, |it, world| super::$scenario($client::new(it), world));
            }
            #[test]
            fn blocking_over_unix() {
                on_blocking(Family::Unix, $limits, |it, world| super::$scenario($client::new(it), world));
            }
        }
    )* };
}

/// Each scenario in each shell, over servers of its own: it is given what makes a channel.
#[macro_export]
macro_rules! each_shell {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            use super::support::shells::Shell;
            use super::*;

            #[test]
            fn on_a_shard() {
                support::client(|| async {
                    let connect = |to: Address, config| corewire::Channel::new(to, config).unwrap();
                    super::$scenario(connect, Shell::Shard).await;
                });
            }
            #[test]
            fn from_a_thread() {
                let thread = corewire::ClientThread::start(corewire::ClientShard::default()).unwrap();
                let connect = |to: Address, config| thread.channel(&to, config).unwrap();
                futures_lite::future::block_on(super::$scenario(connect, Shell::Thread));
            }
            #[test]
            fn on_tokio() {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(async {
                    let connect =
                        |to: Address, config| corewire::SharedChannel::on_tokio(&to, config).unwrap();
                    super::$scenario(connect, Shell::Tokio).await;
                });
            }
            #[test]
            fn blocking() {
                let connect =
                    |to: Address, config| corewire::blocking::Channel::new(&to, config).unwrap();
                futures_lite::future::block_on(super::$scenario(connect, Shell::Blocking));
            }
        }
    )* };
}

/// Polls until `done`, and lets others run in between.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        yield_now().await;
    }
}

/// Gives `$scenario` a channel of each kind to `$address`, one after the other. Each `$address` is
/// evaluated separately, so that it may start a server.
#[macro_export]
macro_rules! each_kind {
    ($address:expr, $config:expr => $scenario:ident) => {{
        let (address, config) = ($address, $config);
        support::client(move || async move {
            $scenario(corewire::Channel::new(address, config).unwrap()).await;
        });
        let thread = corewire::ClientThread::start(corewire::ClientShard::default()).unwrap();
        let channel = thread.channel($address, $config).unwrap();
        futures_lite::future::block_on($scenario(channel));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            $scenario(corewire::SharedChannel::on_tokio($address, $config).unwrap()).await;
        });
        let channel = corewire::blocking::Channel::new($address, $config).unwrap();
        futures_lite::future::block_on($scenario(channel));
    }};
}
