//! Access for simulations, `engine/sim` and `engine/testing`: a shard whose sockets and clock are the caller's.
//!
//! The code behind it is the production driver, shard context and channel, unchanged. Only what hosts them is
//! the caller's: it decides when a shard turns, and what its [`Io`] reports. Nothing here is part of
//! what the engine promises to anybody else.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use corewire_codec::Limits;
use corewire_proto::{ServerConfig, Timeouts};

#[cfg(feature = "sim")]
mod thread;

#[cfg(feature = "sim")]
pub use self::thread::{SimClientThread, ThreadChannel};
pub use crate::net::io::{Io, Readiness, Token};
pub use crate::snapshot::{ChannelSnapshot, MeshSnapshot, Snapshot, StreamSnapshot};
use corewire_client::address::Address;

use crate::budgets::Budgets;
use crate::calls::dispatch::Dispatch;
use crate::channel::{Channel, ChannelContext};
use crate::classes::ClassShares;
use crate::driver::Driver;
use crate::driver::executor::{DRAIN_GRACE, NotYet};
use crate::driver::runtime::REACTOR_EVERY;
use crate::identity::DriverConfig;
use crate::net::doorbell::{Doorbell, Order};
use crate::shard::chance::set_chance;
use crate::shard::clock::set_clock;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::mesh::{self, Hub, MeshEnd, News, Sizes};
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
    /// How the classes of its methods share its time.
    pub class_shares: ClassShares,
}

/// A new doorbell.
///
/// # Errors
///
/// The system has no eventfd left.
pub fn doorbell() -> io::Result<Arc<Doorbell>> {
    Doorbell::new().map(Arc::new)
}

/// What reaches the other shards of one server, for a shard that has not started.
#[derive(Debug)]
pub struct SimMesh(MeshEnd);

/// What each of these shards, which are one server's, reaches the others by. What one sends is at the other at once, and
/// done when that one turns.
#[must_use]
pub fn mesh(shards: &[(ShardInfo, Arc<Doorbell>)]) -> Vec<SimMesh> {
    mesh::make(shards).into_iter().map(SimMesh).collect()
}

/// How much the lanes of a [mesh](mesh_of) take. Production has fixed sizes; small ones show what happens when they are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshSizes {
    /// Parcels that one ring takes, at least 1.
    pub ring: usize,
    /// Parcels from one shard to another that may be away at once, at least 1.
    pub away_max: usize,
    /// Parcels that a shard takes in one turn, at least 1.
    pub taken_at_once: usize,
}

/// A mesh with lanes of these sizes.
#[must_use]
pub fn mesh_of(shards: &[(ShardInfo, Arc<Doorbell>)], sizes: MeshSizes) -> Vec<SimMesh> {
    let sizes = Sizes {
        ring: sizes.ring.max(1),
        away_max: sizes.away_max.max(1),
        taken_at_once: sizes.taken_at_once.max(1),
    };
    mesh::make_of(shards, sizes).into_iter().map(SimMesh).collect()
}

/// Tells whether a mesh is gone, with all that was in its rings.
#[derive(Clone, Debug)]
pub struct MeshWatch(Weak<Hub>);

impl MeshWatch {
    /// Whether all shards, and all who could send to them, have let go of it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
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

/// Whether the code that writes a request runs now, and writes it straight into the connection's send buffer.
#[must_use]
pub fn is_written(channel: &Channel) -> bool {
    channel.is_written()
}

/// What a channel holds.
#[must_use]
pub fn channel_census(channel: &Channel) -> ChannelSnapshot {
    channel.snapshot()
}

/// A shard that turns when it is told to.
pub struct SimShard<I: Io> {
    driver: Driver<I>,
    local: Rc<ShardContext>,
    channels: Rc<ChannelContext>,
    counters: Arc<ShardCounters>,
    /// What its channels draw from, in place of a seed of the system's.
    chance: Cell<Option<u64>>,
    /// Shards of which nothing can be seen yet, a bit each.
    unseen: Cell<u64>,
    /// It has said that it sleeps: only its doorbell tells it of other shards.
    asleep: Cell<bool>,
    /// It has done something, so that its next turn waits for readiness, as far as it finds nothing else to do.
    dozes: Cell<bool>,
    /// When it turns at the latest, because a ring was full or it waits for others to be drained.
    look_again: Cell<Option<Instant>>,
}

impl<I: Io> std::fmt::Debug for SimShard<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimShard").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// Restores the previous context, even if what ran meanwhile panics.
struct Within<'a> {
    channels: Option<Rc<ChannelContext>>,
    clock: Option<Instant>,
    /// The shard's own, which is kept for its next turn, and what was there before.
    chance: &'a Cell<Option<u64>>,
    former_chance: Option<u64>,
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        ChannelContext::swap_current(self.channels.take());
        set_clock(self.clock);
        self.chance.set(set_chance(self.former_chance));
    }
}

fn within<'a>(
    channels: &Rc<ChannelContext>,
    chance: &'a Cell<Option<u64>>,
    now: Instant,
) -> Within<'a> {
    Within {
        channels: ChannelContext::swap_current(Some(Rc::clone(channels))),
        clock: set_clock(Some(now)),
        former_chance: set_chance(chance.get()),
        chance,
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
        let channels = ChannelContext::new(ShardContext::new(doorbell));
        Self::on(channels, io, &config, listeners, dispatch)
    }

    fn on(
        channels: Rc<ChannelContext>,
        io: I,
        config: &SimConfig,
        listeners: Vec<I::Listener>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<Self> {
        let local = Rc::clone(&channels.shard);
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
            // Time passes between turns only, in which nothing runs.
            warn_held_after: Duration::MAX,
            class_shares: config.class_shares,
            method_costs: 0,
        };
        let (mailbox, counted) = (Rc::clone(&channels), Arc::clone(&counters));
        let driver = Driver::new(io, config, mailbox, listeners, dispatch, counted)?;
        Ok(Self {
            driver,
            local,
            channels,
            counters,
            chance: Cell::new(None),
            unseen: Cell::new(0),
            asleep: Cell::new(false),
            dozes: Cell::new(false),
            look_again: Cell::new(None),
        })
    }

    /// A shard without listeners that is to [serve](Self::serve) when its services are made, and reaches the others of its
    /// server.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`].
    pub fn starting(
        io: I,
        config: SimConfig,
        doorbell: Arc<Doorbell>,
        mesh: SimMesh,
    ) -> io::Result<Self> {
        let channels = ChannelContext::in_mesh(ShardContext::new(doorbell), mesh.0);
        Self::on(channels, io, &config, Vec::new(), Rc::new(NotYet))
    }

    /// Has all that its code draws follow from this seed from now on, such as the back-off of its channels.
    pub fn set_chance(&self, seed: u64) {
        self.chance.set(Some(seed));
    }

    /// Serves from now on: a shard that was made without listeners, before it has taken a call.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`] for a listener.
    pub fn serve(
        &mut self,
        listeners: Vec<I::Listener>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<()> {
        self.driver.serve(listeners, dispatch)
    }

    /// Drops the shard at this time, with all that it holds, as code of its own.
    pub fn end(self, now: Instant) {
        let channels = Rc::clone(&self.channels);
        let chance = Cell::new(self.chance.get());
        let _within = within(&channels, &chance, now);
        drop(self);
    }

    /// Runs `body` as code of this shard at this time.
    pub fn enter<R>(&self, now: Instant, body: impl FnOnce() -> R) -> R {
        let _within = self.within(now);
        self.local.set_now(Some(now));
        body()
    }

    /// What a shard does between two sleeps, in the order of its executor: a look at the busy
    /// connection or a turn, then the tasks, then what they left. Returns whether it did anything. After it did, it waits in the
    /// poll of its next turn, so that whatever it does not look at before that is found.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`]; the shard cannot go on.
    pub fn step(&mut self, now: Instant, spins: bool) -> io::Result<bool> {
        let _within = within(&self.channels, &self.chance, now);
        if self.asleep.replace(false) {
            self.channels.mesh.awake();
        }
        let hot = if spins { self.driver.try_hot() } else { None };
        let worked = match hot {
            Some(received) => received,
            None => match self.driver.turn(self.doze(now)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.dozes.set(false);
                    return Ok(false);
                }
                worked => worked?,
            },
        };
        self.local.sleepers.wake_due(now);
        let mesh = &self.channels.mesh;
        let ran = mesh.take_but(News::of_shards(self.unseen.get())) | self.local.run_tasks();
        mesh.settle();
        self.driver.settle();
        mesh.settle();
        self.note_look_again(now);
        let worked = worked || ran || self.driver.has_queue();
        self.dozes.set(worked);
        Ok(worked)
    }

    /// How long its next turn may wait for readiness.
    fn doze(&self, now: Instant) -> Duration {
        let mesh = &self.channels.mesh;
        if !self.dozes.get() || mesh.has_news() || mesh.has_unsent() {
            return Duration::ZERO;
        }
        let timer = self.driver.next_timer().map(|at| at.saturating_duration_since(now));
        timer.unwrap_or(REACTOR_EVERY).min(REACTOR_EVERY)
    }

    fn within(&self, now: Instant) -> Within<'_> {
        within(&self.channels, &self.chance, now)
    }

    /// Whether something waits for the driver, so that the shard must not sleep.
    #[must_use]
    pub fn has_news(&self) -> bool {
        let wakes = &self.local.wakes;
        wakes.has_news() || wakes.ready_tasks() > 0 || self.has_parcels()
    }

    /// Whether it sees that other shards have left something.
    fn has_parcels(&self) -> bool {
        let unseen = News::of_shards(self.unseen.get());
        !self.asleep.get() && self.channels.mesh.has_news_but(unseen)
    }

    /// Nothing is seen, from now on, of what these shards have left and leave: bit `n` is shard `n`'s. So what goes from shard
    /// to shard can be made to take any time.
    pub fn delay(&self, shards: u64) {
        self.unseen.set(shards);
    }

    /// It has nothing to do and sleeps, as its thread would: until its next turn only its doorbell tells it of other shards. It
    /// does not while there is news.
    pub fn sleep(&self) {
        let most = self.channels.mesh.sleep_for(Duration::MAX);
        self.asleep.set(!most.is_zero());
    }

    fn note_look_again(&self, now: Instant) {
        let mesh = &self.channels.mesh;
        let within = if mesh.has_backlog() {
            Some(mesh::RETRY_EVERY)
        } else {
            (self.driver.is_drained() && mesh.info().count > 1).then_some(DRAIN_GRACE)
        };
        self.look_again.set(within.and_then(|within| now.checked_add(within)));
    }

    /// When it must turn even if nothing happens.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.driver.next_timer().into_iter().chain(self.look_again.get()).min()
    }

    /// Orders a drain, as the supervisor does.
    pub fn drain(&self, within: Duration) {
        self.local.wakes.doorbell.ring(Order::Drain(within));
    }

    /// Asks for a turn, as the supervisor does.
    pub fn knock(&self) {
        self.local.wakes.doorbell.ring(Order::Notify);
    }

    /// Whether the drain is over.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.driver.is_drained()
    }

    /// Whether it may end, as its thread would: it is drained, and no other shard of its server needs it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let (driver, mesh) = (&self.driver, &self.channels.mesh);
        driver.is_drained() && (mesh.is_drained() || driver.is_past_drain(DRAIN_GRACE))
    }

    /// What is on its way to or from its mesh.
    #[must_use]
    pub fn mesh_snapshot(&self) -> MeshSnapshot {
        self.channels.mesh.snapshot()
    }

    /// How much it still has to do with another shard of its server: what it waits to get back from it, and what it runs for it.
    #[must_use]
    pub fn mesh_ties(&self, shard: usize) -> usize {
        self.channels.mesh.ties(shard)
    }

    /// What tells when its mesh is gone.
    #[must_use]
    pub fn mesh_watch(&self) -> MeshWatch {
        MeshWatch(self.channels.mesh.watch())
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
    pub fn snapshot(&self) -> Snapshot {
        self.driver.snapshot()
    }

    /// How much it holds: a snapshot without its lists, for after each turn.
    #[must_use]
    pub fn tally(&self) -> Snapshot {
        self.driver.tally()
    }
}

impl<I: Io> Drop for SimShard<I> {
    fn drop(&mut self) {
        self.channels.mesh.leave();
        self.local.drop_tasks();
        self.channels.mesh.values.clear();
        // Channels that still wait to be connected hold the context, and it holds them.
        drop(self.channels.local.take());
    }
}
