//! What a shard has sent to others and waits to get back.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use super::parcel::Parcel;
use crate::shard::account::{Held, ReturnAccount};
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
    /// What it is charged to when it is back.
    account: Option<ReturnAccount>,
}

enum State {
    Away(Option<Waker>),
    /// It is away, and nobody waits for it; its charge ends when it is back.
    Unattended(#[allow(dead_code, reason = "its drop gives back")] Option<Held>),
    Back(Box<dyn Parcel>, Option<Held>),
    Lost,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Away(_) => "Away",
            Self::Unattended(_) => "Unattended",
            Self::Back(..) => "Back",
            Self::Lost => "Lost",
        })
    }
}

/// Everything that one shard waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: RefCell<Slab<Entry>>,
    uses: Cell<u32>,
    /// How many are away that nobody waits for.
    unattended: Cell<usize>,
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
        let place = self.entries.borrow_mut().insert(Entry {
            to,
            use_number,
            state: State::Away(None),
            account: None,
        });
        // Each lane has a bounded number of parcels away, and there are fewer than 65,536 lanes.
        Ticket { place: u32::try_from(place).unwrap_or(u32::MAX), use_number }
    }

    /// What comes back under this ticket is charged to `account` until it is taken.
    pub(crate) fn charge(&self, ticket: Ticket, account: ReturnAccount) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(ticket.place as usize)
            && entry.use_number == ticket.use_number
        {
            entry.account = Some(account);
        }
    }

    /// Nobody waits for it, but it is away until it comes back: `held` is charged until then.
    pub(crate) fn leave_unattended(&self, ticket: Ticket, held: Option<Held>) {
        let former = {
            let entries = &mut *self.entries.borrow_mut();
            let entry = entries.get_mut(ticket.place as usize);
            entry.filter(|entry| entry.use_number == ticket.use_number).and_then(|entry| {
                let is_away = matches!(entry.state, State::Away(_));
                is_away.then(|| core::mem::replace(&mut entry.state, State::Unattended(held)))
            })
        };
        if former.is_some() {
            self.unattended.set(self.unattended.get() + 1);
        }
        drop(former);
    }

    /// How many are away that nobody waits for.
    pub(crate) fn unattended(&self) -> usize {
        self.unattended.get()
    }

    /// A parcel came back. It is dropped if nobody waits for it.
    pub(crate) fn give(&self, ticket: Ticket, parcel: Box<dyn Parcel>) {
        let account = {
            let entries = self.entries.borrow();
            let entry = entries.get(ticket.place as usize);
            let entry = entry.filter(|entry| entry.use_number == ticket.use_number);
            entry.and_then(|entry| entry.account.as_ref()?.get().cloned())
        };
        let held = account.map(|account| account.hold_incoming(parcel.bytes()));
        self.finish(ticket, State::Back(parcel, held));
    }

    fn finish(&self, ticket: Ticket, state: State) {
        let former = {
            let entries = &mut *self.entries.borrow_mut();
            let entry = entries.get_mut(ticket.place as usize);
            let is_it =
                |use_number| use_number == ticket.use_number || is_planted(Bug::CrossedReply);
            match entry.filter(|entry| is_it(entry.use_number)) {
                Some(Entry { state: State::Unattended(_), .. }) => {
                    self.unattended.set(self.unattended.get().saturating_sub(1));
                    let former = entries.try_remove(ticket.place as usize);
                    (former.map(|entry| entry.state), Some(state))
                }
                Some(entry) => (Some(core::mem::replace(&mut entry.state, state)), None),
                // What is dropped here may run code of the user.
                None => (None, Some(state)),
            }
        };
        if let (Some(State::Away(Some(waker))), _) = former {
            waker.wake();
        }
    }

    /// Waits for the parcel. A ticket is over when this is ready.
    pub(crate) fn poll(
        &self,
        ticket: Ticket,
        context: &Context<'_>,
    ) -> Poll<Result<Box<dyn Parcel>, Lost>> {
        // Cloning a waker and dropping one may run code that comes back here: not while the entries are borrowed.
        let waker = context.waker();
        match self.look(ticket, |there| there.as_ref().is_some_and(|it| it.will_wake(waker))) {
            Some(true) => Poll::Pending,
            Some(false) => {
                let fresh = waker.clone();
                let former = self.look(ticket, |there| there.replace(fresh));
                drop(former);
                Poll::Pending
            }
            None => {
                let entry = self.take(ticket);
                match entry.map(|entry| entry.state) {
                    Some(State::Back(parcel, held)) => {
                        drop(held);
                        Poll::Ready(Ok(parcel))
                    }
                    _ => Poll::Ready(Err(Lost)),
                }
            }
        }
    }

    /// Gives `look` the place of the waker, if the parcel is away.
    fn look<R>(&self, ticket: Ticket, look: impl FnOnce(&mut Option<Waker>) -> R) -> Option<R> {
        let entries = &mut *self.entries.borrow_mut();
        let entry = entries.get_mut(ticket.place as usize)?;
        match &mut entry.state {
            State::Away(waker) if entry.use_number == ticket.use_number => Some(look(waker)),
            _ => None,
        }
    }

    fn take(&self, ticket: Ticket) -> Option<Entry> {
        let entries = &mut *self.entries.borrow_mut();
        let place = ticket.place as usize;
        let is_there = entries.get(place).is_some_and(|it| it.use_number == ticket.use_number);
        if is_there { entries.try_remove(place) } else { None }
    }

    /// Nobody waits for it any more. Returns whether it is still away.
    pub(crate) fn forget(&self, ticket: Ticket) -> bool {
        self.take(ticket).is_some_and(|entry| matches!(entry.state, State::Away(_)))
    }

    /// Shard `to` is gone, and nothing comes back from it.
    pub(crate) fn lose(&self, to: usize) {
        let tickets: Vec<Ticket> = self
            .entries
            .borrow()
            .iter()
            .filter(|(_, entry)| entry.to == to)
            .filter(|(_, entry)| matches!(entry.state, State::Away(_) | State::Unattended(_)))
            .map(|(place, entry)| Ticket {
                place: u32::try_from(place).unwrap_or(u32::MAX),
                use_number: entry.use_number,
            })
            .collect();
        tickets.into_iter().for_each(|ticket| self.finish(ticket, State::Lost));
    }
}
