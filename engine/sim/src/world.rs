//! The world: hosts, network, clock. It takes one step after another until the run is over.

pub(crate) mod cases;
pub(crate) mod check;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use corewire_engine::testing::sim::SimShard;

use crate::core::trace::{Note, Violated};
use crate::core::{Core, Event};
use crate::hosts::client;
use crate::hosts::errand::Errands;
use crate::hosts::host::{self, Action, Host, Kind};
use crate::hosts::runtime::{Runtime, Seat, Shells};
use crate::judge::ledger::{Ledger, State};
use crate::net::Net;
use crate::net::endpoint::SimIo;
use crate::peers::hostile::Hostile;
use crate::peers::impostor::Impostor;
use crate::plan::mesh::MeshPlan;
use crate::plan::{MS, SECOND};

/// With more steps than this without time passing, it never will.
const STEPS_AT_ONCE_MAX: u32 = 20_000;

/// The most turns in a row that report work while nothing moved.
const IDLE_TURNS_MAX: u32 = 64;

/// The same where few parcels of a mesh are taken in each turn, and a stream may be many.
const MESHED_TURNS_MAX: u32 = 8192;

/// Within this time, in ns, calls must make some progress, or end.
const PROGRESS_WITHIN: u64 = 30 * SECOND;

/// How many times as long a phase may last while calls make progress.
const PROGRESS_FACTOR: u64 = 10;

/// Ids of the calls made after the trouble begin here.
const PROBE_IDS: u64 = 1 << 32;

/// Which hosts would do something if they ran.
#[derive(Clone, Copy, Debug)]
struct Work {
    /// The hosts that may run now, one bit each.
    ready: u64,
    /// When the first of the other hosts may run.
    next_busy: Option<u64>,
}

/// Makes what drives the channels of a client host.
pub(crate) type MakeRuntime = fn(&Rc<Core>, &Net, Seat) -> Rc<dyn Runtime>;

/// The kind of the next client host's channels.
fn kind_of_next(core: &Core) -> Shells {
    match core.shells {
        Shells::Mixed => Shells::KINDS[core.side.below(Shells::KINDS.len())],
        kind => kind,
    }
}

pub(crate) struct World {
    pub(crate) core: Rc<Core>,
    pub(crate) net: Net,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) hosts: Vec<Host>,
    hostile: Vec<Hostile>,
    impostors: Vec<Impostor>,
    steps_at_once: u32,
    pub(crate) nudges_left: u32,
    probes: u64,
    /// Whether servers that were drained come back.
    restarts: bool,
}

impl World {
    /// `runtime` makes what drives the channels of a client host other than a shard's.
    pub(crate) fn new(core: Rc<Core>, runtime: MakeRuntime) -> Self {
        let net = Net::new(Rc::clone(&core));
        let mut world = Self {
            ledger: Rc::default(),
            hosts: Vec::new(),
            hostile: Vec::new(),
            impostors: Vec::new(),
            steps_at_once: 0,
            nudges_left: 4,
            probes: 0,
            restarts: true,
            net,
            core,
        };
        world.populate(runtime);
        world
    }

    fn populate(&mut self, runtime: MakeRuntime) {
        let core = Rc::clone(&self.core);
        let plan = &core.plan;
        let mut kinds = Vec::new();
        for address in 0..plan.servers {
            kinds.extend((0..plan.shards).map(|index| Kind::Server { address, index }));
        }
        for client in 0..plan.clients {
            kinds.push(Kind::Client { mutating: plan.mutating && client == 0 });
        }
        let servers = plan.servers * plan.shards;
        // They come last, so that the numbers of the others are the same for every kind.
        let mut threads: Vec<Host> = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut host = Host::new(number, kind, &core);
            if plan.mesh.is_none() || !host.is_server() {
                host.start(&core, &self.net, &self.ledger);
            }
            if let Kind::Client { mutating } = kind {
                let seat = match kind_of_next(&core) {
                    Shells::Shard | Shells::Mixed => None,
                    Shells::Tokio => Some(Seat::Tasks { host: number, mutating }),
                    Shells::Blocking => Some(Seat::Threads { host: number, mutating }),
                    Shells::Thread => {
                        let thread = servers + plan.clients + threads.len();
                        let kind = Kind::Thread { client: number, mutating };
                        threads.push(Host::new(thread, kind, &core));
                        let thread = threads.last_mut();
                        thread
                            .and_then(|thread| thread.start_thread(&core, &self.net, &self.ledger))
                            .map(|thread| Seat::Thread { thread, mutating })
                    }
                };
                host.runtime = seat.map(|seat| runtime(&core, &self.net, seat));
                host.enter(&core, |host| {
                    (0..plan.channels).for_each(|channel| host.make_channel(&core, channel));
                    for impostor in 0..plan.impostors {
                        let to = plan.servers + impostor;
                        host.make_channel_to(&core, plan.channels + impostor, to);
                    }
                });
                host.note_timer(&core);
            }
            self.hosts.push(host);
        }
        if let Some(mesh) = &plan.mesh {
            self.populate_mesh(mesh);
        }
        let planned = self.hosts.len();
        self.hosts.append(&mut threads);
        client::plan_calls(&core);
        let at = || core.dice.between(0, plan.span);
        for _ in 0..plan.drains {
            core.agenda.plan(at(), Event::Drain { host: core.dice.below(servers) });
        }
        for _ in 0..plan.troubles {
            core.agenda.plan(at(), Event::Trouble);
        }
        for _ in 0..plan.freezes {
            let (host, ns) = (core.dice.below(planned), core.dice.spread(MS, 30 * SECOND));
            core.agenda.plan(at(), Event::Freeze { host, ns });
        }
        for _ in 0..plan.jumps {
            core.agenda.plan(at(), Event::Jump { ns: core.dice.spread(MS, 200 * SECOND) });
        }
        for _ in 0..plan.renewals {
            let host = servers + core.dice.below(plan.clients);
            let channel = core.dice.below(plan.channels);
            core.agenda.plan(at(), Event::Renew { host, channel });
        }
        for peer in 0..plan.hostile {
            self.hostile.push(Hostile::default());
            core.agenda.plan(at(), Event::Hostile { peer });
        }
        for peer in 0..plan.impostors {
            let impostor = Impostor::new(&self.net, plan.servers + peer);
            self.impostors.push(impostor);
            core.agenda.plan(0, Event::Impostor { peer });
        }
        core.agenda.plan(plan.span, Event::Heal);
    }

    /// Starts the servers whose shards have a mesh, and plans what happens to these.
    fn populate_mesh(&mut self, mesh: &MeshPlan) {
        let core = Rc::clone(&self.core);
        for address in 0..core.plan.servers {
            core.errands.borrow_mut().push(Errands::new(Arc::clone(&core.errand_token)));
            self.start_meshed(address);
        }
        for _ in 0..mesh.deaths {
            let host = core.mesh.below(core.plan.servers * core.plan.shards);
            core.agenda.plan(core.mesh.between(0, core.plan.span), Event::Die { host });
        }
    }

    /// Begins a life of the server at this address.
    fn start_meshed(&mut self, address: usize) {
        let group = self.group(address * self.core.plan.shards);
        let hosts = &mut self.hosts[group];
        host::start_meshed(hosts, &self.core, &self.net, &self.ledger);
    }

    /// The hosts of the server that this host is of.
    fn group(&self, host: usize) -> Range<usize> {
        let shards = if self.core.plan.mesh.is_some() { self.core.plan.shards } else { 1 };
        let first = host - host % shards;
        first..first + shards
    }

    /// Drains the server that this host is of, if it is there.
    fn drain(&mut self, host: usize) {
        let group = self.group(host);
        self.hosts[group].iter_mut().for_each(|host| drain(host, &self.core));
    }

    /// A shard of a server dies. Those who watch over the others have it end soon.
    fn die(&mut self, number: usize) {
        let core = Rc::clone(&self.core);
        let host = &mut self.hosts[number];
        let Some(shard) = &host.shard else { return };
        if !core.faulty.get() {
            return;
        }
        core.note(Note::Died { host: number });
        core.has_lost_shard.set(true);
        *self.ledger.one_way_dropped.borrow_mut() += shard.counters().one_way_dropped.value();
        core.dying.set(Some(number));
        host.end(&core, &self.net);
        core.dying.set(None);
        check::ended(host, &core, &self.ledger);
        core.after(core.mesh.spread(MS, 3 * SECOND), Event::Drain { host: number });
        self.restart_if_ended(number);
    }

    /// Plans the next life of a server when all of its shards have ended.
    fn restart_if_ended(&self, number: usize) {
        let group = self.group(number);
        if self.restarts && self.hosts[group].iter().all(|host| host.shard.is_none()) {
            let after = self.core.dice.spread(MS, SECOND);
            self.core.after(after, Event::Restart { host: number });
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) {
        let core = Rc::clone(&self.core);
        let plan = &core.plan;
        let settle = plan.settle_within();
        self.phase("trouble", u64::MAX, |world| !world.core.faulty.get());
        self.phase_of_calls("settle", settle, PROGRESS_FACTOR, Self::is_settled);
        self.probe();
        self.phase_of_calls("rest", settle, PROGRESS_FACTOR, Self::is_settled);
        self.release();
        self.phase_of_calls("held", settle, PROGRESS_FACTOR, |world| {
            !world.ledger.is_open(true) && world.ledger.closings.get() == 0
        });
        self.hosts.iter().filter_map(|host| host.runtime.as_ref()).for_each(|it| it.hear_all());
        self.phase("balance", settle, |world| check::amiss(world).is_none());
        check::channels_are_empty(self);
        for host in self.hosts.iter_mut().filter(|host| host.is_client()) {
            host.actions.push_back(Action::Release);
        }
        self.phase("leave", settle, |world| {
            let mut clients = world.hosts.iter().filter(|host| !host.is_server());
            clients.all(|host| check::connections(host) == 0 && host.actions.is_empty())
        });
        self.restarts = false;
        for host in self.hosts.iter_mut().filter(|host| host.is_server()) {
            drain(host, &core);
        }
        // One more second for servers that are finished and have not left yet.
        self.phase("drain", plan.drain_within + 3 * SECOND, |world| {
            world.hosts.iter().all(|host| !host.is_server() || host.shard.is_none())
        });
        check::nothing_is_left(self);
    }

    /// Every call has ended, every server host is alive, no trouble is left.
    fn is_settled(&mut self) -> bool {
        let up = |host: &Host| {
            host.shard.is_some() && !host.draining && host.serves && host.actions.is_empty()
        };
        // A burst of calls may begin a little after the end of the trouble.
        let all_begun = self.core.now() > self.core.plan.span + 2 * MS;
        all_begun && !self.ledger.is_open(false) && self.hosts.iter().all(up)
    }

    /// Streams that were stalled on purpose may go on.
    fn release(&self) {
        self.core.released.set(true);
        let calls = self.ledger.calls.borrow();
        for (id, waker) in self.ledger.wakers.borrow().iter() {
            if calls.get(id).is_some_and(|call| call.held) {
                waker.wake_by_ref();
            }
        }
        let works = self.ledger.works.borrow();
        works.values().filter_map(|work| work.waker.as_ref()).for_each(Waker::wake_by_ref);
    }

    /// A calm call on each channel must succeed, after some tries if its connection was lost.
    fn probe(&mut self) {
        let core = Rc::clone(&self.core);
        // Calm callers do not give up.
        core.calm.set(true);
        let settle = core.plan.settle_within();
        let clients: Vec<usize> =
            (0..self.hosts.len()).filter(|&host| self.hosts[host].is_client()).collect();
        for host in clients {
            for channel in 0..core.plan.channels {
                // A connection that is silent, perhaps while it drains, must be noticed first.
                let until = core.now() + settle;
                let mut succeeded = false;
                while !succeeded && core.now() < until {
                    if core.trace.is_violated() {
                        return;
                    }
                    self.probes += 1;
                    let id = PROBE_IDS + self.probes;
                    self.hosts[host].actions.push_back(Action::Probe(id, channel));
                    self.phase("probe", settle, |world| {
                        !world.ledger.is_open(false) && world.hosts[host].actions.is_empty()
                    });
                    succeeded = check::has_succeeded(&self.ledger, id);
                    if succeeded {
                        break;
                    }
                    let wait =
                        u64::try_from(core.plan.channel.backoff_max.as_nanos()).unwrap_or(SECOND);
                    let until = core.now() + wait;
                    self.phase("back-off", 2 * wait + SECOND, |world| world.core.now() >= until);
                }
                // A blocking channel whose server goes away is bound to it by the streams that are left there.
                let host_is_bound = self.hosts[host].blocks() && self.ledger.is_open(true);
                if !succeeded && !core.plan.may_be_full() && !host_is_bound {
                    core.violated(Violated::Recovery, || {
                        format!("no call succeeds on channel {channel} of host {host}")
                    });
                }
            }
        }
    }

    /// Steps until `done`; after `within` ns, reports what is not done.
    fn phase(&mut self, name: &'static str, within: u64, done: impl FnMut(&mut Self) -> bool) {
        self.phase_of_calls(name, within, 1, done);
    }

    /// Like [`phase`](Self::phase), but while calls make progress it may last `factor` times as long: large
    /// messages may pass through a narrow pipe.
    fn phase_of_calls(
        &mut self,
        name: &'static str,
        within: u64,
        factor: u64,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let core = Rc::clone(&self.core);
        if core.trace.is_violated() {
            return;
        }
        core.note(Note::Phase(name));
        let mut until = core.now().saturating_add(within);
        let last = core.now().saturating_add(within.saturating_mul(factor));
        let mut steps = *self.ledger.steps.borrow();
        while !core.trace.is_violated() && !done(self) {
            let seen = *self.ledger.steps.borrow();
            if core::mem::replace(&mut steps, seen) != seen {
                until = until.max(core.now().saturating_add(PROGRESS_WITHIN)).min(last);
            }
            // Hosts sleep until their timers: at least one turn now and then shows the end of the time.
            self.step(until);
            if core.now() >= until && !core.trace.is_violated() && !done(self) {
                match check::amiss(self).filter(|_| name == "balance") {
                    Some((rule, what)) => core.violated(rule, || what),
                    None => core.violated(Violated::Unfinished, || check::unfinished(self, name)),
                }
            }
        }
    }

    /// One event, one host's turn, or a jump of the clock to the next of either.
    fn step(&mut self, until: u64) {
        let core = Rc::clone(&self.core);
        let now = core.now();
        let Work { ready, next_busy } = self.work(now);
        let due = core.agenda.next().is_some_and(|at| at <= now);
        self.steps_at_once += 1;
        if self.steps_at_once > STEPS_AT_ONCE_MAX {
            core.violated(Violated::Livelock, || "time does not pass any more".to_owned());
        } else if due && (ready == 0 || core.dice.chance(500_000)) {
            if let Some(event) = core.agenda.pop_due(now) {
                core.note(Note::Event(event));
                self.handle(event);
            }
        } else if ready != 0 {
            let count = ready.count_ones() as usize;
            let at = if core.plan.shuffle { core.dice.below(count) } else { 0 };
            // Clear the lowest bits until the drawn one is the lowest.
            let drawn = (0..at).fold(ready, |ready, _| ready & (ready - 1));
            self.run_host(drawn.trailing_zeros() as usize);
        } else {
            self.pass_time(until, next_busy);
        }
    }

    /// Which hosts would do something.
    fn work(&self, now: u64) -> Work {
        let mut work = Work { ready: 0, next_busy: None };
        for (number, host) in self.hosts.iter().enumerate() {
            if !host.has_work(&self.core, &self.net) {
                continue;
            }
            if host.busy_until <= now {
                work.ready |= 1 << number;
            } else {
                let sooner = work.next_busy.unwrap_or(u64::MAX).min(host.busy_until);
                work.next_busy = Some(sooner);
            }
        }
        work
    }

    fn pass_time(&mut self, until: u64, next_busy: Option<u64>) {
        let core = Rc::clone(&self.core);
        let timers = self.hosts.iter().filter_map(|host| Some(host.timer?.max(host.busy_until)));
        let next = [timers.min(), next_busy, core.agenda.next(), Some(until)];
        let next = next.into_iter().flatten().min().unwrap_or(until);
        if next_busy.is_none() {
            check::quiet(self, next);
        }
        core.clock.advance_to(next.max(core.now()));
        self.steps_at_once = 0;
    }

    fn handle(&mut self, event: Event) {
        let core = Rc::clone(&self.core);
        let harmful = matches!(
            event,
            Event::Drain { .. }
                | Event::Die { .. }
                | Event::Trouble
                | Event::Freeze { .. }
                | Event::Jump { .. }
        );
        core.disturbed.set(core.disturbed.get() || harmful);
        match event {
            Event::Net(event) => self.net.handle(event),
            Event::Wake { work, foreign } => self.handle_wake(work, foreign),
            Event::Call { call } => {
                let servers = core.plan.servers * core.plan.shards;
                let host = servers + core.dice.below(core.plan.clients);
                self.hosts[host].actions.push_back(Action::Call(call));
            }
            Event::GiveUp { call } => {
                let host = self.ledger.calls.borrow().get(&call).map(|call| call.host);
                if let Some(host) = host {
                    self.hosts[host].actions.push_back(Action::GiveUp(call));
                }
            }
            Event::Drain { host } => self.drain(host),
            Event::Restart { host } if core.plan.mesh.is_some() => {
                self.start_meshed(host / core.plan.shards);
            }
            Event::Restart { host } => self.hosts[host].start(&core, &self.net, &self.ledger),
            Event::Serve { host, life } => self.hosts[host].serve(&core, &self.net, life),
            Event::Die { host } => self.die(host),
            Event::Trouble => self.net.trouble(),
            Event::Tamper { wire, to, how } => self.net.tamper(wire, to, how),
            Event::Freeze { host, ns } => {
                self.freeze(host, ns);
                // A process is stopped with its threads; one that waits for a processor is alone.
                let is_of = |other: &Host| matches!(other.kind, Kind::Thread { client, .. } if client == host);
                if let Some(thread) = self.hosts.iter().position(is_of)
                    && core.side.chance(700_000)
                {
                    self.freeze(thread, ns);
                }
            }
            Event::Jump { ns } => {
                for host in 0..self.hosts.len() {
                    core.absences.borrow_mut().begin(host, core.now(), core.now() + ns);
                }
                core.jumped.set(core.jumped.get().saturating_add(ns));
                core.clock.advance_to(core.now() + ns);
            }
            Event::Hostile { peer } => self.hostile[peer].act(peer, &core, &self.net),
            Event::Impostor { peer } => self.impostors[peer].act(peer, &core, &self.net),
            Event::Renew { host, channel } => {
                self.hosts[host].actions.push_back(Action::Renew(channel));
            }
            Event::Heal => {
                core.faulty.set(false);
                // Frozen hosts go on.
                for host in &mut self.hosts {
                    host.busy_until = host.busy_until.min(core.now());
                    core.absences.borrow_mut().end(host.number, core.now());
                }
                self.net.heal();
            }
        }
    }

    fn freeze(&mut self, host: usize, ns: u64) {
        let now = self.core.now();
        let until = self.hosts[host].busy_until.max(now + ns);
        self.hosts[host].busy_until = until;
        self.core.absences.borrow_mut().begin(host, now, until);
    }

    /// A handler's timer fired: on its own host, or on another thread.
    fn handle_wake(&mut self, work: u64, foreign: bool) {
        let late = self.ledger.stale.borrow_mut().remove(&work);
        if let Some(waker) = late {
            waker.wake();
            return;
        }
        let host = self.ledger.works.borrow().get(&work).map(|work| work.host);
        match host {
            Some(_) if foreign => check::wake(&self.ledger, work),
            Some(host) => self.hosts[host].actions.push_back(Action::Wake(work)),
            None => {}
        }
    }

    fn run_host(&mut self, number: usize) {
        let core = Rc::clone(&self.core);
        let ledger = Rc::clone(&self.ledger);
        let host = &mut self.hosts[number];
        #[cfg(feature = "canary")]
        if let Some(bug) = core.bug_at_clients.get() {
            corewire_proto::canary::plant(Some(bug).filter(|_| !host.is_server()));
        }
        if let Some(runtime) = host.runtime.as_ref().filter(|_| core.side.chance(500_000)) {
            runtime.expire();
        }
        if let Some(runtime) = host.runtime.clone()
            && (runtime.is_due()
                || host.runtime_set().is_some_and(|set| self.net.has_news(set))
                    // A runtime that has tasks to run looks at its sockets only now and then.
                    && (!host.has_tasks(&core, &self.net) || core.side.chance(700_000)))
        {
            host.enter(&core, |_| runtime.hear());
        }
        if host.actions.is_empty() {
            self.turn(number);
            return;
        }
        host.enter(&core, |host| {
            while let Some(action) = host.actions.pop_front() {
                act(host, &core, &ledger, action);
            }
        });
        self.turn(number);
    }

    fn turn(&mut self, number: usize) {
        let core = Rc::clone(&self.core);
        let host = &mut self.hosts[number];
        let Some(shard) = &mut host.shard else { return };
        if host.busy_until > core.now() {
            // It was made to run before its time.
            core.absences.borrow_mut().end(number, core.now());
        }
        let mesh = core.plan.mesh.as_ref().filter(|_| matches!(host.kind, Kind::Server { .. }));
        if let Some(mesh) = mesh
            && host.sees_all_at <= core.now()
        {
            let unseen = mesh.unseen(&core.mesh);
            shard.delay(unseen);
            let until = core.now() + core.mesh.spread(1_000, mesh.unseen_for);
            host.sees_all_at = if unseen > 0 { until } else { 0 };
        }
        let spins = core.dice.chance(core.plan.spin);
        let worked = match shard.step(core.clock.instant(), spins) {
            Ok(worked) => worked,
            Err(error) => {
                core.violated(Violated::Panic, || format!("a turn failed: {error}"));
                false
            }
        };
        core.note(Note::Turn { host: number, worked });
        host.again = worked;
        if let Some(mesh) = mesh
            && !worked
            && core.mesh.chance(mesh.sleeps)
        {
            shard.sleep();
        }
        // Callers that were woken have their turn first.
        let has_ready = host.shard.as_ref().is_some_and(|shard| shard.has_news());
        if host.blocks() && !has_ready {
            host.enter(&core, |host| host.runtime.iter().for_each(|runtime| runtime.rest()));
        }
        client::reap(host, &core, &self.ledger);
        host.note_timer(&core);
        let (least, most) = core.plan.turn;
        host.busy_until = core.now() + core.dice.between(least, most);
        if core.fault(core.plan.rates.freeze) {
            host.busy_until += core.dice.spread(MS, 10 * SECOND);
            core.absences.borrow_mut().begin(number, core.now(), host.busy_until);
        }
        // A turn may be spent on frames that came earlier and that have no effect.
        let tally = host.shard.as_ref().map(|shard| shard.tally()).unwrap_or_default();
        let moved = self.net.moved() + self.net.arrivals() + *self.ledger.steps.borrow();
        // A thread that waits for a full socket asks again after a while.
        let moved = (moved + if host.blocks() { core.now() } else { 0 }, tally.unread);
        host.idle_turns = if worked && moved == host.moved { host.idle_turns + 1 } else { 0 };
        host.moved = moved;
        let takes_few = mesh.is_some_and(|mesh| mesh.sizes.taken_at_once < 64);
        if host.idle_turns > if takes_few { MESHED_TURNS_MAX } else { IDLE_TURNS_MAX } {
            core.violated(Violated::Livelock, || format!("host {number} turns without end"));
        }
        check::after_turn(self, number, &tally);
        self.end_if_drained(number);
    }

    fn end_if_drained(&mut self, number: usize) {
        let core = Rc::clone(&self.core);
        let host = &mut self.hosts[number];
        let is_meshed = core.plan.mesh.is_some();
        let is_over = |shard: &SimShard<SimIo>| {
            if is_meshed { shard.is_over() } else { shard.is_drained() }
        };
        if !host.draining || !host.shard.as_ref().is_some_and(|shard| is_over(shard)) {
            return;
        }
        core.note(Note::Drained { host: number });
        check::drained(host, &core, &self.net, &self.ledger);
        if is_meshed {
            core.has_lost_shard.set(true);
            if let Some(shard) = &host.shard {
                *self.ledger.one_way_dropped.borrow_mut() +=
                    shard.counters().one_way_dropped.value();
            }
            host.end(&core, &self.net);
            check::ended(host, &core, &self.ledger);
            return self.restart_if_ended(number);
        }
        if let Some(shard) = host.shard.take() {
            host.timer = None;
            *self.ledger.one_way_dropped.borrow_mut() += shard.counters().one_way_dropped.value();
        }
        host.draining = false;
        if self.restarts {
            core.after(core.dice.spread(MS, SECOND), Event::Restart { host: number });
        }
    }

    /// Runs all hosts that have work, whatever they did before, until none has; time stands still.
    pub(crate) fn run_all_now(&mut self) {
        let core = Rc::clone(&self.core);
        for _ in 0..200 {
            let Some(host) =
                (0..self.hosts.len()).find(|&host| self.hosts[host].has_work(&core, &self.net))
            else {
                return;
            };
            self.run_host(host);
            if core.trace.is_violated() {
                return;
            }
        }
    }

    /// Describes the calls that have not been answered.
    pub(crate) fn open_calls(&self) -> String {
        let calls = self.ledger.calls.borrow();
        let open = calls.iter().filter(|(_, call)| call.state == State::Open);
        open.take(4).map(|(id, call)| format!("; call {id}: {call:?}")).collect()
    }
}

fn drain(host: &mut Host, core: &Core) {
    if let Some(shard) = &host.shard
        && !host.draining
    {
        host.draining = true;
        core.note_drain();
        shard.drain(std::time::Duration::from_nanos(core.plan.drain_within));
    }
}

/// Does one thing on the host's own thread, in its shard's context.
fn act(host: &mut Host, core: &Rc<Core>, ledger: &Rc<Ledger>, action: Action) {
    match action {
        Action::Call(id) => client::begin(host, core, ledger, id, None),
        Action::Probe(id, channel) => client::begin(host, core, ledger, id, Some(channel)),
        Action::GiveUp(id) => client::give_up(host, core, ledger, id),
        Action::Wake(work) => check::wake(ledger, work),
        Action::Renew(channel) => {
            client::close(host, core, ledger, channel);
            host.make_channel(core, channel);
        }
        Action::Release => {
            host.channels.clear();
            host.runtime.iter().for_each(|runtime| runtime.release());
        }
    }
}
