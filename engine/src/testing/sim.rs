//! Access for the simulator, `engine/sim`: a shard whose sockets and clock are the caller's.
//!
//! The code behind it is the production driver, mailbox and channel, unchanged. Only what hosts them is
//! the caller's: it decides when a shard turns, and what its [`Io`] reports. Nothing here is part of
//! what the engine promises to anybody else.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::Limits;
use corewire_proto::{ServerConfig, StreamAccounts, Timeouts};

pub use crate::net::io::{Io, Readiness, Token};
use corewire_client::address::Address;

use crate::calls::budgets::Budgets;
use crate::calls::dispatch::Dispatch;
use crate::channel::Channel;
use crate::driver::Driver;
use crate::identity::DriverConfig;
use crate::net::doorbell::{Doorbell, Order};
use crate::shard::clock::set_clock;
use crate::shard::context::Local;
use crate::shard::counters::ShardCounters;
use corewire_client::config::ChannelConfig;
use corewire_client::failure::NotSent;
use corewire_proto::ShardInfo;

/// The settings of a simulated shard.
#[derive(Clone, Copy, Debug)]
pub struct SimConfig {
    /// Who it is.
    pub info: ShardInfo,
    /// What its server accepts from each connection.
    pub limits: Limits,
    /// How long a peer may be silent.
    pub timeouts: Timeouts,
    /// How much one connection may do and hold.
    pub budgets: Budgets,
    /// The first connection id of this shard, and the step to the next one.
    pub connection_ids: (u64, u64),
    /// Whether its server takes streams.
    pub streams: bool,
    /// How many one-way calls of a connection may pend at its server.
    pub one_way_pending_max: u16,
}

/// What a shard holds at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Connections of both kinds.
    pub connections: usize,
    /// Connections of its server.
    pub server_connections: usize,
    /// Connections that wait for a turn.
    pub run_queue: usize,
    /// Entries of the timer heap, stale ones included.
    pub timers: usize,
    /// Whether the table of wakers has pending handlers.
    pub parked: bool,
    /// Parked calls of all connections.
    pub in_flight: usize,
    /// Parked calls of the connection that has the most.
    pub in_flight_max: usize,
    /// Queued wakes of the connection that has the most.
    pub woken_max: usize,
    /// Unsent bytes of the connection that has the most.
    pub unsent_max: usize,
    /// Received bytes that wait in the connection that has the most.
    pub unread_max: usize,
    /// Bytes and pending calls that count against the shard's budgets.
    pub held: (usize, usize),
    /// The ids of connections that are paused because they exceed their budget of unsent bytes.
    pub paused: Vec<u64>,
    /// Stream bytes that were delivered and not consumed, of the server's connection that has the most.
    pub held_max: u32,
    /// One-way calls that pend, of the server's connection that has the most.
    pub one_way_max: usize,
    /// What the server's connections know of their streams.
    pub streams: Vec<StreamCensus>,
    /// Received bytes that wait in the client's connection that has the most.
    pub client_unread_max: usize,
    /// Received bytes that wait in all connections.
    pub unread: usize,
}

/// What one side of a connection knows of its streams at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCensus {
    /// The connection, by the server's id.
    pub connection: u64,
    /// Streams whose slots are taken.
    pub open: usize,
    /// The credit that they share; `None` if there never was a stream.
    pub accounts: Option<StreamAccounts>,
}

/// What a channel holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCensus {
    /// Whether there is a connection.
    pub up: bool,
    /// Whether its server has said hello.
    pub ready: bool,
    /// Whether one is being made.
    pub connecting: bool,
    /// Calls in flight that a caller waits for.
    pub in_flight: usize,
    /// Calls that could begin now.
    pub free_slots: usize,
    /// Entries for calls that have not delivered their outcome.
    pub calls: usize,
    /// Calls that wait for a slot or for the connection.
    pub waiting: usize,
    /// Bytes that wait to be sent.
    pub unsent: usize,
    /// One-way calls that wait for bytes to leave.
    pub room: usize,
    /// Stream bytes that were delivered and not consumed.
    pub held: u32,
    /// What it knows of its streams, once the server has said hello.
    pub streams: Option<StreamCensus>,
}

/// A new doorbell.
///
/// # Errors
///
/// The system has no eventfd left.
pub fn doorbell() -> io::Result<Arc<Doorbell>> {
    Doorbell::new().map(Arc::new)
}

/// Whether orders wait at a doorbell.
#[must_use]
pub fn is_rung(doorbell: &Doorbell) -> bool {
    doorbell.has_orders()
}

/// A channel of the shard that is [entered](SimShard::enter); its back-off is drawn from `jitter`.
///
/// # Errors
///
/// No shard is entered.
pub fn channel(address: Address, config: ChannelConfig, jitter: u64) -> Result<Channel, NotSent> {
    Channel::with_jitter(address, config, jitter)
}

/// How many calls of a channel wait for a slot or for its connection.
#[must_use]
pub fn waiting_calls(channel: &Channel) -> usize {
    channel.waiting_calls()
}

/// What a channel holds.
#[must_use]
pub fn channel_census(channel: &Channel) -> ChannelCensus {
    channel.census()
}

/// A shard that turns when it is told to.
pub struct SimShard<I: Io> {
    driver: Driver<I>,
    local: Rc<Local>,
    counters: Arc<ShardCounters>,
}

impl<I: Io> std::fmt::Debug for SimShard<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimShard").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Restores the previous mailbox, even if what ran meanwhile panics.
struct Within(Option<Rc<Local>>, Option<Instant>);

impl Drop for Within {
    fn drop(&mut self) {
        Local::swap_current(self.0.take());
        set_clock(self.1);
    }
}

impl<I: Io> SimShard<I> {
    /// A shard that has not turned yet.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`] for its listeners.
    pub fn new(
        io: I,
        config: SimConfig,
        doorbell: Arc<Doorbell>,
        listeners: Vec<I::Listener>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<Self> {
        let local = Local::new(doorbell);
        let counters = Arc::new(ShardCounters::default());
        let server = ServerConfig {
            limits: config.limits,
            timeouts: config.timeouts,
            shard: config.info.id.0,
            shards: config.info.count,
            jitter_seed: config.connection_ids.0,
            streams: config.streams,
            one_way_pending_max: config.one_way_pending_max,
        };
        let config = DriverConfig {
            info: config.info,
            server,
            budgets: config.budgets,
            connection_ids: config.connection_ids,
        };
        let (mailbox, counted) = (Rc::clone(&local), Arc::clone(&counters));
        let driver = Driver::new(io, config, mailbox, listeners, dispatch, counted)?;
        Ok(Self { driver, local, counters })
    }

    /// Runs `body` as code of this shard at this time.
    pub fn enter<R>(&self, now: Instant, body: impl FnOnce() -> R) -> R {
        let _within = self.within(now);
        self.local.set_now(Some(now));
        body()
    }

    /// What a shard does between two sleeps, in the order of its executor: a look at the busy
    /// connection or a turn, then the tasks, then what they left. Returns whether it did anything.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`]; the shard cannot go on.
    pub fn step(&mut self, now: Instant, spins: bool) -> io::Result<bool> {
        let _within = self.within(now);
        let hot = if spins { self.driver.try_hot() } else { None };
        let worked = match hot {
            Some(received) => received,
            None => self.driver.turn(Duration::ZERO)?,
        };
        self.local.sleepers.wake_due(now);
        let ran = self.local.run_tasks();
        self.driver.settle();
        Ok(worked || ran || self.driver.has_queue())
    }

    fn within(&self, now: Instant) -> Within {
        Within(Local::swap_current(Some(Rc::clone(&self.local))), set_clock(Some(now)))
    }

    /// Whether something waits in the mailbox, so that the shard must not sleep.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.local.has_news() || self.local.tasks.has_ready()
    }

    /// When it must turn even if nothing happens.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.driver.next_timer()
    }

    /// Orders a drain, as the supervisor does.
    pub fn drain(&self, within: Duration) {
        self.local.doorbell.ring(Order::Drain(within));
    }

    /// Asks for a turn, as the supervisor does.
    pub fn knock(&self) {
        self.local.doorbell.ring(Order::Knock);
    }

    /// Whether the drain is over.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.driver.is_drained()
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    /// Whether it accepts waiting clients: not while the system lacks descriptors.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.driver.is_accepting()
    }

    /// What it holds.
    #[must_use]
    pub fn census(&self) -> Census {
        self.driver.census()
    }

    /// How much it holds: a census without its lists, for after each turn.
    #[must_use]
    pub fn tally(&self) -> Census {
        self.driver.tally()
    }
}

impl<I: Io> Drop for SimShard<I> {
    fn drop(&mut self) {
        self.local.drop_tasks();
        // Channels that still wait to be connected hold the mailbox, and it holds them.
        drop(self.local.take_connects());
    }
}
