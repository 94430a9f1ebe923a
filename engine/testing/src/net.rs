//! The simulated network: wires with two ends, listeners, and the readiness of both.
//!
//! It keeps what TCP and edge-triggered epoll promise, because the driver relies on it: bytes arrive
//! in order or the connection ends; a receive that leaves room has emptied the socket; writability
//! is reported after a send that met a full socket. Everything else is drawn: how the bytes are cut,
//! how late they are, when nobody is told that the other side is gone.

pub mod endpoint;
mod frames;
mod state;
mod surroundings;
mod way;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use corewire_engine::testing::sim::{Readiness, Token};

use state::{End, Listening, Phase, Ready, State, Tail, Wire, ends};

pub use self::way::Tamper;
pub use surroundings::{NetEvent, NetNote, Rates, Route, Seen, Surroundings};

/// A shared handle to the network.
#[derive(Debug)]
pub struct Net<C> {
    state: Rc<RefCell<State>>,
    core: Rc<C>,
}

impl<C> Clone for Net<C> {
    fn clone(&self) -> Self {
        Self { state: Rc::clone(&self.state), core: Rc::clone(&self.core) }
    }
}

impl<C: Surroundings> Net<C> {
    /// A network without hosts.
    #[must_use]
    pub fn new(core: Rc<C>) -> Self {
        Self { state: Rc::default(), core }
    }

    /// A new poll set.
    pub fn add_set(&self) -> usize {
        let state = &mut *self.state.borrow_mut();
        state.news.push(VecDeque::new());
        state.nudged.push(false);
        state.news.len() - 1
    }

    /// Whether a poll set has news.
    #[must_use]
    pub fn has_news(&self, set: usize) -> bool {
        let state = self.state.borrow();
        !state.news[set].is_empty() || state.nudged[set]
    }

    /// Whether clients wait at a listener of this set.
    #[must_use]
    pub fn is_waited_for(&self, set: usize) -> bool {
        let state = self.state.borrow();
        let waits = |listening: &Listening| {
            listening.owner == set && listening.token.is_some() && !listening.waiting.is_empty()
        };
        state.listeners.iter().any(waits)
    }

    /// Bytes and connections that moved so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.state.borrow().moved
    }

    /// How often bytes arrived at an end.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.state.borrow().arrivals
    }

    /// Reports every socket of a set as ready once, though it is not.
    pub fn nudge(&self, set: usize) {
        self.state.borrow_mut().nudged[set] = true;
    }

    /// Whether any connection that carried something is over, or no longer carries anything.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        let state = self.state.borrow();
        let is_lost = |wire: &Wire| {
            wire.silent || wire.ends.iter().any(|end| end.closed || end.broken || end.ended)
        };
        state.wires.iter().any(is_lost)
    }

    /// Ends that are still held open.
    #[must_use]
    pub fn open_ends(&self, set: usize) -> usize {
        let state = self.state.borrow();
        let ends = state.wires.iter().flat_map(|wire| &wire.ends);
        ends.filter(|end| !end.closed && end.watched.is_some_and(|(owner, _)| owner == set)).count()
    }

    /// Appends what is new of a poll set.
    pub fn poll(&self, set: usize, news: &mut Vec<Readiness>) {
        let state = &mut *self.state.borrow_mut();
        if std::mem::take(&mut state.nudged[set]) {
            state.nudge(set, news);
        }
        let waiting = state.news[set].len();
        // The kernel gives as many events as it is asked for, and the rest at the next look.
        let take = if self.core.dice().chance(50_000) { waiting.min(2) } else { waiting };
        for _ in 0..take {
            let at = if self.core.shuffles() {
                self.core.dice().below(state.news[set].len())
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
                    let ready = state.readiness(wire, side, self.core.pipe());
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
    pub fn connect(&self, address: usize, mutating: bool) -> usize {
        self.connect_from(None, address, mutating)
    }

    /// The same from this host.
    pub fn connect_from(&self, from: Option<usize>, address: usize, mutating: bool) -> usize {
        let core = &self.core;
        let route = Route { from, to: address };
        let (least, most) = core.latency(route);
        let latency = core.dice().between(least.min(most), most.max(least));
        let slow = core.fault(core.rates(route).slow).then(|| core.dice().size(1, 2048));
        let state = &mut *self.state.borrow_mut();
        state.wires.push(Wire {
            ends: [End::new(), End::new()],
            route,
            phase: Phase::Connecting,
            silent: false,
            stalled_until: 0,
            mutating,
            slow,
            latency,
        });
        let wire = state.wires.len() - 1;
        core.note_wire(route);
        core.after(latency, NetEvent::Connect { wire });
        wire
    }

    /// Who is at the ends of a wire.
    #[must_use]
    pub fn route(&self, wire: usize) -> Route {
        self.state.borrow().wires[wire].route
    }

    /// How a connect ended.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub fn connected(&self, wire: usize, side: usize) -> io::Result<()> {
        let end = &mut self.state.borrow_mut().wires[wire].ends[side];
        // This is called at the connection's end, too.
        if end.begun == 0 {
            end.begun = self.core.now();
        }
        let error = end.error.take();
        error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Puts an end of a wire into a poll set, under this token.
    pub fn watch(&self, wire: usize, side: usize, set: usize, token: Token) {
        let state = &mut *self.state.borrow_mut();
        let end = &mut state.wires[wire].ends[side];
        (end.watched, end.begun) = (Some((set, token)), self.core.now());
        state.tell(wire, side);
    }

    /// A new listener at this address, for this poll set; returns its number.
    pub fn listen(&self, address: usize, owner: usize) -> usize {
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

    /// Puts a listener into its poll set, under this token.
    pub fn watch_listener(&self, index: usize, token: Token) {
        let state = &mut *self.state.borrow_mut();
        state.listeners[index].token = Some(token);
        state.tell_listener(index);
    }

    /// Takes a listener out of service; its waiting clients learn of it.
    pub fn retire(&self, index: usize) {
        let state = &mut *self.state.borrow_mut();
        let listening = &mut state.listeners[index];
        listening.in_service = false;
        listening.token = None;
        for wire in std::mem::take(&mut listening.waiting) {
            state.wires[wire].ends[1].closed = true;
            let latency = state.wires[wire].latency;
            self.core.after(latency, NetEvent::Reset { wire, side: 0 });
        }
    }

    /// Takes a waiting client; returns its wire.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when none waits, `InvalidInput` when the listener is out of service.
    pub fn accept(&self, index: usize) -> io::Result<usize> {
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

    /// Takes at most `room` bytes that have arrived.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there, or how the connection has ended.
    pub fn recv(
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
                self.core.after(latency, NetEvent::Ack { wire, side: 1 - side, bytes });
            }
            self.core.note(NetNote::Received { wire, side, bytes });
            return Ok(bytes);
        }
        match end.error.take() {
            Some(kind) => Err(kind.into()),
            None if end.ended || end.broken => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes as much as there is room for; the bytes come in slices.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is no room, or how the connection has ended.
    pub fn send(&self, wire: usize, side: usize, chunks: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let core = &self.core;
        let state = &mut *self.state.borrow_mut();
        let all: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let Wire { latency, phase, route, .. } = state.wires[wire];
        let [near, far] = ends(&mut state.wires[wire], side);
        if let Some(kind) = near.error.take() {
            return Err(kind.into());
        }
        if near.broken || near.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = core.pipe().saturating_sub(far.unacked);
        if room == 0 || phase == Phase::Connecting {
            near.blocked = true;
            near.asked_in_vain |= std::mem::replace(&mut near.knows_full, true);
            core.note(NetNote::Blocked { wire, side });
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = room.min(all);
        if count > 1 && core.fault(core.rates(route).short_send) {
            count = 1 + core.dice().below(count);
        }
        let mut left = count;
        for chunk in chunks {
            let part = left.min(chunk.len());
            far.flight.extend(&chunk[..part]);
            left -= part;
        }
        far.unacked += count;
        near.moved = core.now();
        let wait = if core.is_exact() { far.add_piece(&**core, route, count) } else { latency };
        state.moved += count as u64;
        core.note(NetNote::Sent { wire, side, bytes: count });
        state.schedule(&**core, wire, 1 - side, wait);
        Ok(count)
    }

    /// Whether this end ever asked for room again although it knew that there was none.
    #[must_use]
    pub fn asked_in_vain(&self, wire: usize, side: usize) -> bool {
        self.state.borrow().wires[wire].ends[side].asked_in_vain
    }

    /// This end asks for room once although it was told that there is none. If the wire is full then, it is told of room
    /// again, also if it was being told already: the kernel looks at a socket when it reports it, and if it is full by
    /// then, reports it later.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn send_late(
        &self,
        wire: usize,
        side: usize,
        send: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.state.borrow_mut().wires[wire].ends[side].knows_full = false;
        let sent = send();
        let state = &mut *self.state.borrow_mut();
        let [near, far] = ends(&mut state.wires[wire], side);
        near.blocked |= far.unacked >= self.core.pipe();
        sent
    }

    /// Bytes not yet known to be taken by the other end.
    #[must_use]
    pub fn unacknowledged(&self, wire: usize, side: usize) -> usize {
        self.state.borrow().wires[wire].ends[1 - side].unacked
    }

    /// What is known of this end, for checking its owner.
    #[must_use]
    pub fn seen(&self, wire: usize, side: usize) -> Seen {
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

    /// The owner ends its direction.
    pub fn shutdown_write(&self, wire: usize, side: usize) {
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
        self.core.note(NetNote::Finished { wire, side });
        state.schedule(&*self.core, wire, 1 - side, latency);
    }

    /// The owner drops its end. If bytes are unread, the kernel sends a reset.
    pub fn close(&self, wire: usize, side: usize) {
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
            let kept = self.core.dice().below(far.flight.len() + 1);
            far.flight.truncate(kept);
            far.tail = Tail::Reset;
        } else if far.tail == Tail::Open {
            far.tail = Tail::End;
        }
        self.core.note(NetNote::Closed { wire, side, reset });
        state.schedule(&*self.core, wire, 1 - side, latency);
    }
}
