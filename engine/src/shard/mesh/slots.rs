//! Where parts of something that was begun under a ticket wait for who deals with them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::waiting::Ticket;
use corewire_proto::canary::{Bug, is_planted};

/// Whose ticket it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotName {
    /// Of this shard.
    Own(Ticket),
    /// Of another one.
    Theirs(usize, Ticket),
}

type Parts = Rc<RefCell<Waits>>;

#[derive(Default)]
struct Waits {
    parts: VecDeque<Box<dyn Any>>,
    waker: Option<Waker>,
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

    /// Opens a slot; it is closed when what this returns is dropped.
    pub(crate) fn open(&self, name: SlotName) -> Slot {
        let parts = Parts::default();
        self.0.borrow_mut().insert(name, Rc::clone(&parts));
        Slot { name, parts, slots: Rc::clone(&self.0) }
    }

    /// A part has come. It is dropped if its slot is closed.
    pub(crate) fn put(&self, name: SlotName, part: Box<dyn Any>) {
        let parts = self.0.borrow().get(&name).cloned();
        let Some(parts) = parts else { return };
        let waker = {
            let waits = &mut *parts.borrow_mut();
            waits.parts.push_back(part);
            waits.waker.take()
        };
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
    /// The part that came first.
    pub(crate) fn poll<T: 'static>(&self, context: &Context<'_>) -> Poll<Box<T>> {
        let waits = &mut *self.parts.borrow_mut();
        while let Some(part) = waits.parts.pop_front() {
            if let Ok(part) = part.downcast() {
                return Poll::Ready(part);
            }
        }
        match &mut waits.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => waits.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let parts = self.slots.borrow_mut().remove(&self.name);
        drop(parts);
    }
}
