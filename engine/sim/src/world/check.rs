//! The rules about the whole: after each turn, whenever everything is quiet, and at the end.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use corewire_codec::StatusCode;
use corewire_engine::testing::sim::{MeshSnapshot, Snapshot, StreamSnapshot};
use corewire_proto::StreamAccounts;

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::hosts::host::Host;
use crate::hosts::runtime::Held;
use crate::judge::ledger::{Call, End, Ledger, State, Work};
use crate::net::Net;
use crate::plan::MS;
use crate::plan::message::{CallKind, TOO_MUCH};
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
    let of_runtime = host.runtime.as_ref().map_or(0, |runtime| runtime.drivers());
    host.shard.as_ref().map_or(0, |shard| shard.tally().connections) + of_runtime
}

pub(crate) fn has_succeeded(ledger: &Ledger, id: u64) -> bool {
    let ok = End::Reply { code: StatusCode::Ok, refused: false };
    ledger.calls.borrow().get(&id).is_some_and(|call| call.state == State::Ended(ok))
}

/// The work for a call whose caller has gone must end within a bounded time, and nothing may begin for it;
/// `call` is the one that a handler works on.
pub(crate) fn cascade(core: &Core, id: u64, call: &Call) {
    // A cancel whose bytes change does not count.
    let heard = call.kind != CallKind::OneWay && !call.tainted;
    let Some(over_at) = call.over_at.filter(|_| heard) else { return };
    if core.now() > over_at.saturating_add(core.cascade_within()) {
        core.violated(Violated::Cascade, || {
            format!("call {id} is over since {over_at} ns, and a server works on it: {call:?}")
        });
    }
}

/// After a host's turn: handlers of connections that it dropped are gone, and what it holds is within its
/// bounds.
pub(crate) fn after_turn(world: &World, number: usize, snapshot: &Snapshot) {
    let host = &world.hosts[number];
    let core = &world.core;
    if !host.is_server() {
        client_bounds(core, host, snapshot);
        return;
    }
    for id in std::mem::take(&mut host.accepted.borrow_mut().closed) {
        let works = world.ledger.works.borrow();
        // What another shard runs ends when it hears of it.
        let is_of = |work: &Work| work.connection == id && work.host == host.number;
        if let Some((work, _)) = works.iter().find(|(_, work)| is_of(work)) {
            core.violated(Violated::Orphan, || {
                format!("handler {work} lives, and its connection {id} is closed")
            });
        }
    }
    let plan = &core.plan;
    let in_flight = plan.limits.in_flight.get() as usize;
    let frame = plan.limits.frame_bytes.get() as usize;
    // One reply may exceed the budget, and each call in flight may be told that it ended. A byte that changes
    // in a client's hello may let it take the largest reply that a handler tries.
    let reply = if plan.mutating { frame.max(TOO_MUCH) } else { frame };
    let unsent = plan.budgets.unsent_bytes_max + reply + 512 + in_flight * 128;
    let one_way = usize::from(plan.one_way_pending_max);
    // The last message may overdraw the credit.
    let held = plan.limits.connection_credit.get() as usize + frame + 16;
    let bounds = [
        ("unsent bytes", snapshot.unsent_max, unsent),
        (
            "receive memory",
            snapshot.unread_max,
            2 * (frame + 32) + 2 * plan.budgets.receive_bytes + 65_536,
        ),
        ("calls in flight", snapshot.in_flight_max, in_flight + one_way),
        ("one-way calls", snapshot.one_way_max, one_way),
        ("held bytes of streams", snapshot.held_max as usize, held),
        ("wakes", snapshot.woken_max, 2 * (in_flight + one_way) + 16),
        ("timers", snapshot.timers, 2 * snapshot.connections + 1024 + 64),
        // One request may exceed it, and so may what handlers reply then.
        ("held calls", snapshot.held.1, plan.budgets.shard_calls_max),
        ("run queue", snapshot.run_queue, snapshot.connections + 64),
    ];
    for (what, value, most) in bounds {
        bounded(core, number, what, value, most);
    }
}

/// What a client holds is bounded, whatever its servers send and however little they take.
fn client_bounds(core: &Core, host: &Host, snapshot: &Snapshot) {
    let plan = &core.plan;
    let frame = plan.limits.frame_bytes.get() as usize;
    let calls = usize::try_from(plan.calls).unwrap_or(usize::MAX / 4);
    let unread = 2 * (frame + 32) + 2 * plan.budgets.receive_bytes + 65_536;
    bounded(core, host.number, "receive memory", snapshot.client_unread_max, unread);
    for held in host.held(core) {
        let snapshot = held.channel;
        bounded(core, host.number, "receive memory", held.unread, unread);
        bounded(core, host.number, "calls that wait", snapshot.waiting, plan.channel.waiting_max);
        let in_flight = snapshot.in_flight;
        // One request over the bound, a cancel for each slot, what streams may have unsent, and an occasional
        // pong: nothing that a server decides, and nothing that grows with the calls.
        let request = if plan.habits.large > 0 { frame + 512 } else { 1024 };
        // A byte that changes in a server's hello may let it take the largest request that a caller tries.
        let too_large = held.tainted && plan.habits.unsendable > 0;
        let request = if too_large { request.max(TOO_MUCH + 512) } else { request };
        let streams = plan.budgets.unsent_bytes_max / 4 + 256 * 1024 + frame;
        let streams = if plan.habits.stream > 0 || plan.held > 0 { streams } else { 0 };
        let slots = plan.limits.in_flight.get() as usize;
        let unsent = held.unsent_max + request + streams + slots * 16 + 512;
        let held = plan.limits.connection_credit.get() as usize + frame + 16;
        bounded(core, host.number, "calls of a channel", in_flight.max(snapshot.calls), calls + 64);
        bounded(core, host.number, "unsent bytes of a channel", snapshot.unsent, unsent);
        bounded(core, host.number, "held bytes of a channel", snapshot.held as usize, held);
    }
}

fn bounded(core: &Core, host: usize, what: &str, value: usize, most: usize) {
    if value > most {
        core.violated(Violated::Memory, || {
            format!("{what} of host {host}: {value}, at most {most} are allowed")
        });
    }
}

/// Whether a call that is open should have ended by now.
fn deadlines(core: &Core, ledger: &Ledger) {
    let (calls, now) = (ledger.calls.borrow(), core.now());
    let mut first = u64::MAX;
    for (id, call) in ledger.open.borrow().iter().filter_map(|id| Some((id, calls.get(id)?))) {
        let Some(deadline) = call.deadline else { continue };
        first = first.min(deadline);
        if deadline <= now && call.is_attended() {
            core.violated(Violated::Deadline, || {
                format!("call {id} outlives its deadline: {call:?}")
            });
        }
    }
    ledger.no_deadline_before.set(first);
}

/// Nothing can happen before `next`: anything that should have happened by now is late.
pub(crate) fn quiet(world: &mut World, next: u64) {
    let core = Rc::clone(&world.core);
    let now = core.now();
    if world.ledger.no_deadline_before.get() <= now {
        deadlines(&core, &world.ledger);
    }
    for host in &world.hosts {
        for (number, held) in host.held(&core).into_iter().enumerate() {
            if held.has_news {
                core.violated(Violated::LostWake, || {
                    format!("channel {number} of host {} has not heard its bell", host.number)
                });
            }
            let snapshot = held.channel;
            if snapshot.waiting == 0 {
                continue;
            }
            // Large requests wait for the hello, which says whether they may be sent; and all wait while too
            // much is unsent.
            let may_write = snapshot.ready && snapshot.unsent <= held.unsent_max;
            if may_write && snapshot.free_slots > 0 {
                core.violated(Violated::LostWake, || {
                    format!("calls wait on channel {number} of host {} while slots are free: {snapshot:?}", host.number)
                });
            }
        }
    }
    if core.plan.mesh.is_some() && core.has_lost_shard.get() {
        ties(world);
    }
    for host in &world.hosts {
        let takes = host.shard.as_ref().is_some_and(|shard| shard.is_accepting());
        if takes && world.net.is_waited_for(host.set) {
            core.violated(Violated::LostWake, || {
                format!("clients wait to be accepted by host {}, which sleeps", host.number)
            });
        }
    }
    let is_paused = |connection| {
        let mut shards = world.hosts.iter().filter_map(|host| host.shard.as_ref());
        shards.any(|shard| shard.snapshot().paused.contains(&connection))
    };
    let calls = world.ledger.calls.borrow();
    for (number, work) in world.ledger.works.borrow().iter() {
        if let Some((id, call)) = work.call.and_then(|id| Some((id, calls.get(&id)?))) {
            cascade(&core, id, call);
        }
        if work.deadline.is_some_and(|deadline| deadline <= now) {
            core.violated(Violated::Deadline, || format!("handler {number} outlives its deadline"));
        }
        let slept = work.sleeps_until.is_some_and(|until| until <= now);
        if (work.woken || slept) && !is_paused(work.connection) {
            core.violated(Violated::LostWake, || {
                format!("handler {number} was woken and is not polled: {work:?}")
            });
        }
    }
    drop(calls);
    if next > now + MS
        && world.nudges_left > 0
        && core.dice.chance(30_000)
        && !hello_is_awaited(world)
    {
        world.nudges_left -= 1;
        nudge(world);
    }
}

/// Nobody waits for a shard that has ended, nor works for one.
fn ties(world: &World) {
    let shards = world.core.plan.shards;
    let servers = world.hosts.chunks(shards).take(world.core.plan.servers);
    for (gone, hosts) in servers.flat_map(|hosts| hosts.iter().map(move |host| (host, hosts))) {
        // Some may not see it yet.
        let hosts = hosts.iter().filter(|host| gone.shard.is_none() && host.sees_all_at == 0);
        for (host, shard) in hosts.filter_map(|host| Some((host, host.shard.as_ref()?))) {
            let ties = shard.mesh_ties(gone.number % shards);
            if ties > 0 {
                world.core.violated(Violated::LostWake, || {
                    format!(
                        "host {} has {ties} ties to host {}, which is gone",
                        host.number, gone.number
                    )
                });
            }
        }
    }
}

/// Whether a large request, one-way or not, waits for its server's hello. Smaller ones behind it wait with it, although they
/// need not, and go on when their connection is notified of anything.
fn hello_is_awaited(world: &World) -> bool {
    let mut channels = world.hosts.iter().flat_map(|host| host.held(&world.core));
    channels.any(|Held { channel, .. }| channel.up && !channel.ready && channel.waiting > 0)
}

/// Tells every host that everything may be ready, and every caller to look again. This must have no effect:
/// whatever could go on should have been woken before.
fn nudge(world: &mut World) {
    let core = Rc::clone(&world.core);
    core.note(Note::Nudged);
    let progress = |world: &World| world.net.moved() + *world.ledger.steps.borrow();
    let before = progress(world);
    for host in &mut world.hosts {
        if host.shard.is_some() {
            host.sets().for_each(|set| world.net.nudge(set));
            for waker in world.ledger.wakers.borrow().values() {
                waker.wake_by_ref();
            }
        }
    }
    let works = world.ledger.works.borrow();
    works.values().filter_map(|work| work.waker.as_ref()).for_each(Waker::wake_by_ref);
    drop(works);
    let calm = core.calm.replace(true);
    world.run_all_now();
    core.calm.set(calm);
    if progress(world) != before {
        core.violated(Violated::LostWake, || {
            "everything slept, and something went on when it was told to look again".to_owned()
        });
    }
}

/// What does not balance when everything has ended, although it may still be on its way.
pub(crate) fn amiss(world: &World) -> Option<(Violated, String)> {
    // A driver that is told of the last cancel hears it when it is polled next.
    let mut held = world.hosts.iter().flat_map(|host| host.held(&world.core));
    if held.any(|held| held.has_news) {
        return Some((Violated::LostWake, "a channel does not hear its bell".to_owned()));
    }
    let credit = credit(world).map(|what| (Violated::Credit, what));
    let credit = credit.or_else(|| one_way(world).map(|what| (Violated::Once, what)));
    credit.or_else(|| mesh(world).map(|what| (Violated::Leftover, what)))
}

/// Whether the meshes of servers hold nothing, and shards nothing for calls that are over. Returns what is wrong, which may still
/// be on its way.
fn mesh(world: &World) -> Option<String> {
    let core = &world.core;
    core.plan.mesh.as_ref()?;
    // Calls of peers that follow no protocol have no end.
    let all_end = core.plan.hostile + core.plan.impostors == 0 && !core.plan.mutating;
    for host in world.hosts.iter().filter(|host| host.is_server() && all_end) {
        let Some(shard) = &host.shard else { continue };
        let held = shard.tally().held;
        let on_its_way = shard.mesh_snapshot();
        if on_its_way != MeshSnapshot::default() || held != (0, 0) {
            return Some(format!("host {} holds {held:?}, its mesh {on_its_way:?}", host.number));
        }
        if let Some(errands) = core.errands.borrow().get(host.number / core.plan.shards) {
            let now = core.clock.instant();
            let living = shard.enter(now, || errands.shelves.here().living());
            if living > 0 {
                return Some(format!("{living} futures of errands are on host {}", host.number));
            }
        }
    }
    None
}

/// Whether all credit is where it belongs: with nobody, when nothing is on its way. Returns what is wrong,
/// which may still be on its way.
fn credit(world: &World) -> Option<String> {
    let snapshot = |host: &Host| host.shard.as_ref().map(|shard| shard.snapshot().streams);
    let servers: Vec<StreamSnapshot> = world.hosts.iter().filter_map(snapshot).flatten().collect();
    let window = world.core.plan.limits.connection_credit.get();
    let whole = StreamAccounts { available: window, held: 0, ungranted: 0 };
    for host in &world.hosts {
        // A changed byte may be one of a grant.
        for held in host.held(&world.core).into_iter().filter(|held| !held.tainted) {
            let Some(client) = held.channel.streams else { continue };
            let server = servers.iter().find(|server| server.connection == client.connection);
            let Some(server) = server else { continue };
            if client.open + server.open > 0 {
                return Some(format!("streams are open: {client:?}, {server:?}"));
            }
            let near = client.accounts.unwrap_or(whole);
            let far = server.accounts.unwrap_or(whole);
            let up = near.available + far.held + far.ungranted;
            let down = far.available + near.held + near.ungranted;
            if (up, down, near.held + far.held) != (window, window, 0) {
                return Some(format!("credit of {window}: {client:?}, {server:?}"));
            }
        }
    }
    None
}

/// One-way calls are never run twice, and none is lost without being counted, unless it was lost with its
/// connection.
fn one_way(world: &World) -> Option<String> {
    let core = &world.core;
    if core.plan.hostile + core.plan.impostors > 0 || core.plan.mutating {
        return None;
    }
    let (written, begun) = world.ledger.one_way();
    // A call whose deadline passes before any of its bytes has left is taken back.
    let lapsed = world.ledger.one_way_lapsed(core.now());
    let shards = world.hosts.iter().filter_map(|host| host.shard.as_ref());
    let live: u64 = shards.map(|shard| shard.counters().one_way_dropped.value()).sum();
    let dropped = live + *world.ledger.one_way_dropped.borrow();
    let written_at_most = written + world.ledger.one_way_unknown();
    let wrong = begun + dropped > written_at_most
        || !world.net.has_lost() && begun + dropped + lapsed < written;
    wrong
        .then(|| format!("{written} one-way calls: {begun} ran, {dropped} were counted as dropped"))
}

/// Whether the channels hold nothing when every call has ended.
pub(crate) fn channels_are_empty(world: &World) {
    let core = &world.core;
    for host in &world.hosts {
        for (number, held) in host.held(core).into_iter().enumerate() {
            let snapshot = held.channel;
            // What the other end has not ended is checked at that end.
            if snapshot.calls + snapshot.waiting + snapshot.in_flight > 0 {
                core.violated(Violated::Leftover, || {
                    format!("channel {number} of host {}: {snapshot:?}", host.number)
                });
            }
        }
    }
}

/// A server host that was drained holds nothing any more.
pub(crate) fn drained(host: &Host, core: &Core, net: &Net, ledger: &Ledger) {
    let Some(shard) = &host.shard else { return };
    let snapshot = shard.snapshot();
    let open = shard.counters().connections_open.value();
    // Its handlers' channels keep their connections until it ends.
    let own = snapshot.connections - snapshot.server_connections;
    let ends = net.open_ends(host.set).saturating_sub(own);
    // What it runs for another shard, whose cancel may be on its way, ends with the shard.
    let is_own = |work: &Work| work.connection >> 32 == host.number as u64;
    let works = ledger.works.borrow();
    let here = works.values().filter(|work| work.host == host.number);
    let (works, guests): (Vec<&Work>, Vec<&Work>) = here.partition(|work| is_own(work));
    let (works, calls) = (works.len(), snapshot.held.1.saturating_sub(guests.len()));
    let left = snapshot.server_connections + snapshot.in_flight + ends + works + calls;
    if left > 0 || open > 0 || snapshot.parked {
        core.violated(Violated::Leftover, || {
            format!(
                "host {} is drained, with {works} handlers, {ends} sockets, {open} connections by its counter: {snapshot:?}",
                host.number
            )
        });
    }
}

/// A shard with a mesh has ended, in order or not: none of its handlers live on.
pub(crate) fn ended(host: &Host, core: &Core, ledger: &Ledger) {
    let works = ledger.works.borrow();
    if let Some((number, work)) = works.iter().find(|(_, work)| work.host == host.number) {
        core.violated(Violated::Orphan, || {
            format!("handler {number} outlives its shard, host {}: {work:?}", host.number)
        });
    }
}

/// The end of the run: tables, timers and buffers are as they were before it.
pub(crate) fn nothing_is_left(world: &World) {
    let core = &world.core;
    for host in &world.hosts {
        let Some(shard) = &host.shard else { continue };
        let snapshot = shard.snapshot();
        let ends: usize = host.sets().map(|set| world.net.open_ends(set)).sum();
        let tasks = host.tasks.len() + host.runtime.as_ref().map_or(0, |runtime| runtime.drivers());
        let held = snapshot.held.0 + snapshot.held.1;
        if snapshot.connections + snapshot.run_queue + ends + tasks + held > 0 {
            core.violated(Violated::Leftover, || {
                format!(
                    "host {} at the end: {tasks} tasks, {ends} sockets, {snapshot:?}",
                    host.number
                )
            });
        }
    }
    // Handles keep the mesh of the last server that they belonged to.
    core.errands.borrow_mut().clear();
    let watches = world.ledger.meshes.borrow();
    let meshes = watches.iter().filter(|mesh| !mesh.is_gone()).count();
    let shares = Arc::strong_count(&core.errand_token) - 1;
    if meshes + shares > 0 {
        core.violated(Violated::Leftover, || {
            format!("{meshes} meshes and {shares} pieces of code in them are left at the end")
        });
    }
    let open = world.ledger.open.borrow().len();
    if open > 0 {
        core.violated(Violated::Leftover, || {
            format!("{open} calls are open at the end{}", world.open_calls())
        });
    }
    let works = world.ledger.works.borrow().len();
    if works > 0 {
        core.violated(Violated::Leftover, || format!("{works} handlers live at the end"));
    }
}

/// What is left undone at the end of a phase.
pub(crate) fn unfinished(world: &World, phase: &str) -> String {
    let hosts = world.hosts.iter().filter_map(|host| {
        let snapshot = host.shard.as_ref().map(|shard| shard.snapshot())?;
        Some(format!(
            "; host {}: {} connections, {} drivers{}, draining {}, drained {}",
            host.number,
            snapshot.connections,
            host.runtime.as_ref().map_or(0, |runtime| runtime.drivers()),
            host.runtime.as_ref().map(|runtime| runtime.describe()).unwrap_or_default(),
            host.draining,
            host.shard.as_ref().is_some_and(|shard| shard.is_drained()),
        ))
    });
    let hosts: String = hosts.collect();
    format!(
        "the phase '{phase}' does not end: {} calls are open, {} channels are being closed{}{hosts}",
        world.ledger.open.borrow().len(),
        world.ledger.closings.get(),
        world.open_calls()
    )
}
