//! Where parts of something that was begun under a ticket wait for who deals with them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::waiting::Ticket;
use crate::shard::account::{Held, StreamAccount};
use crate::shard::waker_place::set_waker;
use corewire_proto::canary::{Bug, is_planted};

/// Whose ticket it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotName {
    /// Of this shard.
    Own(Ticket),
    /// Of another one.
    Theirs(usize, Ticket),
}

type Parts = Rc<Waits>;

/// A part with what it is charged for.
type Charged = (Box<dyn Any>, Held);

struct Waits {
    account: Rc<StreamAccount>,
    parts: RefCell<VecDeque<Charged>>,
    waker: RefCell<Option<Waker>>,
}

/// The slots of one shard.
#[derive(Default)]
pub(crate) struct Slots(Rc<RefCell<BTreeMap<SlotName, Parts>>>);

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("open", &self.0.borrow().len()).finish()
    }
}

impl Slots {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Opens a slot, whose parts are charged to this account; it is closed when what this returns is dropped.
    pub(crate) fn open(&self, name: SlotName, account: Rc<StreamAccount>) -> Slot {
        let parts =
            Rc::new(Waits { account, parts: RefCell::default(), waker: RefCell::default() });
        self.0.borrow_mut().insert(name, Rc::clone(&parts));
        Slot { name, parts, slots: Rc::clone(&self.0) }
    }

    /// A part of so many bytes has come. It is dropped if its slot is closed.
    pub(crate) fn put(&self, name: SlotName, part: Box<dyn Any>, bytes: usize) {
        let parts = self.0.borrow().get(&name).cloned();
        let Some(parts) = parts else { return };
        let held = parts.account.hold_incoming(bytes);
        parts.parts.borrow_mut().push_back((part, held));
        let waker = parts.waker.borrow_mut().take();
        if let Some(waker) = waker
            && !is_planted(Bug::UnwokenPart)
        {
            waker.wake();
        }
    }
}

/// A slot that is open.
pub(crate) struct Slot {
    name: SlotName,
    parts: Parts,
    slots: Rc<RefCell<BTreeMap<SlotName, Parts>>>,
}

impl Slot {
    /// The part that came first, and the charge for it.
    pub(crate) fn poll<T: 'static>(&self, context: &Context<'_>) -> Poll<(Box<T>, Held)> {
        loop {
            let part = self.parts.parts.borrow_mut().pop_front();
            let Some((part, held)) = part else { break };
            if let Ok(part) = part.downcast() {
                return Poll::Ready((part, held));
            }
        }
        set_waker(&self.parts.waker, context.waker());
        Poll::Pending
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let parts = self.slots.borrow_mut().remove(&self.name);
        drop(parts);
    }
}
