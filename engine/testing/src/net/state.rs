//! The parts of the network: wires, their ends, listeners, and who is notified of what.

use std::collections::VecDeque;
use std::io;

use corewire_engine::testing::sim::{Readiness, Token};

use super::frames::Frames;
use super::surroundings::{NetEvent, NetNote, Route, Surroundings};

/// What follows the last byte of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Open,
    End,
    Reset,
}

/// One end of a wire, with what is on its way to it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) flight: VecDeque<u8>,
    /// When each piece of it arrives, in a simulation that is exact: its time in ns, and how many bytes.
    pub(super) pieces: VecDeque<(u64, usize)>,
    /// Until when the wire is occupied by what was sent to it, in ns.
    pub(super) occupied: u64,
    pub(super) inbox: VecDeque<u8>,
    /// When its owner began to use it, when bytes last arrived, and when the other end last took something
    /// or was given more, in ns.
    pub(super) begun: u64,
    pub(super) arrived: u64,
    pub(super) moved: u64,
    /// What its owner has taken.
    pub(super) frames: Frames,
    /// Bytes that the other end sent and that it does not yet know to be taken.
    pub(super) unacked: usize,
    pub(super) tail: Tail,
    /// The tail has arrived, and it was an end.
    pub(super) ended: bool,
    /// A delivery is on the agenda.
    pub(super) scheduled: bool,
    /// The poll set that it is in, and its token there.
    pub(super) watched: Option<(usize, Token)>,
    /// It is in the set's list of news.
    pub(super) news: bool,
    /// It was told that the other direction is full.
    pub(super) blocked: bool,
    /// It was told that the wire is full, and not that it has room again; and it asked again all the same.
    pub(super) knows_full: bool,
    pub(super) asked_in_vain: bool,
    /// Its owner ended its own direction, or closed it altogether.
    pub(super) finished: bool,
    pub(super) closed: bool,
    pub(super) error: Option<io::ErrorKind>,
    /// It was told of an error: from now on that ends both directions.
    pub(super) broken: bool,
}

impl End {
    pub(super) fn new() -> Self {
        Self {
            flight: VecDeque::new(),
            pieces: VecDeque::new(),
            occupied: 0,
            inbox: VecDeque::new(),
            begun: 0,
            arrived: 0,
            moved: 0,
            frames: Frames::default(),
            unacked: 0,
            tail: Tail::Open,
            ended: false,
            scheduled: false,
            watched: None,
            news: false,
            blocked: false,
            knows_full: false,
            asked_in_vain: false,
            finished: false,
            closed: false,
            error: None,
            broken: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
}

#[derive(Debug)]
pub(super) struct Wire {
    /// The client's end, then the server's.
    pub(super) ends: [End; 2],
    pub(super) route: Route,
    pub(super) phase: Phase,
    pub(super) silent: bool,
    pub(super) stalled_until: u64,
    pub(super) mutating: bool,
    /// At most this many bytes arrive at once.
    pub(super) slow: Option<usize>,
    pub(super) latency: u64,
}

#[derive(Debug)]
pub(super) struct Listening {
    pub(super) address: usize,
    pub(super) owner: usize,
    pub(super) token: Option<Token>,
    pub(super) waiting: VecDeque<usize>,
    pub(super) in_service: bool,
    pub(super) news: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    End { wire: usize, side: usize },
    Listener(usize),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) wires: Vec<Wire>,
    pub(super) listeners: Vec<Listening>,
    /// News by poll set.
    pub(super) news: Vec<VecDeque<Ready>>,
    /// The sets whose sockets are all reported at the next look, ready or not.
    pub(super) nudged: Vec<bool>,
    /// What waits for the end of a partition.
    pub(super) held: Vec<NetEvent>,
    pub(super) moved: u64,
    /// How often bytes arrived: the watcher of an end is notified each time, even if it reads nothing now.
    pub(super) arrivals: u64,
}

/// The near and the far end, seen from `side`.
pub(super) fn ends(wire: &mut Wire, side: usize) -> [&mut End; 2] {
    let [client, server] = &mut wire.ends;
    if side == 0 { [client, server] } else { [server, client] }
}

impl End {
    /// These bytes were sent to it: they arrive after a latency of their own, and not before others.
    pub(super) fn add_piece(
        &mut self,
        core: &impl Surroundings,
        route: Route,
        bytes: usize,
    ) -> u64 {
        let now = core.now();
        self.occupied = self.occupied.max(now) + core.transmission(route, bytes);
        let (least, most) = core.latency(route);
        let at = self.occupied + core.dice().between(least, most);
        let at = self.pieces.back().map_or(at, |(last, _)| at.max(*last));
        self.pieces.push_back((at, bytes));
        at - now
    }

    /// Takes the pieces that have arrived by now; returns their bytes.
    fn take_pieces(&mut self, now: u64) -> usize {
        let mut bytes = 0;
        while let Some((_, more)) = self.pieces.pop_front_if(|(at, _)| *at <= now) {
            bytes += more;
        }
        bytes.min(self.flight.len())
    }
}

impl State {
    pub(super) fn schedule(
        &mut self,
        core: &impl Surroundings,
        wire: usize,
        to: usize,
        after: u64,
    ) {
        let end = &mut self.wires[wire].ends[to];
        if !end.scheduled {
            end.scheduled = true;
            core.after(after, NetEvent::Deliver { wire, to });
        }
    }

    /// Puts an end into its set's list of news, if it is in a set.
    pub(super) fn tell(&mut self, wire: usize, side: usize) {
        let line = &mut self.wires[wire];
        let decided = line.phase != Phase::Connecting || line.ends[side].error.is_some();
        let end = &mut line.ends[side];
        if let Some((set, _)) = end.watched
            && decided
            && !end.closed
            && !std::mem::replace(&mut end.news, true)
        {
            self.news[set].push_back(Ready::End { wire, side });
        }
    }

    pub(super) fn tell_listener(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        let tell = listening.token.is_some() && !listening.waiting.is_empty();
        if tell && !std::mem::replace(&mut listening.news, true) {
            self.news[listening.owner].push_back(Ready::Listener(index));
        }
    }

    /// What the kernel would report of an end at this moment.
    pub(super) fn readiness(&self, wire: usize, side: usize, pipe: usize) -> Option<Readiness> {
        let line = &self.wires[wire];
        let (near, far) = (&line.ends[side], &line.ends[1 - side]);
        let (_, token) = near.watched.filter(|_| !near.closed)?;
        let hangup = near.ended || near.broken || near.error.is_some();
        let readable = hangup || !near.inbox.is_empty();
        let writable = hangup || far.unacked < pipe;
        (readable || writable).then_some(Readiness {
            token,
            readable,
            writable,
            hangup,
            urgent: false,
        })
    }

    /// Reports every end of a set as ready.
    pub(super) fn nudge(&mut self, set: usize, news: &mut Vec<Readiness>) {
        for line in self.wires.iter_mut().filter(|line| line.phase == Phase::Open) {
            for end in line.ends.iter_mut().filter(|end| !end.closed) {
                if let Some((_, token)) = end.watched.filter(|(owner, _)| *owner == set) {
                    let hangup = end.ended || end.broken;
                    end.knows_full = false;
                    news.push(Readiness {
                        token,
                        readable: true,
                        writable: true,
                        hangup,
                        urgent: false,
                    });
                }
            }
        }
    }

    pub(super) fn break_end(&mut self, wire: usize, side: usize, kind: io::ErrorKind) {
        let end = &mut self.wires[wire].ends[side];
        if end.closed || end.broken {
            return;
        }
        end.broken = true;
        end.error = Some(kind);
        end.flight.clear();
        self.tell(wire, side);
    }

    /// Breaks a wire: one end learns of it now, the other when it sends next, or now as well.
    pub(super) fn cut(&mut self, core: &impl Surroundings, wire: usize, to: usize) {
        self.break_end(wire, to, io::ErrorKind::ConnectionReset);
        if core.dice().chance(700_000) {
            self.break_end(wire, 1 - to, io::ErrorKind::ConnectionReset);
        }
    }

    pub(super) fn deliver(&mut self, core: &impl Surroundings, wire: usize, to: usize) {
        let line = &mut self.wires[wire];
        let Wire { slow, latency, mutating, route, .. } = *line;
        let end = &mut line.ends[to];
        let all = if core.is_exact() { end.take_pieces(core.now()) } else { end.flight.len() };
        if end.closed || end.broken {
            // Nobody is there: the sender is told.
            end.flight.clear();
            end.pieces.clear();
            if all > 0 {
                core.after(latency, NetEvent::Reset { wire, side: 1 - to });
            }
            return;
        }
        let mut count = slow.map_or(all, |most| all.min(most));
        if count > 1 && core.fault(core.rates(route).cut) {
            count = 1 + core.dice().below(count - 1);
        }
        let start = end.inbox.len();
        if count > 0 {
            end.arrived = core.now();
            self.arrivals += 1;
        }
        if start == 0 && count == end.flight.len() {
            std::mem::swap(&mut end.inbox, &mut end.flight);
        } else {
            let (front, back) = end.flight.as_slices();
            let first = count.min(front.len());
            end.inbox.extend(&front[..first]);
            end.inbox.extend(&back[..count - first]);
            end.flight.drain(..count);
        }
        if mutating && count > 0 && core.fault(core.rates(route).mutate) {
            let at = start + core.dice().below(count);
            end.inbox[at] ^= core.dice().byte() | 1;
            core.note(NetNote::Mutated { wire, to });
        }
        let rest = !end.flight.is_empty();
        if !rest {
            match end.tail {
                Tail::Open => {}
                Tail::End => end.ended = true,
                Tail::Reset => {
                    end.broken = true;
                    end.error = Some(io::ErrorKind::ConnectionReset);
                }
            }
        }
        self.tell(wire, to);
        if rest {
            let mut gap = if slow.is_some() { 100_000 } else { core.dice().between(0, latency) };
            if core.is_exact() {
                let now = core.now();
                let pieces = &mut self.wires[wire].ends[to].pieces;
                if count < all {
                    pieces.push_front((now + gap, all - count));
                }
                // Bytes that a reset has dropped leave pieces behind, and never fewer.
                gap = pieces.front().map_or(0, |(at, _)| at.saturating_sub(now));
            }
            self.schedule(core, wire, to, gap);
        }
    }
}
