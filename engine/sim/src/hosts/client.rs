//! The clients' part: calls as tasks.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corewire_client::{CallFailure, NotSent};
use corewire_codec::{FrameWriter, MethodId, RequestHead, Status, request_flags};
use corewire_proto::StreamKind;

use crate::core::trace::{Note, Violated};
use crate::core::{Core, Event};
use crate::hosts::host::{Host, Kind};
use crate::hosts::runtime::{AnyChannel, Calls};
use crate::hosts::stream_call::stream_call;
use crate::judge::ledger::{Call, Ledger, State};
use crate::judge::{ended, given_up};
use crate::plan::message::{Ask, BEHAVIOURS, Behaviour, CallKind, TOO_MUCH};
use crate::plan::script::Script;
use crate::plan::{MS, SECOND};

/// What is drawn for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) kind: CallKind,
    pub(crate) ask: Ask,
    /// Bytes of the request after its fixed part.
    pub(crate) more: usize,
    pub(crate) timeout: Option<Duration>,
    /// When the caller's task is dropped, in ns.
    pub(crate) give_up: Option<u64>,
    /// When the task itself drops the call.
    pub(crate) patience: Option<Duration>,
    pub(crate) unsendable: Option<Unsendable>,
    /// It stalls on purpose until the others have ended.
    pub(crate) held: bool,
    /// The caller gives up at this poll of its task, before looking at the call.
    pub(crate) tired_at: Option<u32>,
}

impl Wish {
    /// The timeout of a caller who cannot give up.
    fn patience_in_all(&self) -> Option<Duration> {
        let give_up = self.give_up.map(Duration::from_nanos);
        [self.timeout, self.patience, give_up].into_iter().flatten().min()
    }
}

/// Why a request cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsendable {
    Fails,
    Panics,
    TooLarge,
}

fn behaviour(core: &Core) -> Behaviour {
    let habits = &core.plan.habits;
    if core.dice.chance(habits.troubled) {
        return BEHAVIOURS[5 + core.dice.below(7)];
    }
    if core.dice.chance(habits.pending) {
        return BEHAVIOURS[1 + core.dice.below(4)];
    }
    Behaviour::Echo
}

fn kind(core: &Core) -> CallKind {
    let habits = &core.plan.habits;
    if core.dice.chance(habits.one_way) {
        return CallKind::OneWay;
    }
    if core.dice.chance(habits.stream) {
        let kinds = [StreamKind::Client, StreamKind::Server, StreamKind::Bidirectional];
        return CallKind::Stream(kinds[core.dice.below(3)]);
    }
    CallKind::Unary
}

/// What this call should be like; `unreliable` ones may never be answered.
fn wish(core: &Core, id: u64, unreliable: bool) -> Wish {
    let (dice, habits) = (&core.dice, &core.plan.habits);
    if id < core.plan.held && !unreliable {
        let kind = if dice.chance(500_000) { StreamKind::Client } else { StreamKind::Server };
        let ask = Ask { script: Script::held(kind), ..Ask::plain(id) };
        return Wish { kind: CallKind::Stream(kind), ask, held: true, ..calm_wish(id) };
    }
    let kind = kind(core);
    let script =
        if let CallKind::Stream(_) = kind { Script::draw(core) } else { Script::default() };
    let behaviour = match kind {
        // Most streams follow their script.
        CallKind::Stream(_) if dice.chance(900_000) => Behaviour::Echo,
        CallKind::Stream(_) => [Behaviour::Fail, Behaviour::Panic, Behaviour::Mute][dice.below(3)],
        _ => behaviour(core),
    };
    let hops =
        if kind == CallKind::Unary && dice.chance(habits.hops) { 1 + dice.below(2) } else { 0 };
    let large = dice.chance(habits.large);
    let bytes = |most| if large { dice.spread(1, most) } else { dice.between(0, 64) };
    let reply_bytes = match behaviour {
        Behaviour::TooMuch => TOO_MUCH as u64,
        _ => bytes(60_000),
    };
    let unsendable = dice
        .chance(habits.unsendable)
        .then(|| [Unsendable::Fails, Unsendable::Panics, Unsendable::TooLarge][dice.below(3)]);
    let endless = match kind {
        CallKind::Stream(kind) => script.is_endless(kind),
        CallKind::OneWay => false,
        CallKind::Unary => behaviour.is_endless(),
    };
    // A one-way call cannot be given up, and would hold its part of the server's budgets for ever.
    let timed = kind == CallKind::OneWay && behaviour.is_endless();
    let timeout = (timed || dice.chance(habits.deadline))
        .then(|| Duration::from_micros(dice.spread(1, 5_000_000) - dice.between(0, 1)));
    let needed = (endless || unreliable) && timeout.is_none();
    let give_up = (dice.chance(habits.give_up) || needed).then(|| dice.spread(1_000, 2 * SECOND));
    let own = dice.chance(500_000);
    Wish {
        kind,
        ask: Ask {
            id,
            behaviour,
            hops: u8::try_from(hops).unwrap_or(0),
            delay_us: u32::try_from(dice.spread(1, 200_000)).unwrap_or(1),
            reply_bytes: u32::try_from(reply_bytes).unwrap_or(0),
            script,
            ..Ask::plain(id)
        },
        more: if unsendable == Some(Unsendable::TooLarge) {
            70_000
        } else {
            usize::try_from(bytes(60_000)).unwrap_or(0)
        },
        timeout,
        patience: own.then_some(give_up).flatten().map(Duration::from_nanos),
        give_up: if own { None } else { give_up },
        unsendable,
        held: false,
        tired_at: None,
    }
}

/// A calm call that must succeed.
pub(crate) fn calm_wish(id: u64) -> Wish {
    Wish {
        kind: CallKind::Unary,
        ask: Ask::plain(id),
        more: 0,
        timeout: None,
        give_up: None,
        patience: None,
        unsendable: None,
        held: false,
        tired_at: None,
    }
}

/// Begins a call of a client host.
pub(crate) fn begin(
    host: &mut Host,
    core: &Rc<Core>,
    ledger: &Rc<Ledger>,
    id: u64,
    probe: Option<usize>,
) {
    let drawn = core.dice.below(host.channels.len());
    let place = probe.unwrap_or(drawn);
    let Some(channel) = host.channels.get(place).cloned() else { return };
    // Peers that follow no protocol are not held to any rule, nor are wires that change bytes.
    let tainted = host.kind == Kind::Client { mutating: true } || place >= core.plan.channels;
    let written = core.wishes.borrow_mut().remove(&id);
    let mut wish = match written {
        Some(wish) => wish,
        // A frame whose length was changed may have taken the reply for its own bytes.
        None if probe.is_some() && tainted => {
            Wish { timeout: Some(Duration::from_secs(5)), ..calm_wish(id) }
        }
        None if probe.is_some() => calm_wish(id),
        None => wish(core, id, tainted),
    };
    if let Some(mesh) = &core.plan.mesh {
        let dice = &core.mesh;
        (wish.ask.key, wish.ask.errand) = (mesh.key(dice), mesh.errand(dice));
        wish.ask.named = dice.chance(mesh.named);
    }
    let call = Call::new(wish.kind, host.number, &wish.ask);
    let apart = host.runtime.as_ref().is_some_and(|runtime| runtime.is_apart());
    ledger.begin(id, Call { tainted, held: wish.held, apart, ..call });
    if let CallKind::Stream(_) = wish.kind {
        ledger.asks.borrow_mut().insert(id, wish.ask);
    }
    if let Some(after) = wish.give_up {
        core.after(after, Event::GiveUp { call: id });
    }
    let over = Over { id, ledger: Rc::clone(ledger) };
    let caller = Caller { core: Rc::clone(core), ledger: Rc::clone(ledger), wish, tainted };
    let task = match channel {
        AnyChannel::Shard(channel) => corewire_engine::spawn(caller.make(channel, over)),
        AnyChannel::Shared(channel) => corewire_engine::spawn(caller.make(channel, over)),
        AnyChannel::Blocking(channel) => corewire_engine::spawn(caller.make(channel, over)),
    };
    host.tasks.insert(id, task);
}

/// Who makes one call.
struct Caller {
    core: Rc<Core>,
    ledger: Rc<Ledger>,
    wish: Wish,
    tainted: bool,
}

impl Caller {
    /// Makes the call, whatever kind of channel it is; `_over` says when the task is over.
    async fn make<C: Calls>(self, channel: C, _over: Over) {
        let Self { core, ledger, mut wish, tainted } = self;
        let id = wish.ask.id;
        if C::BLOCKS {
            // It may still give up when its turn comes.
            if attend(&core, &ledger, &wish, &channel, ready(())).await.is_none() {
                return;
            }
            if !matches!(wish.kind, CallKind::Stream(_)) {
                wish.timeout = wish.patience_in_all();
            }
        }
        let number = ledger.calls.borrow().get(&id).map_or(0, |call| call.host);
        if let (CallKind::Stream(_), Some(call)) =
            (wish.kind, ledger.calls.borrow_mut().get_mut(&id))
        {
            call.kept_from = channel.is_busy();
        }
        // The first poll: the caller's time counts from here.
        core.note(Note::Began { call: id, host: number });
        if let (Some(timeout), Some(call)) = (wish.timeout, ledger.calls.borrow_mut().get_mut(&id))
        {
            let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            call.deadline = Some(core.now().saturating_add(timeout));
            ledger.note_deadline(call.deadline);
        }
        let mut head = RequestHead::new(0, MethodId(1));
        head.set_key(wish.ask.named_key());
        let encode = {
            let (core, ledger, channel) = (Rc::clone(&core), Rc::clone(&ledger), channel.clone());
            move |body: &mut FrameWriter<'_>| encode(&core, &ledger, &channel, &wish, body)
        };
        let outcome = match wish.kind {
            CallKind::Stream(kind) => {
                let opening = channel.stream(kind, head, wish.timeout, encode);
                let call = stream_call(&core, &ledger, &wish.ask, kind, tainted, opening);
                let outcome = attend(&core, &ledger, &wish, &channel, call).await;
                if let Some(None) = outcome {
                    // It dropped the stream, as its script says.
                    given_up(&core, &ledger, id);
                }
                outcome.flatten()
            }
            kind => {
                if kind == CallKind::OneWay {
                    head.flags |= request_flags::ONE_WAY;
                }
                let call = channel.call(head, wish.timeout, encode);
                if C::BLOCKS {
                    Some(call.await)
                } else {
                    attend(&core, &ledger, &wish, &channel, call).await
                }
            }
        };
        if let Some(outcome) = outcome {
            ended(&core, &ledger, id, Some(outcome));
        }
    }
}

/// Awaits a call as its caller does; `None` when the caller gives it up. The call is marked as given
/// up before it is dropped, as when its task is dropped.
async fn attend<T, C: Calls>(
    core: &Rc<Core>,
    ledger: &Rc<Ledger>,
    wish: &Wish,
    channel: &C,
    call: impl Future<Output = T>,
) -> Option<T> {
    let id = wish.ask.id;
    let mut call = std::pin::pin!(call);
    let mut patience = wish.patience.map(corewire_engine::sleep);
    let mut polls = 0u32;
    let outcome = poll_fn(|context| {
        ledger.wakers.borrow_mut().insert(id, context.waker().clone());
        std::task::ready!(channel.poll_free(context));
        polls += 1;
        // The worst moment to give up is between the wake and the poll.
        let woken = polls > 1 && !core.calm.get() && !wish.held;
        let tired = woken && core.dice.chance(core.plan.habits.give_up_woken)
            || wish.tired_at == Some(polls);
        let mut late =
            || patience.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(context).is_ready());
        if tired || late() || C::BLOCKS && ledger.tired.borrow_mut().remove(&id) {
            return Poll::Ready(None);
        }
        call.as_mut().poll(context).map(Some)
    })
    .await;
    if outcome.is_none() {
        given_up(core, ledger, id);
    }
    outcome
}

fn encode(
    core: &Core,
    ledger: &Ledger,
    channel: &impl Calls,
    wish: &Wish,
    body: &mut FrameWriter<'_>,
) -> Result<(), Status> {
    body.put_bytes(wish.ask.body(wish.more).into());
    match wish.unsendable {
        Some(Unsendable::Fails) => return Err(Status::aborted("as planned")),
        Some(Unsendable::Panics) => std::panic::resume_unwind(Box::new("planned")),
        // The channel takes it out again.
        Some(Unsendable::TooLarge) => return Ok(()),
        None => {}
    }
    core.note(Note::Encoded { call: wish.ask.id });
    if let Some(call) = ledger.calls.borrow_mut().get_mut(&wish.ask.id) {
        call.encode(core, channel.is_early());
    }
    Ok(())
}

/// Reports that a task is over, however it ended.
struct Over {
    id: u64,
    ledger: Rc<Ledger>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.ledger.over.borrow_mut().push(self.id);
    }
}

/// Checks which tasks are over. A task that is over without an outcome has panicked; the call counts
/// as panicked.
pub(crate) fn reap(host: &mut Host, core: &Core, ledger: &Ledger) {
    let mut over = ledger.over.take();
    over.sort_unstable();
    for id in over {
        // A call that was given up is not there any more.
        if host.tasks.get(&id).is_none_or(|task| !task.is_finished()) {
            continue;
        }
        host.tasks.remove(&id);
        ledger.wakers.borrow_mut().remove(&id);
        let open = ledger.calls.borrow().get(&id).is_some_and(|call| call.state == State::Open);
        if open {
            ended(core, ledger, id, None);
        }
    }
}

/// Drops a call's task; to be called as code of the host's shard.
pub(crate) fn give_up(host: &mut Host, core: &Core, ledger: &Ledger, id: u64) {
    if host.blocks() {
        // Its thread does so when it has the time.
        if host.tasks.contains_key(&id) {
            ledger.tired.borrow_mut().insert(id);
            ledger.wakers.borrow().get(&id).into_iter().for_each(Waker::wake_by_ref);
        }
        return;
    }
    let Some(task) = host.tasks.remove(&id) else { return };
    ledger.wakers.borrow_mut().remove(&id);
    if !task.is_finished() {
        given_up(core, ledger, id);
    }
    drop(task);
}

/// Closes the shared or blocking channel with this number, in some cases; it is about to be replaced. When it is closed,
/// no call begins on it.
pub(crate) fn close(host: &Host, core: &Rc<Core>, ledger: &Rc<Ledger>, number: usize) {
    let Some(channel) = host.channels.get(number).cloned() else { return };
    if matches!(channel, AnyChannel::Shard(_)) || core.side.chance(500_000) {
        return;
    }
    let (core, ledger) = (Rc::clone(core), Rc::clone(ledger));
    ledger.closings.set(ledger.closings.get() + 1);
    corewire_engine::spawn(async move {
        let head = RequestHead::new(0, MethodId(1));
        let late = match &channel {
            AnyChannel::Shard(_) => return,
            AnyChannel::Shared(channel) => {
                channel.close().await;
                Calls::call(channel, head, None, |_| Ok(())).await
            }
            AnyChannel::Blocking(channel) => channel.close(head).await,
        };
        ledger.closings.set(ledger.closings.get() - 1);
        ledger.step();
        if !matches!(late, Err(CallFailure::NotSent(NotSent::Closed))) {
            core.violated(Violated::End, || format!("a call on a closed channel: {late:?}"));
        }
    })
    .detach();
}

/// Plans the calls of a run: spread evenly, or in bursts.
pub(crate) fn plan_calls(core: &Core) {
    let bursts = core.dice.chance(500_000).then(|| core.dice.between(1, 6));
    let centres: Vec<u64> =
        (0..bursts.unwrap_or(0)).map(|_| core.dice.between(0, core.plan.span)).collect();
    for call in 0..core.plan.calls {
        let at = match centres.get(core.dice.below(centres.len())) {
            Some(centre) => centre + core.dice.between(0, MS),
            None => core.dice.between(0, core.plan.span),
        };
        core.agenda.plan(at, Event::Call { call });
    }
}
