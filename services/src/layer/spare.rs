//! Memory of pending calls, kept when they are over.

use std::cell::RefCell;
use std::pin::Pin;

use crate::server::slot::SPARE_SLOTS_MAX;

/// Boxes of calls that are over, for the next ones.
pub(super) struct Spare<T> {
    list: RefCell<Vec<Pin<Box<T>>>>,
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self { list: RefCell::default() }
    }
}

impl<T> Spare<T> {
    pub(super) fn take(&self) -> Option<Pin<Box<T>>> {
        self.list.borrow_mut().pop()
    }

    pub(super) fn put(&self, used: Pin<Box<T>>) {
        let mut list = self.list.borrow_mut();
        if list.len() < SPARE_SLOTS_MAX {
            list.push(used);
        }
    }
}
