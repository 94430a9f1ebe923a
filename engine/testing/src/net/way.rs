//! What happens on the way: connection requests, bytes and acknowledgements arrive, late or never.

use std::io;

use corewire_codec::SendBuffer;

use super::Net;
use super::state::{Phase, Tail, Wire, ends};
use super::surroundings::{NetEvent, NetNote, Surroundings};
use crate::ground::{MS, SECOND};

/// Above this many waiting clients, a listener refuses more.
const BACKLOG: usize = 64;

/// What an attacker in the middle of a wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tamper {
    /// The last frame on its way names another call.
    OtherCall,
    /// This many pings follow.
    Pings(u16),
}

impl<C: Surroundings> Net<C> {
    /// Keeps an event until the partition that it meets has ended; returns whether there is one. To be asked before the
    /// event is handled, where there are partitions.
    #[must_use]
    pub fn holds(&self, event: NetEvent) -> bool {
        let wire = event.wire();
        let state = &mut *self.state.borrow_mut();
        let is_cut = self.core.is_cut(state.wires[wire].route);
        if is_cut {
            state.held.push(event);
        }
        is_cut
    }

    /// Partitions have ended: what was held goes on, unless another one holds it.
    pub fn release(&self) {
        let state = &mut *self.state.borrow_mut();
        for event in std::mem::take(&mut state.held) {
            // It meets the network again when it arrives.
            self.core.after(state.wires[event.wire()].latency, event);
        }
    }

    /// Something that was planned happens now.
    pub fn handle(&self, event: NetEvent) {
        match event {
            NetEvent::Connect { wire } => self.handle_connect(wire),
            NetEvent::Deliver { wire, to } => self.handle_deliver(wire, to),
            NetEvent::Ack { wire, side, bytes } => self.handle_ack(wire, side, bytes),
            NetEvent::Reset { wire, side } => self.handle_reset(wire, side),
        }
    }

    /// A connection request reaches its address.
    fn handle_connect(&self, wire: usize) {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let Wire { route, latency, .. } = state.wires[wire];
        if state.wires[wire].ends[0].closed {
            return;
        }
        let open: Vec<usize> = (0..state.listeners.len())
            .filter(|&index| state.listeners[index].in_service)
            .filter(|&index| state.listeners[index].address == route.to)
            .collect();
        if core.fault(core.rates(route).connect) && core.dice().chance(500_000) {
            // The request is lost and sent again, or lost for good.
            core.after(SECOND, NetEvent::Connect { wire });
            return;
        }
        let refused = open.is_empty() || core.fault(core.rates(route).connect);
        let index = open.get(core.dice().below(open.len())).copied();
        let full = index.is_some_and(|index| state.listeners[index].waiting.len() >= BACKLOG);
        if full {
            core.after(200 * MS, NetEvent::Connect { wire });
            return;
        }
        let Some(index) = index.filter(|_| !refused) else {
            state.wires[wire].ends[1].closed = true;
            core.note(NetNote::ConnectRefused { wire });
            state.break_end(wire, 0, io::ErrorKind::ConnectionRefused);
            return;
        };
        state.wires[wire].phase = Phase::Open;
        state.listeners[index].waiting.push_back(wire);
        state.tell_listener(index);
        state.tell(wire, 0);
        // What was closed or sent meanwhile is now delivered.
        state.schedule(&**core, wire, 1, latency);
    }

    /// What is on its way reaches an end of a wire.
    fn handle_deliver(&self, wire: usize, to: usize) {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let line = &mut state.wires[wire];
        let rates = core.rates(line.route);
        line.ends[to].scheduled = false;
        if line.silent {
            return;
        }
        if core.fault(rates.silence) {
            line.silent = true;
            core.note(NetNote::Silenced { wire });
            return;
        }
        if core.fault(rates.stall) {
            line.stalled_until = core.now() + core.dice().spread(MS, 20 * SECOND);
            core.note(NetNote::Stalled { wire, until: line.stalled_until });
        }
        if line.stalled_until > core.now() {
            let wait = line.stalled_until - core.now();
            state.schedule(&**core, wire, to, wait);
            return;
        }
        if core.fault(rates.reset) {
            state.cut(&**core, wire, to);
            return;
        }
        state.deliver(&**core, wire, to);
    }

    /// The sender learns that this many of its bytes were taken.
    fn handle_ack(&self, wire: usize, side: usize, bytes: usize) {
        let state = &mut *self.state.borrow_mut();
        if state.wires[wire].silent {
            return;
        }
        let [near, far] = ends(&mut state.wires[wire], side);
        far.unacked = far.unacked.saturating_sub(bytes);
        near.moved = self.core.now();
        if near.blocked {
            near.blocked = false;
            state.tell(wire, side);
        }
    }

    /// An end of a wire learns that the other does not know it.
    fn handle_reset(&self, wire: usize, side: usize) {
        let state = &mut *self.state.borrow_mut();
        if !state.wires[wire].silent {
            state.break_end(wire, side, io::ErrorKind::ConnectionReset);
        }
    }

    /// Some trouble happens to a wire that is drawn from those in use.
    pub fn trouble(&self) {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let live: Vec<usize> = (0..state.wires.len())
            .filter(|&wire| state.wires[wire].ends.iter().all(|end| !end.closed && !end.broken))
            .collect();
        let Some(&wire) = live.get(core.dice().below(live.len())) else { return };
        match core.dice().below(4) {
            0 => {
                state.wires[wire].silent = true;
                core.note(NetNote::Silenced { wire });
            }
            1 => {
                let until = core.now() + core.dice().spread(MS, 20 * SECOND);
                state.wires[wire].stalled_until = until;
                core.note(NetNote::Stalled { wire, until });
            }
            _ => {
                let to = core.dice().below(2);
                state.cut(&**core, wire, to);
            }
        }
    }

    /// An attacker in the middle of the wire does this to what is on its way.
    pub fn tamper(&self, wire: usize, to: usize, how: Tamper) {
        let state = &mut *self.state.borrow_mut();
        let Some(end) = state.wires.get_mut(wire).map(|line| &mut line.ends[to]) else { return };
        match how {
            Tamper::OtherCall => {
                // The call's number is in the second half of a frame without a body.
                if let Some(at) = end.flight.len().checked_sub(8) {
                    end.flight[at] ^= 0x40;
                }
            }
            Tamper::Pings(count) => {
                let mut frames = SendBuffer::new();
                (0..count).for_each(|number| frames.ping(number.into()));
                while !frames.is_empty() {
                    let chunk = frames.first_chunk();
                    let bytes = chunk.len();
                    end.flight.extend(chunk);
                    frames.advance(bytes);
                }
                state.schedule(&*self.core, wire, to, 0);
            }
        }
    }

    /// Stalls end; silent wires stay silent, because a peer that is gone does not come back.
    pub fn heal(&self) {
        let state = &mut *self.state.borrow_mut();
        for wire in 0..state.wires.len() {
            state.wires[wire].stalled_until = 0;
            state.wires[wire].mutating = false;
            state.wires[wire].slow = None;
            for to in 0..2 {
                let end = &state.wires[wire].ends[to];
                if !end.flight.is_empty() || end.tail != Tail::Open {
                    // The delivery that is on the agenda may be far away.
                    self.core.after(0, NetEvent::Deliver { wire, to });
                }
            }
        }
    }
}
