//! Requests that are encoded and wait for the driver, bounded in bytes.

use corewire_codec::{EncodedBody, FrameWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Smaller bodies are not counted: the number of calls that may wait bounds them.
const COUNTED_BYTES_MIN: usize = 256;

/// The bytes of one channel's requests that are encoded and not written into its connection yet.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    max: usize,
}

impl Backlog {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max })
    }

    /// Takes a body into the backlog; `None` if that is full. An empty backlog takes any body.
    pub(super) fn admit(self: &Arc<Self>, encoded: EncodedBody) -> Option<Body> {
        let bytes = encoded.len();
        if bytes < COUNTED_BYTES_MIN {
            return Some(Body { encoded, share: None });
        }
        // No other memory is read or written on the strength of this number.
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let share = Share { backlog: Arc::clone(self), bytes };
        let fits = before == 0 || before.saturating_add(bytes) <= self.max;
        fits.then_some(Body { encoded, share: Some(share) })
    }
}

/// What a body takes of its channel's backlog, until it is dropped.
#[derive(Debug)]
struct Share {
    backlog: Arc<Backlog>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An encoded request on its way to the connection.
#[derive(Debug, Default)]
pub struct Body {
    encoded: EncodedBody,
    share: Option<Share>,
}

impl Body {
    /// Appends it to its frame. From then on the send buffer's limit applies to it.
    pub fn write_to(self, frame: &mut FrameWriter<'_>) {
        let Self { encoded, share } = self;
        encoded.write_to(frame);
        drop(share);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn body(bytes: usize) -> EncodedBody {
        let write = |frame: &mut FrameWriter<'_>| {
            frame.put_slice(&vec![7; bytes]);
            Ok::<_, ()>(())
        };
        EncodedBody::encode(write).unwrap()
    }

    #[test]
    fn what_is_over_the_bound_is_not_admitted_and_not_counted() {
        let backlog = Backlog::new(1_000);
        let large = backlog.admit(body(5_000)).unwrap();
        assert!(backlog.admit(body(300)).is_none(), "the large one is all that fits");
        let small = backlog.admit(body(255)).unwrap();
        drop(large);
        let held: Vec<Body> = (0..2).map(|_| backlog.admit(body(500)).unwrap()).collect();
        assert!(backlog.admit(body(256)).is_none());
        drop((small, held));
        assert_eq!(backlog.bytes.load(Ordering::Relaxed), 0);
    }
}
