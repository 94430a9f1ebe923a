//! Bugs that seeds have found, each written down as the few calls that show it. A seed becomes a different run
//! as soon as anything in the sources changes; these stay what they are.

use std::rc::Rc;
use std::time::Duration;

use corewire_proto::{StreamKind, Timeouts};

use crate::core::trace::Trace;
use crate::core::{Core, Dice, Event, SURE, Tamper};
use crate::hosts::client::{Unsendable, Wish, calm_wish};
use crate::hosts::runtime::Shells;
use crate::plan::message::{Ask, Behaviour, CallKind};
use crate::plan::script::{Lane, Script};
use crate::plan::{MS, Plan, SECOND};

/// A written case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A client's stream that has used up the credit assumed before the server's hello goes on when the hello
    /// comes.
    CreditOfTheHello,
    /// A call that is dropped when messages have come, before anybody asked for them, gives their credit back
    /// to its connection.
    DroppedBeforeItsReader,
    /// The deadline of a call takes effect even while its request lies behind a full socket.
    DeadlineBehindFullSocket,
    /// The same, after the deadline of a call long gone has passed.
    DeadlineAfterAnother,
    /// A handler is not polled in the turn in which a timeout ends its connection.
    HandlerOfAnEndedConnection,
    /// A caller whose encoder panics passes its slot on to the next in the queue.
    PanicPassesTheSlotOn,
    /// So does a caller that gives up between its wake and its turn.
    GivingUpPassesTheTurnOn,
    /// A large request with a deadline waits for the server's hello, and its shard sleeps meanwhile.
    LargeRequestBeforeTheHello,
    /// Many small frames that come while the socket is full are handled a few in each turn, and the socket is
    /// not asked for room in each of them.
    FramesWhileTheSocketIsFull,
    /// A call whose request lies behind a full socket expires: its slot becomes free, and goes to a call that
    /// waits for one.
    SlotOfAnUnsentCall,
    /// The deadline of a one-way call takes effect even while the call waits for room behind a full socket.
    OneWayThatWaitsForRoom,
    /// A handler whose caller's cancel was changed on its way calls until its connection is closed.
    CancelThatIsChanged,
    /// When a caller gives up, handlers three servers away end.
    CascadeOfCancels,
    /// The same when a deadline passes.
    CascadeOfDeadlines,
}

impl Case {
    /// Every case.
    pub const ALL: [Self; 14] = [
        Self::CreditOfTheHello,
        Self::DroppedBeforeItsReader,
        Self::DeadlineBehindFullSocket,
        Self::DeadlineAfterAnother,
        Self::HandlerOfAnEndedConnection,
        Self::PanicPassesTheSlotOn,
        Self::GivingUpPassesTheTurnOn,
        Self::LargeRequestBeforeTheHello,
        Self::FramesWhileTheSocketIsFull,
        Self::SlotOfAnUnsentCall,
        Self::OneWayThatWaitsForRoom,
        Self::CancelThatIsChanged,
        Self::CascadeOfCancels,
        Self::CascadeOfDeadlines,
    ];
}

/// A world, and what happens in it and when.
struct Written {
    plan: Plan,
    calls: Vec<(u64, Wish)>,
    events: Vec<(u64, Event)>,
}

/// The case as a run that has not begun.
pub(crate) fn core(case: Case, shells: Shells, trace: Trace) -> Rc<Core> {
    let written = match case {
        Case::CreditOfTheHello => credit_of_the_hello(),
        Case::DroppedBeforeItsReader => dropped_before_its_reader(),
        Case::DeadlineBehindFullSocket => behind_full_socket(false),
        Case::DeadlineAfterAnother => behind_full_socket(true),
        Case::HandlerOfAnEndedConnection => ended_connection(),
        Case::PanicPassesTheSlotOn => {
            in_line(|first| Wish { unsendable: Some(Unsendable::Panics), ..first })
        }
        Case::GivingUpPassesTheTurnOn => in_line(|first| Wish { tired_at: Some(2), ..first }),
        Case::LargeRequestBeforeTheHello => large_before_the_hello(),
        Case::FramesWhileTheSocketIsFull => frames_while_full(),
        Case::SlotOfAnUnsentCall => slot_of_an_unsent_call(),
        Case::OneWayThatWaitsForRoom => one_way_that_waits(),
        Case::CancelThatIsChanged => changed_cancel(),
        Case::CascadeOfCancels => cascade(None, Some(300 * MS)),
        Case::CascadeOfDeadlines => cascade(Some(Duration::from_millis(300)), None),
    };
    let core = Core::with(Dice::new(1), (Dice::new(2), Dice::new(3)), written.plan, shells, trace);
    for (at, event) in written.events {
        core.agenda.plan(at, event);
    }
    for (at, wish) in written.calls {
        core.agenda.plan(at, Event::Call { call: wish.ask.id });
        core.wishes.borrow_mut().insert(wish.ask.id, wish);
    }
    core
}

fn stream(id: u64, kind: StreamKind, script: Script) -> Wish {
    let ask = Ask { script, ..Ask::plain(id) };
    Wish { kind: CallKind::Stream(kind), ask, ..calm_wish(id) }
}

fn behaving(id: u64, behaviour: Behaviour) -> Wish {
    Wish { ask: Ask { behaviour, ..Ask::plain(id) }, ..calm_wish(id) }
}

fn credit_of_the_hello() -> Written {
    let plan = Plan { latency: (20 * MS, 20 * MS), ..Plan::calm() };
    let up = Lane { count: 60, bytes: 1_500, ..Lane::default() };
    let script = Script { up, ..Script::default() };
    Written { plan, calls: vec![(MS, stream(1, StreamKind::Client, script))], events: Vec::new() }
}

fn large_before_the_hello() -> Written {
    let plan = Plan { latency: (50 * MS, 50 * MS), ..Plan::calm() };
    let timeout = Some(Duration::from_millis(800));
    let calls = vec![(MS, Wish { more: 65_450, timeout, ..calm_wish(1) })];
    Written { plan, calls, events: Vec::new() }
}

fn dropped_before_its_reader() -> Written {
    let down = Lane { count: 4, bytes: 900, ..Lane::default() };
    let script = Script { down, ..Script::default() };
    // It is polled when it begins, and then when the first frame comes; the first call also when the connection
    // is made. Some of them wait for the handler's answer, and some read at once.
    let tired_at = |id| Some(if id == 1 { 3 } else { 2 });
    let call = |id| Wish { tired_at: tired_at(id), ..stream(id, StreamKind::Server, script) };
    let calls = (1..9).map(|id| (id * 50 * MS, call(id))).collect();
    Written { plan: Plan::calm(), calls, events: Vec::new() }
}

/// A large request fills the socket of a server that does not run; then a call with a deadline comes.
fn behind_full_socket(after_another: bool) -> Written {
    let plan = Plan { pipe: 512, ..Plan::calm() };
    let ms = |ms| Some(Duration::from_millis(ms));
    let large = Wish { more: 50_000, give_up: Some(3 * SECOND), ..calm_wish(2) };
    let mut calls = vec![(60 * MS, large), (100 * MS, Wish { timeout: ms(100), ..calm_wish(3) })];
    if after_another {
        calls.push((MS, Wish { timeout: ms(50), ..calm_wish(1) }));
    }
    let events = vec![(59 * MS, Event::Freeze { host: 0, ns: 900 * MS })];
    Written { plan, calls, events }
}

/// A frame that comes too slowly ends the connection in the same turn in which a handler is woken whose
/// deadline has passed meanwhile: its host did not run.
fn ended_connection() -> Written {
    let mut plan =
        Plan { pipe: 256, latency: (20 * MS, 20 * MS), span: 2 * SECOND, ..Plan::calm() };
    plan.timeouts = Timeouts { frame: Duration::from_millis(300), ..plan.timeouts };
    plan.habits.foreign = SURE;
    let mut waits = behaving(1, Behaviour::Wait);
    waits.ask.delay_us = 400_000;
    waits.timeout = Some(Duration::from_millis(500));
    let large = Wish { more: 50_000, ..calm_wish(2) };
    Written {
        plan,
        calls: vec![(MS, waits), (100 * MS, large)],
        events: vec![(200 * MS, Event::Freeze { host: 0, ns: SECOND })],
    }
}

/// All slots are taken, and two calls wait in the queue. One slot becomes free: the first call does not use it.
fn in_line(change: impl FnOnce(Wish) -> Wish) -> Written {
    let taken = |id| Wish { give_up: Some(900 * MS), ..behaving(id, Behaviour::Never) };
    let mut calls: Vec<(u64, Wish)> = (2..17).map(|id| (30 * MS, taken(id))).collect();
    let mut short = behaving(1, Behaviour::Wait);
    short.ask.delay_us = 100_000;
    // The connection is there when the others come.
    calls.push((MS, calm_wish(20)));
    calls.push((30 * MS, short));
    calls.push((60 * MS, change(calm_wish(17))));
    calls.push((70 * MS, calm_wish(18)));
    Written { plan: Plan::calm(), calls, events: Vec::new() }
}

/// The server does not read, and the client's wire brings pings.
fn frames_while_full() -> Written {
    let mut plan = Plan { pipe: 512, mutating: true, ..Plan::calm() };
    plan.budgets.frames_per_turn = 1;
    let large = Wish { more: 50_000, give_up: Some(3 * SECOND), ..calm_wish(2) };
    let pings = Event::Tamper { wire: 0, to: 0, how: Tamper::Pings(3_000) };
    let events = vec![(59 * MS, Event::Freeze { host: 0, ns: 900 * MS }), (80 * MS, pings)];
    Written { plan, calls: vec![(MS, calm_wish(1)), (60 * MS, large)], events }
}

/// The server does not read, and the slots are taken by calls that cannot leave.
fn slot_of_an_unsent_call() -> Written {
    let plan = Plan { pipe: 512, ..Plan::calm() };
    let large = Wish { more: 50_000, give_up: Some(3 * SECOND), ..calm_wish(2) };
    let timeout = Some(Duration::from_millis(100));
    let mut calls = vec![(MS, calm_wish(1)), (60 * MS, large)];
    calls.push((61 * MS, Wish { timeout, ..calm_wish(3) }));
    calls.extend((4..30).map(|id| (70 * MS, calm_wish(id))));
    Written { plan, calls, events: vec![(59 * MS, Event::Freeze { host: 0, ns: 900 * MS })] }
}

/// The server does not read, and more is unsent than the limit allows.
fn one_way_that_waits() -> Written {
    let mut plan = Plan { pipe: 512, ..Plan::calm() };
    plan.channel.unsent_max = 1024;
    // Its request is large.
    plan.habits.large = 1;
    let large = Wish { more: 50_000, give_up: Some(3 * SECOND), ..calm_wish(2) };
    let timeout = Some(Duration::from_millis(100));
    let one_way = Wish { kind: CallKind::OneWay, timeout, ..calm_wish(3) };
    let calls = vec![(MS, calm_wish(1)), (60 * MS, large), (70 * MS, one_way)];
    Written { plan, calls, events: vec![(59 * MS, Event::Freeze { host: 0, ns: 900 * MS })] }
}

fn changed_cancel() -> Written {
    let plan = Plan { servers: 2, mutating: true, ..Plan::calm() };
    let mut wish = behaving(1, Behaviour::Never);
    wish.ask.hops = 1;
    let wish = Wish { give_up: Some(100 * MS), ..wish };
    let tamper = Event::Tamper { wire: 0, to: 1, how: Tamper::OtherCall };
    Written { plan, calls: vec![(MS, wish)], events: vec![(101 * MS + 500_000, tamper)] }
}

fn cascade(timeout: Option<Duration>, give_up: Option<u64>) -> Written {
    let plan = Plan { servers: 2, span: 5 * SECOND, ..Plan::calm() };
    let mut wish = behaving(1, Behaviour::Never);
    wish.ask.hops = 2;
    let wish = Wish { timeout, give_up, ..wish };
    Written { plan, calls: vec![(MS, wish)], events: Vec::new() }
}
