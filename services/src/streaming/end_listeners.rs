//! Who is told how a call that streams ended.

use corewire_codec::StatusCode;
use std::fmt;

/// Something that is kept for as long as a call lives, and told how it ended. If it is dropped without
/// being told, the call was given up.
pub trait EndListener: Send {
    /// The call has ended.
    fn end(self: Box<Self>, code: StatusCode);
}

/// The listeners of one call, the innermost first; most calls have none.
#[derive(Default)]
pub struct EndListeners(Vec<Box<dyn EndListener>>);

impl fmt::Debug for EndListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EndListeners").field(&self.0.len()).finish()
    }
}

impl EndListeners {
    /// One more, outside of the others.
    pub fn push(&mut self, listener: Box<dyn EndListener>) {
        self.0.push(listener);
    }

    /// Tells each of them, once.
    pub(crate) fn end(&mut self, code: StatusCode) {
        for listener in self.0.drain(..) {
            listener.end(code);
        }
    }
}
