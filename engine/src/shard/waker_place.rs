//! Where a waker is kept until somebody wakes it.
//!
//! Cloning a waker and dropping one may run code of the user, which may come back to the place. So neither happens while the
//! place is borrowed.

use std::cell::RefCell;
use std::task::Waker;

/// Keeps `waker` in place of what is there.
pub(crate) fn set_waker(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let is_same = place.borrow().as_ref().is_some_and(|there| there.will_wake(waker));
    if !is_same {
        let fresh = waker.clone();
        let former = place.borrow_mut().replace(fresh);
        drop(former);
    }
}
