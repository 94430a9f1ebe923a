//! The servers' handlers: they do what the request asks, and record in the ledger what they do.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corewire_codec::{Raw, Status, StatusCode};
use corewire_engine::{Dispatch, Dispatched, Incoming, PendingCall, ReplySlot};
use corewire_proto::{ShardId, ShardInfo, owner_of};

use crate::core::trace::{Note, Violated};
use crate::core::{Core, Event};
use crate::hosts::chain::{Channels, Hop};
use crate::hosts::errand::{Errand, Errands, Outcome, Sent};
use crate::hosts::serve::StreamHandler;
use crate::judge::ledger::{Ledger, State, Work};
use crate::plan::MS;
use crate::plan::message::{Ask, Behaviour};
use crate::world::check;

/// How often a handler that wakes itself does so before it answers.
const SELF_WAKES: u32 = 3;

/// The services of one server host.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) core: Rc<Core>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) host: usize,
    /// Who it is among the shards that own keys, if its server has a mesh.
    pub(crate) owners: Option<ShardInfo>,
    pub(crate) channels: Channels,
}

/// A panic that the engine must survive. It bypasses the hook that would print it.
pub(crate) fn planned_panic() -> ! {
    std::panic::resume_unwind(Box::new("planned"))
}

impl Dispatch for Service {
    fn dispatch(
        &self,
        call: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let Some(ask) = call.payload.as_ref().and_then(|payload| Ask::read(payload.body())) else {
            reply.status(&Status::invalid_argument("the body is not one of the simulation's"));
            return Dispatched::Replied;
        };
        if let Some(here) = self.owners {
            // As the router of a server does it: the key in the head is believed, and judged where the call runs.
            if let Some(hash) = call.request.key().or_else(|| ask.key_hash()) {
                let owner = owner_of(hash, here.count);
                if owner != call.shard {
                    self.ledger.forwarded.set(self.ledger.forwarded.get() + 1);
                    let (call_id, host) = (ask.id, self.host);
                    self.core.note(Note::Forwarded { call: call_id, host, owner: owner.0 });
                    return call.forward(owner, context, reply);
                }
            }
            if call.request.key().is_some_and(|named| Some(named) != ask.key_hash()) {
                reply.status(&Status::invalid_argument("the request names another key"));
                return Dispatched::Replied;
            }
            self.judge_owner(&ask, call.shard, here);
        }
        let deadline = call.deadline.map(|deadline| self.core.clock.of(deadline));
        let own = self.begin(&ask, deadline);
        let number = self.ledger.next_work();
        let connection = call.connection_id;
        self.core.note(Note::Handling { call: ask.id, work: number, connection });
        let record = || {
            let work = Work {
                call: own.then_some(ask.id),
                host: self.host,
                connection,
                deadline,
                waker: Some(context.waker().clone()),
                fired: false,
                woken: false,
                sleeps_until: None,
            };
            Record::new(&self.core, &self.ledger, number, work)
        };
        match ask.behaviour {
            Behaviour::Fail => reply.status(&Status::not_found("as asked")),
            Behaviour::Mute => {}
            Behaviour::Panic => planned_panic(),
            Behaviour::Echo if call.streams.is_some() => {
                let Some(ends) = call.streams.take().map(core::mem::take) else {
                    return Dispatched::Replied;
                };
                let mut handler =
                    StreamHandler::new(record(), &self.core, &self.ledger, &ask, ends);
                if handler.go_on(context, reply).is_pending() {
                    return Dispatched::Pending(Box::pin(handler));
                }
            }
            _ if ask.hops > 0 => {
                let (core, ledger, channels) = (&self.core, &self.ledger, &self.channels);
                let hop = Hop::new(record(), core, ledger, channels, &ask, deadline);
                let Some(mut hop) = hop else { return Dispatched::Replied };
                if hop.go_on(context, reply).is_pending() {
                    return Dispatched::Pending(Box::pin(hop));
                }
            }
            Behaviour::Echo if ask.errand > 0 && self.errands().is_some() => {
                let until = call.deadline;
                let Some(mut work) = self.errand(record(), &ask, until) else {
                    self.answer(&ask, reply);
                    return Dispatched::Replied;
                };
                if work.go_on(context, reply).is_pending() {
                    return Dispatched::Pending(Box::pin(work));
                }
            }
            Behaviour::Echo => self.answer(&ask, reply),
            Behaviour::TooMuch => reply.send::<Raw, _>(Bytes::from(ask.answer())),
            Behaviour::WakeLate => {
                let delay = u64::from(ask.delay_us) * 1_000;
                self.ledger.stale.borrow_mut().insert(number, context.waker().clone());
                self.core.after(delay, Event::Wake { work: number, foreign: true });
                self.answer(&ask, reply);
            }
            _ => {
                let mut handler = Handler {
                    record: record(),
                    core: Rc::clone(&self.core),
                    ledger: Rc::clone(&self.ledger),
                    number,
                    is_own: connection >> 32 == self.host as u64,
                    ask,
                    polls: 0,
                    sleep: None,
                };
                handler.start(context);
                return Dispatched::Pending(Box::pin(handler));
            }
        }
        Dispatched::Replied
    }
}

impl Service {
    /// Records that the call begins, and checks that it may; returns whether it is one of ours.
    fn begin(&self, ask: &Ask, deadline: Option<u64>) -> bool {
        let (core, now) = (&self.core, self.core.now());
        self.ledger.step();
        if deadline.is_some_and(|deadline| deadline <= now) {
            core.violated(Violated::Deadline, || {
                format!("the handler of call {} began when its time was over", ask.id)
            });
        }
        let mut calls = self.ledger.calls.borrow_mut();
        let Some(call) = calls.get_mut(&ask.id) else { return false };
        if std::mem::replace(&mut call.begun, true) {
            core.violated(Violated::Once, || format!("call {} ran twice", ask.id));
        }
        if !call.encoded {
            core.violated(Violated::Truth, || format!("call {} ran and was never sent", ask.id));
        }
        if call.kept && !call.tainted {
            core.violated(Violated::Truth, || {
                format!("call {} ran, and nothing of it had left when its caller went", ask.id)
            });
        }
        if let State::Ended(end) = call.state
            && end.promises_not_run()
            && !call.tainted
        {
            core.violated(Violated::Truth, || {
                format!("call {} began after its caller was told {end:?}", ask.id)
            });
        }
        check::cascade(core, ask.id, call);
        true
    }

    /// Whether a call by key has come to its owner.
    fn judge_owner(&self, ask: &Ask, shard: ShardId, here: ShardInfo) {
        let owner = ask.key_hash().map(|hash| owner_of(hash, here.count));
        if owner.is_some_and(|owner| owner != here.id) {
            self.core.violated(Violated::Owner, || {
                format!(
                    "call {} of shard {owner:?} runs on {here:?}, which thinks it is {shard}",
                    ask.id
                )
            });
        }
    }

    /// What its server sends errands with.
    fn errands(&self) -> Option<Errands> {
        let server = self.host / self.core.plan.shards;
        self.core.errands.borrow().get(server).cloned()
    }

    fn errand(&self, record: Record, ask: &Ask, until: Option<Instant>) -> Option<Errander> {
        self.ledger.errands.set(self.ledger.errands.get() + 1);
        let takes = Duration::from_micros(ask.delay_us.into());
        let sent =
            Sent::new(&self.errands()?, Errand::from_number(ask.errand)?, ask.id, until, takes);
        let (core, ledger) = (Rc::clone(&self.core), Rc::clone(&self.ledger));
        Some(Errander { record, core, ledger, ask: *ask, sent, until })
    }

    fn answer(&self, ask: &Ask, reply: &mut ReplySlot<'_>) {
        answer(&self.ledger, ask, reply);
    }
}

pub(crate) fn answer(ledger: &Ledger, ask: &Ask, reply: &mut ReplySlot<'_>) {
    reply.send::<Raw, _>(Bytes::from(ask.answer()));
    if let Some(call) = ledger.calls.borrow_mut().get_mut(&ask.id) {
        call.answered = true;
    }
}

/// A pending handler, in the ledger from its start to its drop.
#[derive(Debug)]
pub(crate) struct Record {
    core: Rc<Core>,
    ledger: Rc<Ledger>,
    number: u64,
    pub(crate) host: usize,
}

impl Record {
    fn new(core: &Rc<Core>, ledger: &Rc<Ledger>, number: u64, work: Work) -> Self {
        let host = work.host;
        ledger.works.borrow_mut().insert(number, work);
        Self { core: Rc::clone(core), ledger: Rc::clone(ledger), number, host }
    }

    /// Notes that the handler is polled; its deadline must allow that.
    pub(crate) fn look(&self, context: &Context<'_>) {
        let now = self.core.now();
        self.core.note(Note::Polled { work: self.number });
        let mut works = self.ledger.works.borrow_mut();
        let Some(work) = works.get_mut(&self.number) else { return };
        work.woken = false;
        work.waker = Some(context.waker().clone());
        // A shard that spins checks its timers only every fourth time.
        let late = work.deadline.is_some_and(|deadline| deadline <= now);
        if late && self.core.plan.spin == 0 {
            self.core.violated(Violated::Deadline, || {
                format!("handler {} was polled after its deadline", self.number)
            });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.core.note(Note::Dropped { work: self.number });
        self.ledger.step();
        let work = self.ledger.works.borrow_mut().remove(&self.number);
        if self.core.over.get() {
            return;
        }
        // Some wakers outlive their handlers, and are used.
        if let Some(waker) = work.and_then(|work| work.waker)
            && self.core.dice.chance(100_000)
        {
            self.ledger.stale.borrow_mut().insert(self.number, waker);
            let delay = self.core.dice.spread(1_000, 10 * MS);
            self.core.after(delay, Event::Wake { work: self.number, foreign: true });
        }
    }
}

/// A handler that waits for time to pass.
#[derive(Debug)]
struct Handler {
    record: Record,
    core: Rc<Core>,
    ledger: Rc<Ledger>,
    number: u64,
    /// Its connection is its shard's.
    is_own: bool,
    ask: Ask,
    polls: u32,
    /// The engine's own timer, if that is what it waits for.
    sleep: Option<corewire_engine::Sleep>,
}

impl Handler {
    fn start(&mut self, context: &mut Context<'_>) {
        match self.ask.behaviour {
            Behaviour::WakeSelf => self.wake_self(context),
            Behaviour::Never | Behaviour::PanicOnDrop => {}
            _ => self.sleep(context),
        }
    }

    fn sleep(&mut self, context: &mut Context<'_>) {
        let foreign = self.core.dice.chance(self.core.plan.habits.foreign);
        let delay = u64::from(self.ask.delay_us) * 1_000;
        if !foreign && self.core.dice.chance(600_000) {
            let mut sleep = corewire_engine::sleep(Duration::from_nanos(delay));
            let polled = Pin::new(&mut sleep).poll(context);
            debug_assert!(polled.is_pending(), "it is in the future");
            self.sleep = Some(sleep);
            if let Some(work) = self.ledger.works.borrow_mut().get_mut(&self.number) {
                work.sleeps_until = Some(self.core.now() + delay);
            }
            return;
        }
        self.core.after(delay, Event::Wake { work: self.number, foreign });
    }

    fn wake_self(&self, context: &Context<'_>) {
        if let Some(work) = self.ledger.works.borrow_mut().get_mut(&self.number) {
            work.woken = true;
            work.fired = true;
        }
        context.waker().wake_by_ref();
    }

    /// Notes the poll; returns whether the timer has fired.
    fn look(&mut self, context: &mut Context<'_>) -> bool {
        self.record.look(context);
        let now = self.core.now();
        let mut works = self.ledger.works.borrow_mut();
        let Some(work) = works.get_mut(&self.number) else { return false };
        if let Some(sleep) = &mut self.sleep
            && Pin::new(sleep).poll(context).is_ready()
        {
            if work.sleeps_until.is_some_and(|until| until > now) {
                self.core.violated(Violated::Deadline, || {
                    format!("the sleep of handler {} ended before its time", self.number)
                });
            }
            self.sleep = None;
            work.sleeps_until = None;
            return true;
        }
        std::mem::take(&mut work.fired)
    }
}

impl PendingCall for Handler {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        if !self.look(context) {
            return Poll::Pending;
        }
        self.polls += 1;
        self.ledger.step();
        match self.ask.behaviour {
            Behaviour::PanicLater => planned_panic(),
            Behaviour::WaitTwice if self.polls < 2 => {
                self.sleep(context);
                return Poll::Pending;
            }
            Behaviour::WakeSelf if self.polls < SELF_WAKES => {
                self.wake_self(context);
                return Poll::Pending;
            }
            Behaviour::Never | Behaviour::PanicOnDrop => return Poll::Pending,
            _ => {}
        }
        answer(&self.ledger, &self.ask, reply);
        Poll::Ready(())
    }

    fn recycle(self: Pin<Box<Self>>) {}
}

impl Drop for Handler {
    fn drop(&mut self) {
        // A shard dies of a panic: another one would end the process.
        let dies = self.core.dying.get() == Some(self.record.host) && self.is_own;
        if self.ask.behaviour == Behaviour::PanicOnDrop && !self.core.over.get() && !dies {
            planned_panic();
        }
    }
}

/// A handler that runs code on other shards, and then answers.
struct Errander {
    record: Record,
    core: Rc<Core>,
    ledger: Rc<Ledger>,
    ask: Ask,
    sent: Sent,
    until: Option<Instant>,
}

impl Errander {
    fn go_on(&mut self, context: &mut Context<'_>, reply: &mut ReplySlot<'_>) -> Poll<()> {
        let running = self.sent.running();
        let polled = self.sent.poll(context);
        if polled.is_ready() || self.sent.running() != running {
            self.ledger.step();
        }
        let Poll::Ready(outcome) = polled else { return Poll::Pending };
        let id = self.ask.id;
        let is_explained = match &outcome {
            Outcome::Well => true,
            Outcome::Lost => self.core.has_lost_shard.get(),
            Outcome::Expired => self.until.is_some_and(|at| at <= self.core.clock.instant()),
            Outcome::Wrong(_) => false,
        };
        if !is_explained {
            self.core.violated(Violated::Errand, || format!("that of call {id}: {outcome:?}"));
        }
        match outcome {
            Outcome::Well => answer(&self.ledger, &self.ask, reply),
            Outcome::Expired => reply.status(&Status::deadline_exceeded("the errand took long")),
            Outcome::Lost | Outcome::Wrong(_) => {
                reply.status(&Status::unavailable("another shard is gone"));
            }
        }
        Poll::Ready(())
    }
}

impl PendingCall for Errander {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        self.record.look(context);
        self.go_on(context, reply)
    }

    fn recycle(self: Pin<Box<Self>>) {}
}

/// Whether this status is one that only this behaviour's handler gives.
pub(crate) fn explains(behaviour: Behaviour, code: StatusCode) -> bool {
    match behaviour {
        Behaviour::Echo
        | Behaviour::Wait
        | Behaviour::WaitTwice
        | Behaviour::WakeSelf
        | Behaviour::WakeLate => code == StatusCode::Ok,
        Behaviour::Fail => code == StatusCode::NotFound,
        Behaviour::Panic | Behaviour::PanicLater | Behaviour::Mute => code == StatusCode::Internal,
        Behaviour::TooMuch => code == StatusCode::ResourceExhausted,
        Behaviour::Never | Behaviour::PanicOnDrop => false,
    }
}
