//! A host: one simulated thread with a shard of the engine, of a server or of clients.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use corewire_engine::testing::sim::{self, SimClientThread, SimConfig, SimMesh, SimShard};
use corewire_engine::{ClassShares, Dispatch, Doorbell, Task};
use corewire_proto::{ShardId, ShardInfo};

use crate::core::trace::{Note, Violated};
use crate::core::{Core, Event};
use crate::hosts::chain::Channels;
use crate::hosts::runtime::{AnyChannel, Held, Runtime};
use crate::hosts::service::Service;
use crate::judge::ledger::Ledger;
use crate::net::Net;
use crate::net::endpoint::{Accepted, SimIo};

/// What a host does on its own thread before its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make this call.
    Call(u64),
    /// Make this calm call on this channel.
    Probe(u64, usize),
    /// Drop the future of this call.
    GiveUp(u64),
    /// A timer of this handler fired here.
    Wake(u64),
    /// Drop a channel and make a new one.
    Renew(usize),
    /// Drop all channels.
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server {
        address: usize,
        index: usize,
    },
    Client {
        mutating: bool,
    },
    /// The thread that drives the channels of this client host.
    Thread {
        client: usize,
        mutating: bool,
    },
}

pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    /// `None` between a server's lives.
    pub(crate) shard: Option<Box<SimShard<SimIo>>>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) set: usize,
    pub(crate) accepted: Rc<RefCell<Accepted>>,
    /// It does nothing before this time.
    pub(crate) busy_until: u64,
    /// When it must turn even if nothing happens, in ns: as its shard reported after its last turn.
    pub(crate) timer: Option<u64>,
    /// Its last turn left work.
    pub(crate) again: bool,
    /// Turns in a row that reported work while nothing moved.
    pub(crate) idle_turns: u32,
    /// What had moved everywhere by then, and what it had still to handle.
    pub(crate) moved: (u64, usize),
    pub(crate) draining: bool,
    /// It listens: a shard with a mesh begins to when its services are made.
    pub(crate) serves: bool,
    listeners: Vec<usize>,
    /// The services of a shard that does not serve yet.
    service: Option<Rc<dyn Dispatch>>,
    /// Until when it sees nothing of some other shards.
    pub(crate) sees_all_at: u64,
    pub(crate) lives: u64,
    pub(crate) actions: VecDeque<Action>,
    /// The tasks of calls that are not over.
    pub(crate) tasks: BTreeMap<u64, Task<()>>,
    pub(crate) channels: Vec<AnyChannel>,
    /// What drives them, if the shard does not.
    pub(crate) runtime: Option<Rc<dyn Runtime>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("number", &self.number)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Host {
    pub(crate) fn new(number: usize, kind: Kind, core: &Core) -> Self {
        let doorbell = new_doorbell(core);
        Self {
            number,
            kind,
            shard: None,
            doorbell,
            set: 0,
            accepted: Rc::default(),
            busy_until: 0,
            timer: None,
            again: true,
            idle_turns: 0,
            moved: (0, 0),
            draining: false,
            serves: false,
            listeners: Vec::new(),
            service: None,
            sees_all_at: 0,
            lives: 0,
            actions: VecDeque::new(),
            tasks: BTreeMap::new(),
            channels: Vec::new(),
            runtime: None,
        }
    }

    /// Begins a life of the host: a new shard, and for a server a new listener.
    pub(crate) fn start(&mut self, core: &Rc<Core>, net: &Net, ledger: &Rc<Ledger>) {
        self.doorbell = new_doorbell(core);
        self.begin(core, net, ledger, None);
    }

    fn begin(&mut self, core: &Rc<Core>, net: &Net, ledger: &Rc<Ledger>, mesh: Option<SimMesh>) {
        self.lives += 1;
        self.set = net.add_set();
        // Ids of connections are never reused, so that a handler can be traced to its host.
        let first = (self.number as u64) << 32 | self.lives << 24;
        self.accepted =
            Rc::new(RefCell::new(Accepted { next: first, step: 3, closed: Vec::new() }));
        let (id, mutating, listeners) = match self.kind {
            Kind::Server { index, .. } if mesh.is_some() => (index, false, Vec::new()),
            Kind::Server { address, index } => (index, false, vec![net.listen(address, self.set)]),
            Kind::Client { mutating } | Kind::Thread { mutating, .. } => (0, mutating, Vec::new()),
        };
        let io = SimIo {
            core: Rc::clone(core),
            net: net.clone(),
            set: self.set,
            host: self.number,
            callers: self.callers(),
            doorbell: Arc::clone(&self.doorbell),
            accepted: Rc::clone(&self.accepted),
            mutating,
            scratch: Vec::new(),
        };
        let plan = &core.plan;
        let id = ShardId(u16::try_from(id).unwrap_or(0));
        let count = u16::try_from(plan.shards).unwrap_or(1);
        let config = SimConfig {
            info: ShardInfo { id, count, cpu: None },
            limits: plan.limits,
            timeouts: plan.timeouts,
            budgets: plan.budgets,
            connection_ids: (first, 3),
            streams: plan.streams,
            one_way_pending_max: plan.one_way_pending_max,
            class_shares: ClassShares::default(),
        };
        let service = Service {
            core: Rc::clone(core),
            ledger: Rc::clone(ledger),
            host: self.number,
            owners: mesh.as_ref().map(|_| config.info),
            channels: Channels::default(),
        };
        let service: Rc<dyn Dispatch> = Rc::new(service);
        (self.serves, self.listeners, self.sees_all_at) = (mesh.is_none(), Vec::new(), 0);
        let doorbell = Arc::clone(&self.doorbell);
        let made = match mesh {
            Some(mesh) => {
                self.service = Some(service);
                SimShard::starting(io, config, doorbell, mesh)
            }
            None => SimShard::new(io, config, doorbell, listeners, service),
        };
        match made {
            Ok(shard) => self.shard = Some(Box::new(shard)),
            Err(error) => core.violated(Violated::Panic, || format!("no shard: {error}")),
        }
        self.draining = false;
        self.again = true;
        self.note_timer(core);
        core.note(Note::Started { host: self.number, life: self.lives });
    }

    /// Its services are made: it listens, unless it has begun another life or drains.
    pub(crate) fn serve(&mut self, core: &Core, net: &Net, life: u64) {
        let Kind::Server { address, .. } = self.kind else { return };
        let (Some(shard), Some(service)) = (&mut self.shard, &self.service) else { return };
        if self.lives != life || self.draining || self.serves {
            return;
        }
        self.listeners = vec![net.listen(address, self.set)];
        if let Err(error) = shard.serve(self.listeners.clone(), Rc::clone(service)) {
            core.violated(Violated::Panic, || format!("no listener: {error}"));
        }
        (self.serves, self.again) = (true, true);
        self.service = None;
        self.note_timer(core);
    }

    /// Its life is over: the shard is dropped, as code of its own.
    pub(crate) fn end(&mut self, core: &Core, net: &Net) {
        self.listeners.drain(..).for_each(|listener| net.retire(listener));
        self.service = None;
        (self.timer, self.draining, self.serves) = (None, false, false);
        if let Some(shard) = self.shard.take() {
            shard.end(core.clock.instant());
        }
    }

    /// The same for a client thread's host: what its callers reach it by.
    pub(crate) fn start_thread(
        &mut self,
        core: &Rc<Core>,
        net: &Net,
        ledger: &Rc<Ledger>,
    ) -> Option<SimClientThread> {
        self.start(core, net, ledger);
        let started = self.shard.as_mut()?.client_thread(core.clock.instant(), core.clock.reader());
        self.note_timer(core);
        started
            .inspect_err(|error| {
                core.violated(Violated::Panic, || format!("no client thread: {error}"));
            })
            .ok()
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.kind, Kind::Server { .. })
    }

    /// Whether callers of the plan are here.
    pub(crate) fn is_client(&self) -> bool {
        matches!(self.kind, Kind::Client { .. })
    }

    /// Whether calls block their callers here.
    pub(crate) fn blocks(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.blocks())
    }

    /// The host whose calls go over its sockets.
    fn callers(&self) -> usize {
        match self.kind {
            Kind::Thread { client, .. } => client,
            Kind::Server { .. } | Kind::Client { .. } => self.number,
        }
    }

    /// Runs `body` as code of the host's shard, which is taken out meanwhile. A turn, or a check of its
    /// timer, must follow.
    pub(crate) fn enter(&mut self, core: &Core, body: impl FnOnce(&mut Self)) {
        if let Some(shard) = self.shard.take() {
            shard.enter(core.clock.instant(), || body(self));
            self.shard = Some(shard);
        }
    }

    /// Asks the shard for its next timer. Only code of the shard changes it.
    pub(crate) fn note_timer(&mut self, core: &Core) {
        self.timer = self.asked_timer(core);
    }

    fn asked_timer(&self, core: &Core) -> Option<u64> {
        let shard = self.shard.as_ref()?;
        let of_shard = shard.next_timer().map(|timer| core.clock.of(timer));
        if self.sees_all_at > 0 {
            return of_shard.into_iter().chain([self.sees_all_at]).min();
        }
        let of_runtime = self.runtime.as_ref().and_then(|runtime| runtime.next_timer());
        [of_shard, of_runtime].into_iter().flatten().min()
    }

    /// Makes the channel with this number of a client host, replacing the one that is there; to be called as
    /// code of its shard.
    pub(crate) fn make_channel(&mut self, core: &Core, number: usize) {
        self.make_channel_to(core, number, core.dice.below(core.plan.servers));
    }

    /// The same, to the server at this address.
    pub(crate) fn make_channel_to(&mut self, core: &Core, number: usize, to: usize) {
        let (config, jitter) = (core.plan.channel.clone(), core.dice.word());
        let made = match &self.runtime {
            Some(runtime) => runtime.channel(to, config, jitter),
            None => sim::channel(crate::net::endpoint::address(to), config, jitter)
                .map(AnyChannel::Shard)
                .ok(),
        };
        match made {
            Some(channel) if number < self.channels.len() => self.channels[number] = channel,
            Some(channel) => self.channels.push(channel),
            None => core.violated(Violated::Panic, || format!("host {}: no channel", self.number)),
        }
    }

    /// What each of its channels holds.
    pub(crate) fn held(&self, core: &Core) -> Vec<Held> {
        let of_shard = |(number, channel): (usize, &AnyChannel)| match channel {
            AnyChannel::Shared(_) | AnyChannel::Blocking(_) => None,
            AnyChannel::Shard(channel) => Some(Held {
                channel: sim::channel_census(channel),
                unread: 0,
                unsent_max: core.plan.channel.unsent_max,
                has_news: false,
                tainted: number >= core.plan.channels
                    || self.kind == Kind::Client { mutating: true },
            }),
        };
        let of_shard = self.channels.iter().enumerate().filter_map(of_shard);
        of_shard.chain(self.runtime.iter().flat_map(|runtime| runtime.held())).collect()
    }

    /// The poll sets of its sockets.
    pub(crate) fn sets(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.set), self.runtime_set()].into_iter().flatten()
    }

    /// The poll set that its runtime hears of.
    pub(crate) fn runtime_set(&self) -> Option<usize> {
        self.runtime.as_ref()?.set()
    }

    /// Whether it would do something if it ran now.
    pub(crate) fn has_work(&self, core: &Core, net: &Net) -> bool {
        self.runtime_set().is_some_and(|set| net.has_news(set))
            || self.runtime.as_ref().is_some_and(|runtime| runtime.is_due())
            || self.has_tasks(core, net)
    }

    /// The same, without what is new of the sockets of its runtime.
    pub(crate) fn has_tasks(&self, core: &Core, net: &Net) -> bool {
        let Some(shard) = &self.shard else { return false };
        debug_assert_eq!(self.timer, self.asked_timer(core), "nothing else moves it");
        self.again
            || !self.actions.is_empty()
            || shard.has_news()
            || sim::is_rung(&self.doorbell)
            || net.has_news(self.set)
            || self.timer.is_some_and(|at| at <= core.now())
    }
}

/// Begins a life of a server whose shards, which are these hosts, have a mesh.
pub(crate) fn start_meshed(hosts: &mut [Host], core: &Rc<Core>, net: &Net, ledger: &Rc<Ledger>) {
    let Some(mesh) = &core.plan.mesh else { return };
    let count = u16::try_from(hosts.len()).unwrap_or(1);
    let infos = (0..count).map(|id| ShardInfo { id: ShardId(id), count, cpu: None });
    let mut members = Vec::new();
    for (host, info) in hosts.iter_mut().zip(infos) {
        host.doorbell = new_doorbell(core);
        members.push((info, Arc::clone(&host.doorbell)));
    }
    for (host, end) in hosts.iter_mut().zip(sim::mesh_of(&members, mesh.sizes)) {
        host.begin(core, net, ledger, Some(end));
        let after = core.mesh.between(0, mesh.starts_within);
        let (host, life) = (host.number, host.lives);
        core.after(after, Event::Serve { host, life });
    }
    let first = hosts.first().and_then(|host| host.shard.as_ref());
    ledger.meshes.borrow_mut().extend(first.map(|shard| shard.mesh_watch()));
}

fn new_doorbell(core: &Core) -> Arc<Doorbell> {
    match sim::doorbell() {
        Ok(doorbell) => doorbell,
        // Without it there is no shard: the run can prove nothing.
        Err(error) => {
            core.violated(Violated::Panic, || format!("no eventfd: {error}"));
            std::panic::panic_any(format!("the system has no eventfd left: {error}"))
        }
    }
}
