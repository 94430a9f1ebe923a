//! What a shard has sent to others and waits to get back.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use super::parcel::Parcel;
use corewire_proto::canary::{Bug, is_planted};

/// The name of something that was sent and is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    place: u32,
    /// Tells the uses of a place apart.
    use_number: u32,
}

/// The parcel did not come back: its shard is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

#[derive(Debug)]
struct Entry {
    to: usize,
    use_number: u32,
    state: State,
}

enum State {
    Away(Option<Waker>),
    Back(Box<dyn Parcel>),
    Lost,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Away(_) => "Away",
            Self::Back(_) => "Back",
            Self::Lost => "Lost",
        })
    }
}

/// Everything that one shard waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: RefCell<Slab<Entry>>,
    uses: Cell<u32>,
}

impl Waiting {
    /// How many are to come back from shard `to`.
    pub(super) fn away_to(&self, to: usize) -> usize {
        let entries = self.entries.borrow();
        let is_away = |entry: &Entry| entry.to == to && matches!(entry.state, State::Away(_));
        entries.iter().filter(|(_, entry)| is_away(entry)).count()
    }

    /// How many it waits for.
    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// A ticket for a parcel that goes to shard `to`.
    pub(crate) fn issue(&self, to: usize) -> Ticket {
        let use_number = self.uses.get().wrapping_add(1);
        self.uses.set(use_number);
        let place =
            self.entries.borrow_mut().insert(Entry { to, use_number, state: State::Away(None) });
        // Each lane has a bounded number of parcels away, and there are fewer than 65,536 lanes.
        Ticket { place: u32::try_from(place).unwrap_or(u32::MAX), use_number }
    }

    /// A parcel came back. It is dropped if nobody waits for it.
    pub(crate) fn give(&self, ticket: Ticket, parcel: Box<dyn Parcel>) {
        self.finish(ticket, State::Back(parcel));
    }

    fn finish(&self, ticket: Ticket, state: State) {
        let former = {
            let entries = &mut *self.entries.borrow_mut();
            let entry = entries.get_mut(ticket.place as usize);
            let is_it =
                |use_number| use_number == ticket.use_number || is_planted(Bug::CrossedReply);
            match entry.filter(|entry| is_it(entry.use_number)) {
                Some(entry) => core::mem::replace(&mut entry.state, state),
                // What is dropped here may run code of the user.
                None => state,
            }
        };
        if let State::Away(Some(waker)) = former {
            waker.wake();
        }
    }

    /// Waits for the parcel. A ticket is over when this is ready.
    pub(crate) fn poll(
        &self,
        ticket: Ticket,
        context: &Context<'_>,
    ) -> Poll<Result<Box<dyn Parcel>, Lost>> {
        let entries = &mut *self.entries.borrow_mut();
        let entry = entries.get_mut(ticket.place as usize);
        let Some(entry) = entry.filter(|entry| entry.use_number == ticket.use_number) else {
            return Poll::Ready(Err(Lost));
        };
        if let State::Away(waker) = &mut entry.state {
            match waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        match entries.remove(ticket.place as usize).state {
            State::Back(parcel) => Poll::Ready(Ok(parcel)),
            State::Away(_) | State::Lost => Poll::Ready(Err(Lost)),
        }
    }

    /// Nobody waits for it any more. Returns whether it is still away.
    pub(crate) fn forget(&self, ticket: Ticket) -> bool {
        let entry = {
            let entries = &mut *self.entries.borrow_mut();
            let place = ticket.place as usize;
            match entries.get(place) {
                Some(entry) if entry.use_number == ticket.use_number => entries.try_remove(place),
                _ => None,
            }
        };
        entry.is_some_and(|entry| matches!(entry.state, State::Away(_)))
    }

    /// Shard `to` is gone, and nothing comes back from it.
    pub(crate) fn lose(&self, to: usize) {
        let tickets: Vec<Ticket> = self
            .entries
            .borrow()
            .iter()
            .filter(|(_, entry)| entry.to == to && matches!(entry.state, State::Away(_)))
            .map(|(place, entry)| Ticket {
                place: u32::try_from(place).unwrap_or(u32::MAX),
                use_number: entry.use_number,
            })
            .collect();
        tickets.into_iter().for_each(|ticket| self.finish(ticket, State::Lost));
    }
}
