//! What the network asks of the simulation that it is a part of.

use std::fmt;

use corewire_client::{Address, Peer};
use corewire_proto::CloseReason;

use crate::ground::{Clock, Dice};

/// Probabilities of trouble, in millionths of each opportunity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A delivery brings only a part of what is on its way.
    pub cut: u32,
    /// A send takes less than it could.
    pub short_send: u32,
    /// A delivery is held up for a while.
    pub stall: u32,
    /// A delivery breaks the connection.
    pub reset: u32,
    /// A delivery is the last one, and nobody is notified.
    pub silence: u32,
    /// A connection is slow.
    pub slow: u32,
    /// A delivery on a client's wire that mutates bytes does so.
    pub mutate: u32,
    /// Accepting fails.
    pub accept: u32,
    /// A client is gone when it is accepted.
    pub abort: u32,
    /// A connection request is refused or lost.
    pub connect: u32,
    /// A host is frozen after a turn.
    pub freeze: u32,
}

/// Who is at the ends of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The client's host; `None` for a peer that has none.
    pub from: Option<usize>,
    /// The server's address.
    pub to: usize,
}

/// Something that will happen on the way from host to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetEvent {
    /// A client's connection request reaches the address.
    Connect {
        /// Its wire.
        wire: usize,
    },
    /// Bytes reach an end of a wire.
    Deliver {
        /// The wire.
        wire: usize,
        /// Its end: 0 for the client's, 1 for the server's.
        to: usize,
    },
    /// The sender learns that this many of its bytes were taken.
    Ack {
        /// The wire.
        wire: usize,
        /// The sender's end.
        side: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// An end of a wire learns that the other end does not know it any more.
    Reset {
        /// The wire.
        wire: usize,
        /// The end that learns.
        side: usize,
    },
}

impl NetEvent {
    /// The wire that it is about.
    #[must_use]
    pub fn wire(self) -> usize {
        match self {
            Self::Connect { wire }
            | Self::Deliver { wire, .. }
            | Self::Ack { wire, .. }
            | Self::Reset { wire, .. } => wire,
        }
    }
}

/// Something that has happened at a socket or on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "a wire, its side, and how many bytes: always the same")]
pub enum NetNote {
    /// A host received this many bytes.
    Received { wire: usize, side: usize, bytes: usize },
    /// A host sent this many bytes.
    Sent { wire: usize, side: usize, bytes: usize },
    /// A send met a full socket.
    Blocked { wire: usize, side: usize },
    /// An end was closed; whether unread bytes made that a reset.
    Closed { wire: usize, side: usize, reset: bool },
    /// One direction was ended by its sender.
    Finished { wire: usize, side: usize },
    /// A connection was accepted; this is its id at the server.
    Accepted { wire: usize, host: usize, id: u64 },
    /// A connection request was turned away.
    ConnectRefused { wire: usize },
    /// Accepting failed with this number.
    AcceptFailed { host: usize, errno: i32 },
    /// A wire carries nothing any more, and nobody is notified.
    Silenced { wire: usize },
    /// A wire carries nothing until this time.
    Stalled { wire: usize, until: u64 },
    /// A byte changed on its way.
    Mutated { wire: usize, to: usize },
}

/// The state of one end of a wire, as the network knows it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Bytes that have arrived and were not taken.
    pub unread: usize,
    /// When its owner began to use it, in ns.
    pub begun: u64,
    /// When bytes last arrived.
    pub arrived: u64,
    /// When the other side last took something, or was given more.
    pub moved: u64,
    /// How many whole frames were taken, including the hello.
    pub frames: u64,
    /// Since when a frame has been taken in part, with the rest missing.
    pub partial_since: Option<u64>,
}

/// The simulation that a network is a part of.
pub trait Surroundings: fmt::Debug + 'static {
    /// The time.
    fn clock(&self) -> &Clock;

    /// The time in ns.
    fn now(&self) -> u64 {
        self.clock().now()
    }

    /// The dice.
    fn dice(&self) -> &Dice;

    /// Whether a fault of this probability happens now.
    fn fault(&self, millionths: u32) -> bool;

    /// Plans an event for `ns` from now.
    fn after(&self, ns: u64, event: NetEvent);

    /// Takes note of what has happened.
    fn note(&self, note: NetNote);

    /// How often there is what trouble on this way.
    fn rates(&self, route: Route) -> Rates;

    /// The shortest and the longest time from host to host, in ns.
    fn latency(&self, route: Route) -> (u64, u64);

    /// The most bytes on their way towards one end.
    fn pipe(&self) -> usize;

    /// Whether news is reported in any order, not in that in which it came.
    fn shuffles(&self) -> bool;

    /// The number of this address, if anybody could ever listen there.
    fn resolve(&self, address: &Address) -> Option<usize>;

    /// Whether each piece arrives after a latency of its own. Otherwise a wire has one latency, and what is sent while
    /// something is on its way arrives with that.
    fn is_exact(&self) -> bool {
        false
    }

    /// How long a wire is occupied by this many bytes, in ns; asked if it [is exact](Self::is_exact).
    fn transmission(&self, _route: Route, _bytes: usize) -> u64 {
        0
    }

    /// Whether nothing passes from host to host on this way.
    fn is_cut(&self, _route: Route) -> bool {
        false
    }

    /// There is a new wire; they are numbered in this order.
    fn note_wire(&self, _route: Route) {}

    /// What the server is told of who is at the other end of a wire.
    fn peer(&self, _wire: usize, _route: Route) -> Peer {
        Peer::Unix
    }

    /// A socket of this host took bytes.
    fn note_sent(&self, _host: usize, _bytes: usize) {}

    /// This host asks for room on a wire although it was told that there is none.
    fn note_asked_in_vain(&self, _host: usize, _wire: usize) {}

    /// This host ends a connection of which the network knows this.
    fn ending(&self, _host: usize, _wire: usize, _seen: &Seen, _reason: CloseReason) {}
}
