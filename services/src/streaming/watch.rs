//! Watchers, which are told how a call that streams ended.

use corewire_codec::StatusCode;
use std::fmt;

/// Something that is kept for as long as a call lives, and told how it ended. If it is dropped without
/// being told, the call was given up.
pub trait Watcher: Send {
    /// The call has ended.
    fn end(self: Box<Self>, code: StatusCode);
}

/// The watchers of one call, the innermost first; most calls have none.
#[derive(Default)]
pub struct Watch(Vec<Box<dyn Watcher>>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.len()).finish()
    }
}

impl Watch {
    /// One more, outside of the others.
    pub fn push(&mut self, watcher: Box<dyn Watcher>) {
        self.0.push(watcher);
    }

    /// Tells each of them, once.
    pub(crate) fn end(&mut self, code: StatusCode) {
        for watcher in self.0.drain(..) {
            watcher.end(code);
        }
    }
}
