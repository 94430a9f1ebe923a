//! One host: the shards that run on it, between its start and its end.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use corewire_engine::testing::sim::{self, SimConfig, SimMesh, SimShard};
use corewire_engine::{Budgets, ClassShares, Doorbell, MadeDispatch, Task, spawn};
use corewire_proto::{ServerConfig, ShardId, ShardInfo};

use crate::ground::MS;
use crate::hosts::observed::{Observed, Pending};
use crate::net::Net;
use crate::net::endpoint::{Accepted, SimIo};
use crate::record::{Change, Note};
use crate::role::Role;
use crate::state::SimState;

/// What one turn of a shard costs, in ns.
const TURN: (u64, u64) = (1_000, 10_000);

/// How soon a server's shard must have made its services, in ns: as in production.
pub(crate) const START_WITHIN: u64 = 30_000 * MS;

/// What a turn has shown that ends the run.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A server of the test's first hosts does not start.
    CannotStart(String),
    /// A shard cannot go on.
    Io(io::Error),
}

/// A shard that runs.
struct Running {
    shard: Box<SimShard<SimIo<SimState>>>,
    doorbell: Arc<Doorbell>,
    set: usize,
    listeners: Vec<usize>,
    /// It does nothing before this time.
    busy_until: u64,
    timer: Option<u64>,
    /// Its last turn left work.
    again: bool,
    /// Its services, until they are made.
    making: Option<Task<<MadeDispatch as Future>::Output>>,
    /// The code of a client's host.
    main: Option<Task<()>>,
    pending: Pending,
}

/// A host.
pub(crate) struct Machine {
    number: usize,
    role: Role,
    shards: Vec<Running>,
    lives: u64,
    /// It is stopped, by the pause with this number.
    stopped: Option<u64>,
    pauses: u64,
    draining: bool,
    /// Why it did not start when it was last to.
    why_down: Option<String>,
}

impl Machine {
    pub(crate) fn new(number: usize, role: Role) -> Self {
        Self {
            number,
            role,
            shards: Vec::new(),
            lives: 0,
            stopped: None,
            pauses: 0,
            draining: false,
            why_down: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Whether its services are still being made.
    pub(crate) fn is_starting(&self) -> bool {
        self.shards.iter().any(|running| running.making.is_some())
    }

    /// Begins a life of the host.
    pub(crate) fn start(&mut self, state: &Rc<SimState>, net: &Net<SimState>) -> io::Result<()> {
        self.lives += 1;
        (self.stopped, self.draining, self.why_down) = (None, false, None);
        state.note_host(self.number, Change::Started);
        let role = self.role.clone();
        let count = if let Role::Server(server) = &role { server.shards() } else { 1 };
        let infos = (0..count).map(|id| ShardInfo { id: ShardId(id), count, cpu: None });
        let members = infos.map(|info| Ok((info, sim::doorbell()?)));
        let members = members.collect::<io::Result<Vec<_>>>()?;
        for (mesh, member) in sim::mesh(&members).into_iter().zip(members) {
            let running = self.start_shard(state, net, &role, member, mesh)?;
            self.shards.push(running);
        }
        self.show(state);
        Ok(())
    }

    fn start_shard(
        &self,
        state: &Rc<SimState>,
        net: &Net<SimState>,
        role: &Role,
        (info, doorbell): (ShardInfo, Arc<Doorbell>),
        mesh: SimMesh,
    ) -> io::Result<Running> {
        let set = net.add_set();
        // Ids of connections are never used twice.
        let first = (self.number as u64) << 32 | self.lives << 16 | u64::from(info.id.0);
        let connection_ids = (first, u64::from(info.count));
        let accepted = Accepted { next: first, step: connection_ids.1, closed: Vec::new() };
        let io = SimIo {
            core: Rc::clone(state),
            net: net.clone(),
            set,
            host: self.number,
            callers: self.number,
            doorbell: Arc::clone(&doorbell),
            accepted: Rc::new(RefCell::new(accepted)),
            mutating: false,
            scratch: Vec::new(),
        };
        let config = sim_config(role, info, connection_ids);
        let shard = SimShard::starting(io, config, Arc::clone(&doorbell), mesh)?;
        shard.set_chance(state.dice.word());
        let now = state.clock.instant();
        let making = match role {
            Role::Server(server) => Some(shard.enter(now, || spawn((server.make)(info)))),
            Role::Client(_) | Role::Test => None,
        };
        let main = match role {
            Role::Client(begin) => Some(shard.enter(now, || spawn(begin()))),
            Role::Server(_) | Role::Test => None,
        };
        Ok(Running {
            shard: Box::new(shard),
            doorbell,
            set,
            listeners: Vec::new(),
            busy_until: 0,
            timer: None,
            again: true,
            making,
            main,
            pending: Pending::default(),
        })
    }

    /// Runs a future as a task of the host's first shard.
    pub(crate) fn spawn<F>(&mut self, state: &SimState, future: F) -> Option<Task<F::Output>>
    where
        F: Future + 'static,
    {
        let running = self.shards.first_mut()?;
        running.again = true;
        Some(running.shard.enter(state.clock.instant(), || spawn(future)))
    }

    /// When its shard with this number would do something, if it ran; `None` if nothing is to be done.
    fn wakes_at(&self, running: &Running, now: u64, net: &Net<SimState>) -> Option<u64> {
        if self.stopped.is_some() {
            return None;
        }
        let is_ready = running.again
            || running.shard.has_news()
            || sim::is_rung(&running.doorbell)
            || net.has_news(running.set);
        let at = if is_ready { Some(now) } else { running.timer };
        at.map(|at| at.max(running.busy_until))
    }

    /// When its shards would do something, those that would, by their numbers.
    pub(crate) fn work<'a>(
        &'a self,
        now: u64,
        net: &'a Net<SimState>,
    ) -> impl Iterator<Item = (u64, usize)> + 'a {
        let work = move |(index, running)| Some((self.wakes_at(running, now, net)?, index));
        self.shards.iter().enumerate().filter_map(work)
    }

    /// Whether a timer of its shard with this number is due.
    pub(crate) fn is_due(&self, index: usize, now: u64) -> bool {
        let timer = self.shards.get(index).and_then(|running| running.timer);
        timer.is_some_and(|timer| timer <= now)
    }

    /// Gives one of its shards a turn.
    pub(crate) fn turn(
        &mut self,
        index: usize,
        state: &Rc<SimState>,
        net: &Net<SimState>,
    ) -> Result<(), Broken> {
        let number = self.number;
        let Some(running) = self.shards.get_mut(index) else { return Ok(()) };
        let now = state.clock.instant();
        let worked = running.shard.step(now, false).map_err(Broken::Io)?;
        state.note(Note::Turn { host: number, shard: index, worked });
        running.again = worked;
        if running.main.as_ref().is_some_and(Task::is_finished)
            && let Some(main) = running.main.take()
        {
            state.note_host(number, Change::Finished);
            running.shard.enter(now, || outcome(main));
        }
        if running.making.as_ref().is_some_and(Task::is_finished)
            && let Some(making) = running.making.take()
        {
            let made = running.shard.enter(now, || outcome(making));
            running.again = true;
            match made {
                Some(Ok(dispatch)) => {
                    let dispatch = Observed::new(
                        dispatch,
                        Rc::clone(state),
                        number,
                        Rc::clone(&running.pending),
                    );
                    let addresses = state.addresses(number).into_iter();
                    running.listeners = addresses.map(|at| net.listen(at, running.set)).collect();
                    let listeners = running.listeners.clone();
                    running.shard.serve(listeners, Rc::new(dispatch)).map_err(Broken::Io)?;
                    state.note_host(number, Change::Serves);
                }
                failed => {
                    let why = match failed {
                        Some(Err(error)) => error.to_string(),
                        _ => "its services were not made".to_owned(),
                    };
                    state.note_host(number, Change::CannotStart);
                    let told = format!("'{}' does not start: {why}", state.name(number));
                    self.end(state, net);
                    self.why_down = Some(why);
                    return Err(Broken::CannotStart(told));
                }
            }
        }
        let Some(running) = self.shards.get_mut(index) else { return Ok(()) };
        running.timer = running.shard.next_timer().map(|timer| state.clock.of(timer));
        running.busy_until = state.clock.now() + state.dice.between(TURN.0, TURN.1);
        if self.draining && self.shards.iter().all(|running| running.shard.is_drained()) {
            state.note_host(number, Change::Drained);
            self.end(state, net);
        }
        Ok(())
    }

    /// Its processes end at once: sockets close, and nothing that they hold is asked.
    pub(crate) fn end(&mut self, state: &SimState, net: &Net<SimState>) {
        for running in self.shards.drain(..) {
            running.listeners.iter().for_each(|listener| net.retire(*listener));
            let now = state.clock.instant();
            running.shard.enter(now, || drop((running.making, running.main)));
            running.shard.end(now);
        }
        (self.stopped, self.draining) = (None, false);
        self.show(state);
    }

    /// Stops accepting, finishes what is in flight, and ends.
    pub(crate) fn drain(&mut self, state: &SimState) {
        let Role::Server(server) = &self.role else { return };
        if self.draining || self.shards.is_empty() {
            return;
        }
        self.draining = true;
        state.note_host(self.number, Change::Drains);
        let within: Duration = server.config.drain_within;
        self.shards.iter().for_each(|running| running.shard.drain(within));
    }

    /// Runs nothing until it is told to go on; returns the number of this pause.
    pub(crate) fn stop(&mut self, state: &SimState) -> u64 {
        self.pauses += 1;
        if self.stopped.replace(self.pauses).is_none() {
            state.note_host(self.number, Change::Stopped);
        }
        self.pauses
    }

    /// Goes on, if it is stopped by this pause, or by any.
    pub(crate) fn go_on(&mut self, state: &SimState, pause: Option<u64>) {
        if self.stopped.is_some() && (pause.is_none() || self.stopped == pause) {
            self.stopped = None;
            state.note_host(self.number, Change::Continued);
        }
    }

    fn show(&self, state: &SimState) {
        if let Some(named) = state.hosts.borrow().get(self.number) {
            named.is_up.set(self.is_up());
        }
    }

    /// What it waits for, for a report.
    pub(crate) fn describe(&self, state: &SimState) -> String {
        let name = state.name(self.number);
        if self.shards.is_empty() {
            let why = self.why_down.as_ref().map(|why| format!(", it did not start: {why}"));
            return format!("  {name}: down{}", why.unwrap_or_default());
        }
        let mut parts = Vec::new();
        match &self.role {
            Role::Test => parts.push("the test's future waits".to_owned()),
            Role::Client(_) if self.shards.iter().any(|running| running.main.is_some()) => {
                parts.push("its code waits".to_owned());
            }
            Role::Client(_) => parts.push("its code has finished".to_owned()),
            Role::Server(_) if self.is_starting() => parts.push("makes its services".to_owned()),
            Role::Server(_) => {}
        }
        if self.stopped.is_some() {
            parts.push("stopped".to_owned());
        }
        if self.draining {
            parts.push("drains".to_owned());
        }
        let connections: usize =
            self.shards.iter().map(|running| running.shard.tally().connections).sum();
        parts.push(format!("connections: {connections}"));
        let methods = state.methods.borrow();
        for running in &self.shards {
            for (call, method) in running.pending.borrow().iter() {
                let name = methods.get(method).map(ToString::to_string).unwrap_or_default();
                parts.push(format!("{name} pends (handler {call})"));
            }
        }
        format!("  {name}: {}", parts.join(", "))
    }
}

/// The value of a task that is over; its panic goes on here.
fn outcome<T>(task: Task<T>) -> Option<T> {
    let mut task = std::pin::pin!(task);
    match Pin::new(&mut task).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn sim_config(role: &Role, info: ShardInfo, connection_ids: (u64, u64)) -> SimConfig {
    let plain = ServerConfig::default();
    match role {
        Role::Server(server) => SimConfig {
            info,
            limits: server.config.limits,
            timeouts: server.config.timeouts,
            budgets: server.config.budgets,
            connection_ids,
            streams: true,
            one_way_pending_max: server.config.one_way_pending_max,
            class_shares: server.config.class_shares,
        },
        Role::Client(_) | Role::Test => SimConfig {
            info,
            limits: plain.limits,
            timeouts: plain.timeouts,
            budgets: Budgets::default(),
            connection_ids,
            streams: plain.streams,
            one_way_pending_max: plain.one_way_pending_max,
            class_shares: ClassShares::default(),
        },
    }
}
