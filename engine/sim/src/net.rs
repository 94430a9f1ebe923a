//! The simulated network: wires with two ends, listeners, and the readiness of both.
//!
//! It keeps what TCP and edge-triggered epoll promise, because the driver relies on it: bytes arrive
//! in order or the connection ends; a receive that leaves room has emptied the socket; writability
//! is reported after a send that met a full socket. Everything else is drawn: how the bytes are cut,
//! how late they are, when nobody is told that the other side is gone.

pub(crate) mod endpoint;
mod frames;
mod state;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use corewire_codec::SendBuffer;
use corewire_engine::testing::sim::{Readiness, Token};

use crate::core::trace::Note;
use crate::core::{Core, Event, Tamper};
use crate::judge::patience::Seen;
use crate::plan::{MS, SECOND};
use state::{End, Listening, Phase, Ready, State, Tail, Wire, ends};

/// A shared handle to the network.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    state: Rc<RefCell<State>>,
    core: Rc<Core>,
}

/// Above this many waiting clients, a listener refuses more.
const BACKLOG: usize = 64;

impl Net {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self { state: Rc::default(), core }
    }

    /// A new poll set.
    pub(crate) fn add_set(&self) -> usize {
        let state = &mut *self.state.borrow_mut();
        state.news.push(VecDeque::new());
        state.nudged.push(false);
        state.news.len() - 1
    }

    pub(crate) fn has_news(&self, set: usize) -> bool {
        let state = self.state.borrow();
        !state.news[set].is_empty() || state.nudged[set]
    }

    /// Whether clients wait at a listener of this set.
    pub(crate) fn is_waited_for(&self, set: usize) -> bool {
        let state = self.state.borrow();
        let waits = |listening: &Listening| {
            listening.owner == set && listening.token.is_some() && !listening.waiting.is_empty()
        };
        state.listeners.iter().any(waits)
    }

    /// Bytes and connections that moved so far.
    pub(crate) fn moved(&self) -> u64 {
        self.state.borrow().moved
    }

    /// How often bytes arrived at an end.
    pub(crate) fn arrivals(&self) -> u64 {
        self.state.borrow().arrivals
    }

    /// Reports every socket of a set as ready once, though it is not.
    pub(crate) fn nudge(&self, set: usize) {
        self.state.borrow_mut().nudged[set] = true;
    }

    /// Whether any connection that carried something is over, or no longer carries anything.
    pub(crate) fn has_lost(&self) -> bool {
        let state = self.state.borrow();
        let is_lost = |wire: &Wire| {
            wire.silent || wire.ends.iter().any(|end| end.closed || end.broken || end.ended)
        };
        state.wires.iter().any(is_lost)
    }

    /// Ends that are still held open.
    pub(crate) fn open_ends(&self, set: usize) -> usize {
        let state = self.state.borrow();
        let ends = state.wires.iter().flat_map(|wire| &wire.ends);
        ends.filter(|end| !end.closed && end.watched.is_some_and(|(owner, _)| owner == set)).count()
    }

    pub(crate) fn poll(&self, set: usize, news: &mut Vec<Readiness>) {
        let state = &mut *self.state.borrow_mut();
        if std::mem::take(&mut state.nudged[set]) {
            state.nudge(set, news);
        }
        let waiting = state.news[set].len();
        // The kernel gives as many events as it is asked for, and the rest at the next look.
        let take = if self.core.dice.chance(50_000) { waiting.min(2) } else { waiting };
        for _ in 0..take {
            let at = if self.core.plan.shuffle {
                self.core.dice.below(state.news[set].len())
            } else {
                0
            };
            match state.news[set].remove(at) {
                Some(Ready::Listener(index)) => {
                    let listening = &mut state.listeners[index];
                    listening.news = false;
                    let Some(token) = listening.token else { continue };
                    let readable = !listening.waiting.is_empty();
                    news.push(Readiness {
                        token,
                        readable,
                        writable: false,
                        hangup: false,
                        urgent: false,
                    });
                }
                Some(Ready::End { wire, side }) => {
                    state.wires[wire].ends[side].news = false;
                    let ready = state.readiness(wire, side, self.core.plan.pipe);
                    if ready.is_some_and(|ready| ready.writable || ready.hangup) {
                        state.wires[wire].ends[side].knows_full = false;
                    }
                    news.extend(ready);
                }
                None => {}
            }
        }
    }

    // What the driver does, through `SimIo`.

    /// A client's new wire; the request is on its way.
    pub(crate) fn connect(&self, address: usize, mutating: bool) -> usize {
        let core = &self.core;
        let (least, most) = core.plan.latency;
        let latency = core.dice.between(least.min(most), most.max(least));
        let slow = core.fault(core.plan.rates.slow).then(|| core.dice.size(1, 2048));
        let state = &mut *self.state.borrow_mut();
        state.wires.push(Wire {
            ends: [End::new(), End::new()],
            address,
            phase: Phase::Connecting,
            silent: false,
            stalled_until: 0,
            mutating,
            slow,
            latency,
        });
        let wire = state.wires.len() - 1;
        core.after(latency, Event::Connect { wire });
        wire
    }

    pub(crate) fn connected(&self, wire: usize, side: usize) -> io::Result<()> {
        let end = &mut self.state.borrow_mut().wires[wire].ends[side];
        // This is called at the connection's end, too.
        if end.begun == 0 {
            end.begun = self.core.now();
        }
        let error = end.error.take();
        error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    pub(crate) fn watch(&self, wire: usize, side: usize, set: usize, token: Token) {
        let state = &mut *self.state.borrow_mut();
        let end = &mut state.wires[wire].ends[side];
        (end.watched, end.begun) = (Some((set, token)), self.core.now());
        state.tell(wire, side);
    }

    pub(crate) fn listen(&self, address: usize, owner: usize) -> usize {
        let state = &mut *self.state.borrow_mut();
        state.listeners.push(Listening {
            address,
            owner,
            token: None,
            waiting: VecDeque::new(),
            in_service: true,
            news: false,
        });
        state.listeners.len() - 1
    }

    pub(crate) fn watch_listener(&self, index: usize, token: Token) {
        let state = &mut *self.state.borrow_mut();
        state.listeners[index].token = Some(token);
        state.tell_listener(index);
    }

    pub(crate) fn retire(&self, index: usize) {
        let state = &mut *self.state.borrow_mut();
        let listening = &mut state.listeners[index];
        listening.in_service = false;
        listening.token = None;
        for wire in std::mem::take(&mut listening.waiting) {
            state.wires[wire].ends[1].closed = true;
            let latency = state.wires[wire].latency;
            self.core.after(latency, Event::Reset { wire, side: 0 });
        }
    }

    pub(crate) fn accept(&self, index: usize) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        if !state.listeners[index].in_service {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match state.listeners[index].waiting.pop_front() {
            Some(wire) => {
                state.moved += 1;
                Ok(wire)
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn recv(
        &self,
        wire: usize,
        side: usize,
        into: &mut Vec<u8>,
        room: usize,
    ) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        let (silent, latency) = (state.wires[wire].silent, state.wires[wire].latency);
        let end = &mut state.wires[wire].ends[side];
        let bytes = end.inbox.len().min(room);
        if bytes > 0 {
            let (front, back) = end.inbox.as_slices();
            let first = bytes.min(front.len());
            into.extend_from_slice(&front[..first]);
            into.extend_from_slice(&back[..bytes - first]);
            let now = self.core.now();
            end.frames.take(&front[..first], now);
            end.frames.take(&back[..bytes - first], now);
            end.inbox.drain(..bytes);
            state.moved += bytes as u64;
            if !silent {
                self.core.after(latency, Event::Ack { wire, side: 1 - side, bytes });
            }
            self.core.note(Note::Received { wire, side, bytes });
            return Ok(bytes);
        }
        match end.error.take() {
            Some(kind) => Err(kind.into()),
            None if end.ended || end.broken => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes as much as there is room for; the bytes come in slices.
    pub(crate) fn send(
        &self,
        wire: usize,
        side: usize,
        chunks: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let all: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let (latency, phase) = (state.wires[wire].latency, state.wires[wire].phase);
        let [near, far] = ends(&mut state.wires[wire], side);
        if let Some(kind) = near.error.take() {
            return Err(kind.into());
        }
        if near.broken || near.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = core.plan.pipe.saturating_sub(far.unacked);
        if room == 0 || phase == Phase::Connecting {
            near.blocked = true;
            near.asked_in_vain |= std::mem::replace(&mut near.knows_full, true);
            core.note(Note::Blocked { wire, side });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = room.min(all);
        if count > 1 && core.fault(core.plan.rates.short_send) {
            count = 1 + core.dice.below(count);
        }
        let mut left = count;
        for chunk in chunks {
            let part = left.min(chunk.len());
            far.flight.extend(&chunk[..part]);
            left -= part;
        }
        far.unacked += count;
        near.moved = core.now();
        state.moved += count as u64;
        core.note(Note::Sent { wire, side, bytes: count });
        state.schedule(core, wire, 1 - side, latency);
        Ok(count)
    }

    /// Whether this end ever asked for room again although it knew that there was none.
    pub(crate) fn asked_in_vain(&self, wire: usize, side: usize) -> bool {
        self.state.borrow().wires[wire].ends[side].asked_in_vain
    }

    /// This end asks for room once although it was told that there is none. If the wire is full then, it is told of room
    /// again, also if it was being told already: the kernel looks at a socket when it reports it, and if it is full by
    /// then, reports it later.
    pub(crate) fn send_late(
        &self,
        wire: usize,
        side: usize,
        send: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.state.borrow_mut().wires[wire].ends[side].knows_full = false;
        let sent = send();
        let state = &mut *self.state.borrow_mut();
        let [near, far] = ends(&mut state.wires[wire], side);
        near.blocked |= far.unacked >= self.core.plan.pipe;
        sent
    }

    /// Bytes not yet known to be taken by the other end.
    pub(crate) fn unacknowledged(&self, wire: usize, side: usize) -> usize {
        self.state.borrow().wires[wire].ends[1 - side].unacked
    }

    /// What is known of this end, for checking its owner.
    pub(crate) fn seen(&self, wire: usize, side: usize) -> Seen {
        let state = self.state.borrow();
        let end = &state.wires[wire].ends[side];
        Seen {
            unread: end.inbox.len(),
            begun: end.begun,
            arrived: end.arrived,
            moved: end.moved,
            frames: end.frames.whole(),
            partial_since: end.frames.partial_since(),
        }
    }

    pub(crate) fn shutdown_write(&self, wire: usize, side: usize) {
        let state = &mut *self.state.borrow_mut();
        let latency = state.wires[wire].latency;
        let [near, far] = ends(&mut state.wires[wire], side);
        if near.finished || near.broken {
            return;
        }
        near.finished = true;
        if far.tail == Tail::Open {
            far.tail = Tail::End;
        }
        self.core.note(Note::Finished { wire, side });
        state.schedule(&self.core, wire, 1 - side, latency);
    }

    /// The owner drops its end. If bytes are unread, the kernel sends a reset.
    pub(crate) fn close(&self, wire: usize, side: usize) {
        let state = &mut *self.state.borrow_mut();
        let latency = state.wires[wire].latency;
        let [near, far] = ends(&mut state.wires[wire], side);
        if near.closed {
            return;
        }
        near.closed = true;
        let reset = !near.inbox.is_empty();
        near.inbox.clear();
        if reset {
            // What had not left yet is dropped.
            let kept = self.core.dice.below(far.flight.len() + 1);
            far.flight.truncate(kept);
            far.tail = Tail::Reset;
        } else if far.tail == Tail::Open {
            far.tail = Tail::End;
        }
        self.core.note(Note::Closed { wire, side, reset });
        state.schedule(&self.core, wire, 1 - side, latency);
    }

    // What happens on the way.

    pub(crate) fn handle_connect(&self, wire: usize) {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let (address, latency) = (state.wires[wire].address, state.wires[wire].latency);
        if state.wires[wire].ends[0].closed {
            return;
        }
        let open: Vec<usize> = (0..state.listeners.len())
            .filter(|&index| state.listeners[index].in_service)
            .filter(|&index| state.listeners[index].address == address)
            .collect();
        if core.fault(core.plan.rates.connect) && core.dice.chance(500_000) {
            // The request is lost and sent again, or lost for good.
            core.after(SECOND, Event::Connect { wire });
            return;
        }
        let refused = open.is_empty() || core.fault(core.plan.rates.connect);
        let index = open.get(core.dice.below(open.len())).copied();
        let full = index.is_some_and(|index| state.listeners[index].waiting.len() >= BACKLOG);
        if full {
            core.after(200 * MS, Event::Connect { wire });
            return;
        }
        let Some(index) = index.filter(|_| !refused) else {
            state.wires[wire].ends[1].closed = true;
            core.note(Note::ConnectRefused { wire });
            state.break_end(wire, 0, io::ErrorKind::ConnectionRefused);
            return;
        };
        state.wires[wire].phase = Phase::Open;
        state.listeners[index].waiting.push_back(wire);
        state.tell_listener(index);
        state.tell(wire, 0);
        // What was closed or sent meanwhile is now delivered.
        state.schedule(core, wire, 1, latency);
    }

    pub(crate) fn handle_deliver(&self, wire: usize, to: usize) {
        let core = &self.core;
        let rates = &core.plan.rates;
        let state = &mut *self.state.borrow_mut();
        let line = &mut state.wires[wire];
        line.ends[to].scheduled = false;
        if line.silent {
            return;
        }
        if core.fault(rates.silence) {
            line.silent = true;
            core.note(Note::Silenced { wire });
            return;
        }
        if core.fault(rates.stall) {
            line.stalled_until = core.now() + core.dice.spread(MS, 20 * SECOND);
            core.note(Note::Stalled { wire, until: line.stalled_until });
        }
        if line.stalled_until > core.now() {
            let wait = line.stalled_until - core.now();
            state.schedule(core, wire, to, wait);
            return;
        }
        if core.fault(rates.reset) {
            state.cut(core, wire, to);
            return;
        }
        state.deliver(core, wire, to);
    }

    pub(crate) fn handle_ack(&self, wire: usize, side: usize, bytes: usize) {
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

    pub(crate) fn handle_reset(&self, wire: usize, side: usize) {
        let state = &mut *self.state.borrow_mut();
        if !state.wires[wire].silent {
            state.break_end(wire, side, io::ErrorKind::ConnectionReset);
        }
    }

    /// Some trouble happens to a wire that is drawn from those in use.
    pub(crate) fn trouble(&self) {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let live: Vec<usize> = (0..state.wires.len())
            .filter(|&wire| state.wires[wire].ends.iter().all(|end| !end.closed && !end.broken))
            .collect();
        let Some(&wire) = live.get(core.dice.below(live.len())) else { return };
        match core.dice.below(4) {
            0 => {
                state.wires[wire].silent = true;
                core.note(Note::Silenced { wire });
            }
            1 => {
                let until = core.now() + core.dice.spread(MS, 20 * SECOND);
                state.wires[wire].stalled_until = until;
                core.note(Note::Stalled { wire, until });
            }
            _ => {
                let to = core.dice.below(2);
                state.cut(core, wire, to);
            }
        }
    }

    /// An attacker in the middle of the wire does this to what is on its way.
    pub(crate) fn tamper(&self, wire: usize, to: usize, how: Tamper) {
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
                state.schedule(&self.core, wire, to, 0);
            }
        }
    }

    /// Stalls end; silent wires stay silent, because a peer that is gone does not come back.
    pub(crate) fn heal(&self) {
        let state = &mut *self.state.borrow_mut();
        for wire in 0..state.wires.len() {
            state.wires[wire].stalled_until = 0;
            state.wires[wire].mutating = false;
            state.wires[wire].slow = None;
            for to in 0..2 {
                let end = &state.wires[wire].ends[to];
                if !end.flight.is_empty() || end.tail != Tail::Open {
                    // The delivery that is on the agenda may be far away.
                    self.core.after(0, Event::Deliver { wire, to });
                }
            }
        }
    }
}
