//! The run of a user's simulation: one event or one shard's turn after another, until the test has ended.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Waker};

use corewire_engine::Task;

use crate::failure::FailureKind;
use crate::hosts::machine::{Broken, Machine, START_WITHIN};
use crate::net::Net;
use crate::record::{Change, Note};
use crate::role::Role;
use crate::state::{Event, HostOrder, Order, SimState};

/// With more turns in a row than this, while nothing arrives and no timer is due, hosts wake themselves for ever.
const IDLE_STEPS_MAX: u64 = 1_000_000;

pub(crate) struct World {
    state: Rc<SimState>,
    net: Net<SimState>,
    machines: Vec<Machine>,
    steps: u64,
    /// Turns in a row without any event or timer.
    idle_steps: u64,
    /// The shards that may have a turn now, by host: kept for its memory.
    ready: Vec<(usize, usize)>,
    /// The first hosts are being started: all of them must start.
    opening: bool,
}

impl World {
    pub(crate) fn new(state: Rc<SimState>, net: Net<SimState>) -> Self {
        Self {
            state,
            net,
            machines: Vec::new(),
            steps: 0,
            idle_steps: 0,
            ready: Vec::new(),
            opening: true,
        }
    }

    /// Runs `main` on the first host until it ends.
    pub(crate) fn run<F>(&mut self, main: F) -> Result<F::Output, FailureKind>
    where
        F: Future + 'static,
    {
        self.state.orders.borrow_mut().push_front(Order::Start(0, Role::Test));
        self.obey()?;
        let by = self.state.clock.now() + START_WITHIN;
        while self.machines.iter().any(Machine::is_starting) {
            if self.state.clock.now() > by {
                let starting = self.machines.iter().filter(|machine| machine.is_starting());
                let names: Vec<String> =
                    starting.map(|machine| machine.describe(&self.state)).collect();
                return Err(FailureKind::CannotStart(format!(
                    "servers do not start within 30 s:{}",
                    names.concat()
                )));
            }
            self.step()?;
        }
        self.opening = false;
        let test = self.machines.first_mut();
        let spawned = test.and_then(|machine| machine.spawn(&self.state, main));
        let Some(mut main) = spawned else { return Err(FailureKind::Hung) };
        loop {
            if let Some(value) = take(&mut main) {
                return Ok(value);
            }
            if let Err(failure) = self.step() {
                // It is dropped with its host.
                main.detach();
                return Err(failure);
            }
        }
    }

    /// Ends all hosts.
    pub(crate) fn end(&mut self) {
        let Self { state, net, machines, .. } = self;
        machines.iter_mut().for_each(|machine| machine.end(state, net));
        machines.clear();
        state.orders.borrow_mut().clear();
        self.print();
    }

    /// What each host waits for.
    pub(crate) fn describe(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.machines.iter().map(|machine| machine.describe(&self.state)).collect();
        for (one, other) in self.state.cuts() {
            let (one, other) = (self.state.name(one), self.state.name(other));
            lines.push(format!("  {one} and {other} are partitioned"));
        }
        lines
    }

    /// One event, one shard's turn, or a jump of the clock to the next of either.
    fn step(&mut self) -> Result<(), FailureKind> {
        let now = self.state.clock.now();
        self.steps += 1;
        self.idle_steps += 1;
        if self.steps > self.state.step_limit.get() || self.idle_steps > IDLE_STEPS_MAX {
            return Err(FailureKind::Livelock(self.steps));
        }
        let (mut ready, mut next) = (std::mem::take(&mut self.ready), self.state.agenda.next());
        ready.clear();
        for (number, machine) in self.machines.iter().enumerate() {
            for (at, shard) in machine.work(now, &self.net) {
                if at <= now {
                    ready.push((number, shard));
                } else {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
        }
        let is_due = next.is_some_and(|at| at <= now);
        let dice = &self.state.dice;
        if is_due && (ready.is_empty() || dice.chance(500_000)) {
            if let Some(event) = self.state.agenda.pop_due(now) {
                self.handle(event);
            }
        } else if let Some(&(number, shard)) = ready.get(dice.below(ready.len())) {
            self.turn(number, shard)?;
        } else {
            self.pass_time(next)?;
        }
        self.ready = ready;
        self.print();
        Ok(())
    }

    fn pass_time(&self, next: Option<u64>) -> Result<(), FailureKind> {
        let limit = self.state.limit.get();
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        match next {
            None => Err(FailureKind::Hung),
            Some(next) if next > limit_ns => {
                self.state.clock.advance_to(limit_ns.max(self.state.clock.now()));
                Err(FailureKind::TimeUp(limit))
            }
            Some(next) => {
                self.state.clock.advance_to(next);
                Ok(())
            }
        }
    }

    fn handle(&mut self, event: Event) {
        self.idle_steps = 0;
        match event {
            Event::Net(event) => {
                if self.net.holds(event) {
                    return self.state.note(Note::Held(event));
                }
                self.state.note(Note::Event(event));
                self.net.handle(event);
            }
            Event::Continue { host, pause } => {
                if let Some(machine) = self.machines.get_mut(host) {
                    machine.go_on(&self.state, Some(pause));
                }
            }
        }
    }

    fn turn(&mut self, number: usize, shard: usize) -> Result<(), FailureKind> {
        let Some(machine) = self.machines.get_mut(number) else { return Ok(()) };
        if machine.is_due(shard, self.state.clock.now()) {
            self.idle_steps = 0;
        }
        match machine.turn(shard, &self.state, &self.net) {
            Ok(()) => {}
            Err(Broken::CannotStart(why)) if self.opening => {
                return Err(FailureKind::CannotStart(why));
            }
            // It is down, as after a start that fails in production.
            Err(Broken::CannotStart(_)) => {}
            Err(Broken::Io(error)) => {
                return Err(FailureKind::Panicked(format!("a shard cannot go on: {error}")));
            }
        }
        self.obey()
    }

    /// Does what was ordered since the last turn.
    fn obey(&mut self) -> Result<(), FailureKind> {
        let state = Rc::clone(&self.state);
        loop {
            let order = state.orders.borrow_mut().pop_front();
            let Some(order) = order else { return Ok(()) };
            if let Err(error) = self.obey_one(&state, order) {
                return Err(FailureKind::Panicked(format!("a host cannot start: {error}")));
            }
        }
    }

    fn obey_one(&mut self, state: &Rc<SimState>, order: Order) -> std::io::Result<()> {
        let (host, order) = match order {
            Order::Start(host, role) => {
                // Hosts are numbered in the order in which they are made, and started in that order.
                self.machines.push(Machine::new(host, role));
                return self.start(host);
            }
            Order::Change(host, change) => (host, change),
        };
        let Some(machine) = self.machines.get_mut(host) else { return Ok(()) };
        match order {
            HostOrder::Restart => {
                self.crash(host);
                return self.start(host);
            }
            HostOrder::Crash => self.crash(host),
            HostOrder::Drain => machine.drain(state),
            HostOrder::Stop(until) => {
                let pause = machine.stop(state);
                if let Some(until) = until {
                    state.agenda.plan(until, Event::Continue { host, pause });
                }
            }
            HostOrder::Continue => machine.go_on(state, None),
        }
        Ok(())
    }

    fn start(&mut self, host: usize) -> std::io::Result<()> {
        let Self { state, net, machines, .. } = self;
        match machines.get_mut(host) {
            Some(machine) => machine.start(state, net),
            None => Ok(()),
        }
    }

    fn crash(&mut self, host: usize) {
        let Self { state, net, machines, .. } = self;
        if let Some(machine) = machines.get_mut(host).filter(|machine| machine.is_up()) {
            state.note_host(host, Change::Crashed);
            machine.end(state, net);
        }
    }

    fn print(&self) {
        for line in self.state.take_fresh() {
            eprintln!("{line}");
        }
    }
}

/// The value of the test's task, if it is over; its panic goes on here.
fn take<T>(task: &mut Task<T>) -> Option<T> {
    if !task.is_finished() {
        return None;
    }
    match std::pin::Pin::new(task).poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
