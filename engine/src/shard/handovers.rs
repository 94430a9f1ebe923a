//! Connections between two shards: who has each of them, and what a driver is left of them. How they travel is in
//! `handover.rs`.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use corewire_client::address::Peer;
use corewire_proto::IdleServerConnection;

/// A connection that is being given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    /// `None` if nothing was read or written yet.
    pub(crate) state: Option<IdleServerConnection>,
    claimed: AtomicBool,
}

impl Given {
    pub(crate) fn new(socket: OwnedFd, peer: Peer, state: Option<IdleServerConnection>) -> Self {
        Self { socket, peer, state, claimed: AtomicBool::new(false) }
    }

    /// Whoever gets true has the connection; true once.
    pub(crate) fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }
}

/// A connection that this shard was given.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) state: Option<IdleServerConnection>,
}

/// What became of a connection that was given.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The other shard has it.
    Gone,
    /// It is still here.
    Back(Box<Taken>),
    /// The other shard has died with it; it is shut down.
    Lost,
}

/// What a driver is left of connections that come and go.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
    taken: RefCell<Vec<Taken>>,
    ended: RefCell<Vec<Outcome>>,
    /// Whether there is anything.
    news: Cell<bool>,
}

impl Handovers {
    #[inline]
    pub(crate) fn take_news(&self) -> bool {
        self.news.replace(false)
    }

    pub(super) fn push_taken(&self, taken: Taken) {
        self.taken.borrow_mut().push(taken);
        self.news.set(true);
    }

    pub(super) fn push_ended(&self, outcome: Outcome) {
        self.ended.borrow_mut().push(outcome);
        self.news.set(true);
    }

    /// Connections that came.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.take()
    }

    /// What became of those that were given.
    pub(crate) fn ended(&self) -> Vec<Outcome> {
        self.ended.take()
    }
}
