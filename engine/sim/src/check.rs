//! The rules that concern the whole: after each turn, whenever everything is quiet, and at the end.

use std::rc::Rc;

use corewire_codec::StatusCode;
use corewire_engine::sim;

use crate::core::Core;
use crate::host::Host;
use crate::ledger::{End, Ledger, State};
use crate::net::Net;
use crate::plan::MS;
use crate::trace::{Note, Violated};
use crate::world::World;

/// Wakes a handler whose timer fired.
pub(crate) fn wake(ledger: &Ledger, work: u64) {
    let waker = ledger.works.borrow_mut().get_mut(&work).and_then(|work| {
        work.fired = true;
        work.woken = true;
        work.waker.clone()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

pub(crate) fn connections(host: &Host) -> usize {
    host.shard.as_ref().map_or(0, |shard| shard.census().connections)
}

pub(crate) fn has_succeeded(ledger: &Ledger, id: u64) -> bool {
    let ok = End::Reply { code: StatusCode::Ok, refused: false };
    ledger.calls.borrow().get(&id).is_some_and(|call| call.state == State::Ended(ok))
}

/// After a host's turn: handlers of connections that it let go of are gone, and what it holds is
/// within its bounds.
pub(crate) fn after_turn(world: &World, number: usize) {
    let host = &world.hosts[number];
    let Some(shard) = &host.shard else { return };
    if !host.is_server() {
        return;
    }
    let core = &world.core;
    for id in std::mem::take(&mut host.accepted.borrow_mut().closed) {
        let works = world.ledger.works.borrow();
        if let Some((work, _)) = works.iter().find(|(_, work)| work.connection == id) {
            core.violated(Violated::Orphan, || {
                format!("handler {work} lives, and its connection {id} is closed")
            });
        }
    }
    let census = shard.census();
    let plan = &core.plan;
    let in_flight = plan.limits.in_flight.get() as usize;
    let frame = plan.limits.frame_bytes.get() as usize;
    // One reply may go over the budget, and each call in flight may be told that it ended.
    let unsent = plan.budgets.unsent_bytes_max + frame + 512 + in_flight * 128;
    let bounds = [
        ("unsent bytes", census.unsent_max, unsent),
        (
            "receive memory",
            census.unread_max,
            2 * (frame + 32) + 2 * plan.budgets.receive_bytes + 65_536,
        ),
        ("calls in flight", census.in_flight_max, in_flight),
        ("wakes", census.woken_max, 2 * in_flight + 16),
        ("timers", census.timers, 2 * census.connections + 1024 + 64),
        // One request goes over it, and what handlers answer then.
        ("held calls", census.held.1, plan.budgets.shard_calls_max),
        ("run queue", census.run_queue, census.connections + 64),
    ];
    for (what, value, most) in bounds {
        if value > most {
            core.violated(Violated::Memory, || {
                format!("{what} of host {number}: {value}, at most {most} are allowed")
            });
        }
    }
}

/// Nothing can happen before `next`: whatever should have happened by now is late.
pub(crate) fn quiet(world: &mut World, next: u64) {
    let core = Rc::clone(&world.core);
    let now = core.now();
    for (id, call) in world.ledger.calls.borrow().iter() {
        if call.state == State::Open && call.deadline.is_some_and(|deadline| deadline <= now) {
            core.violated(Violated::Deadline, || {
                format!("call {id} outlives its deadline: {call:?}")
            });
        }
    }
    for host in &world.hosts {
        for (number, channel) in host.channels.iter().enumerate() {
            let census = sim::channel_census(channel);
            if census.up && census.waiting > 0 && census.free_slots > 0 {
                core.violated(Violated::LostWake, || {
                    format!("calls wait on channel {number} of host {} while slots are free: {census:?}", host.number)
                });
            }
        }
    }
    let paused: Vec<u64> = (world.hosts.iter())
        .filter_map(|host| host.shard.as_ref())
        .flat_map(|shard| shard.census().paused)
        .collect();
    for (number, work) in world.ledger.works.borrow().iter() {
        if work.deadline.is_some_and(|deadline| deadline <= now) {
            core.violated(Violated::Deadline, || format!("handler {number} outlives its deadline"));
        }
        let slept = work.sleeps_until.is_some_and(|until| until <= now);
        if (work.woken || slept) && !paused.contains(&work.connection) {
            core.violated(Violated::LostWake, || {
                format!("handler {number} was woken and is not polled: {work:?}")
            });
        }
    }
    if next > now + MS && world.nudges_left > 0 && core.dice.chance(30_000) {
        world.nudges_left -= 1;
        nudge(world);
    }
}

/// Tells every host that everything may be ready, and every caller to look again. Nothing may come of
/// it: what could have gone on should have been woken before.
fn nudge(world: &mut World) {
    let core = Rc::clone(&world.core);
    core.note(Note::Nudged);
    let progress = |world: &World| world.net.moved() + *world.ledger.steps.borrow();
    let before = progress(world);
    for host in &mut world.hosts {
        if host.shard.is_some() {
            world.net.nudge(host.set);
            for waker in world.ledger.wakers.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }
    let calm = core.calm.replace(true);
    world.run_all_now();
    core.calm.set(calm);
    if progress(world) != before {
        core.violated(Violated::LostWake, || {
            "everything slept, and something went on when it was told to look again".to_owned()
        });
    }
}

/// Whether the channels hold nothing when every call has ended.
pub(crate) fn channels_are_empty(world: &World) {
    let core = &world.core;
    for host in &world.hosts {
        for (number, channel) in host.channels.iter().enumerate() {
            let census = sim::channel_census(channel);
            if census.calls + census.waiting + census.in_flight > 0 {
                core.violated(Violated::Leftover, || {
                    format!("channel {number} of host {}: {census:?}", host.number)
                });
            }
        }
    }
}

/// A server host that was drained holds nothing any more.
pub(crate) fn drained(host: &Host, core: &Core, net: &Net, ledger: &Ledger) {
    let Some(shard) = &host.shard else { return };
    let census = shard.census();
    let open = shard.counters().connections_open.value();
    let ends = net.open_ends(host.set);
    let works = ledger.works.borrow().values().filter(|work| work.host == host.number).count();
    let left = census.connections + census.in_flight + ends + works + census.held.1;
    if left > 0 || open > 0 || census.parked {
        core.violated(Violated::Leftover, || {
            format!(
                "host {} is drained, with {works} handlers, {ends} sockets, {open} connections by its counter: {census:?}",
                host.number
            )
        });
    }
}

/// The end of the run: tables, timers and buffers are as they were before it.
pub(crate) fn nothing_is_left(world: &World) {
    let core = &world.core;
    for host in &world.hosts {
        let Some(shard) = &host.shard else { continue };
        let census = shard.census();
        let ends = world.net.open_ends(host.set);
        let tasks = host.tasks.len();
        let held = census.held.0 + census.held.1;
        if census.connections + census.run_queue + ends + tasks + held > 0 {
            core.violated(Violated::Leftover, || {
                format!(
                    "host {} at the end: {tasks} tasks, {ends} sockets, {census:?}",
                    host.number
                )
            });
        }
    }
    let works = world.ledger.works.borrow().len();
    if works > 0 {
        core.violated(Violated::Leftover, || format!("{works} handlers live at the end"));
    }
}

/// What is left undone at the end of a phase.
pub(crate) fn unfinished(world: &World, phase: &str) -> String {
    let hosts = world.hosts.iter().filter_map(|host| {
        let census = host.shard.as_ref().map(|shard| shard.census())?;
        Some(format!(
            "; host {}: {} connections, draining {}, drained {}",
            host.number,
            census.connections,
            host.draining,
            host.shard.as_ref().is_some_and(sim::SimShard::is_drained),
        ))
    });
    let hosts: String = hosts.collect();
    format!(
        "the phase '{phase}' does not end: {} calls are open{}{hosts}",
        world.ledger.open(),
        world.open_calls()
    )
}
