//! The shard's receive buffers.
//!
//! A connection borrows one for its turn. Bodies that are handed out are slices of it, so a buffer
//! whose slices are still alive cannot be received into again: it waits here until they are gone,
//! and another one serves meanwhile. Without this, each such turn would take fresh memory from the
//! allocator, which for buffers of this size means fresh pages from the kernel.

use corewire_codec::RecvBuffer;

/// Buffers that are kept at most; beyond this, buffers go back to the allocator.
const KEEP_MAX: usize = 64;

/// Unread bytes below this share of a buffer are copied into one of their own size.
const COPY_SHARE: usize = 8;

/// How many waiting buffers are looked at before a new one is made.
const TRIES: usize = 8;

/// Receive buffers of one size.
#[derive(Debug)]
pub(crate) struct RecvPool {
    /// The one given back last is on top: it is the one most likely free, and in the cache.
    buffers: Vec<RecvBuffer>,
    bytes: usize,
}

impl RecvPool {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { buffers: Vec::new(), bytes }
    }

    /// An empty buffer whose whole room is free.
    pub(crate) fn lend(&mut self) -> RecvBuffer {
        for back in (0..self.buffers.len()).rev().take(TRIES) {
            if self.buffers[back].try_room(self.bytes) {
                return self.buffers.swap_remove(back);
            }
        }
        RecvBuffer::with_capacity(self.bytes)
    }

    /// Ends a connection's turn: what is unread in the lent buffer becomes the connection's `own`, and
    /// buffers that are empty come back. Little is copied, so that a peer that sends a byte at a time
    /// does not hold a large buffer; much stays where it is.
    pub(crate) fn settle(&mut self, own: &mut RecvBuffer, mut lent: RecvBuffer) {
        if !lent.is_empty() {
            debug_assert!(own.is_empty(), "the lent buffer is used only while the own is empty");
            if lent.len() >= self.bytes / COPY_SHARE {
                *own = lent;
                return;
            }
            *own = lent.take_unread();
        }
        self.give_back(lent);
        if own.is_empty() && own.capacity() != 0 {
            let empty = core::mem::take(own);
            if empty.capacity() >= self.bytes / 2 {
                self.give_back(empty);
            }
        }
    }

    /// Takes an empty buffer back, if it is one of these and not too many are here.
    pub(crate) fn give_back(&mut self, buffer: RecvBuffer) {
        debug_assert!(buffer.is_empty(), "what is unread belongs to its connection");
        if self.buffers.len() < KEEP_MAX {
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_with_live_slices_waits() {
        let mut pool = RecvPool::new(4096);
        let mut buffer = pool.lend();
        let first = buffer.storage(0).as_ptr();
        // A ping frame and a request with a body of 4 bytes.
        let mut out = corewire_codec::SendBuffer::new();
        let mut frame =
            out.request(&corewire_codec::RequestHead::new(0, corewire_codec::MethodId(1)), None);
        frame.put_slice(b"body");
        frame.finish(4096).expect("small");
        buffer.storage(0).extend_from_slice(out.first_chunk());
        let frame = buffer.next_frame(4096).expect("well formed").expect("whole");
        let body = frame.payload.into_body();
        pool.give_back(buffer);
        let mut other = pool.lend();
        assert_ne!(other.storage(0).as_ptr(), first, "the first buffer's slice is alive");
        pool.give_back(other);
        drop(body);
        let mut seen = [pool.lend(), pool.lend()].map(|mut buffer| buffer.storage(4096).as_ptr());
        seen.sort_unstable();
        assert!(seen.contains(&first), "the first buffer is free again");
    }
}
