//! The shard's receive buffers.
//!
//! A connection borrows one for its turn. Bodies that are handed out are slices of it, so a buffer
//! whose slices are still alive cannot be received into again: it waits here until they are gone,
//! and another one is used meanwhile. Without this pool, each such turn would take fresh memory
//! from the allocator, which for buffers of this size means fresh pages from the kernel.
//!
//! A frame that does not fit the usual buffer is received into a *large* one; some of these are kept
//! as well. What arrived of the frame before its length was known, at most one usual buffer, is
//! copied there once; the rest is received into its final place.
//!
//! A partial frame at the end of a turn moves to a buffer of the connection's own. The pool keeps up to 65 MiB of
//! large buffers, and frees those that nobody used for some seconds.

use corewire_codec::RecvBuffer;
use std::collections::VecDeque;

/// How many buffers of the usual size are kept at most; beyond this they go back to the allocator.
const KEEP_MAX: usize = 64;

/// How many buffers of the usual size stay when the pool is trimmed.
const KEEP_IDLE: usize = 4;

/// How many bytes of large buffers are kept at most, and how many buffers: four frames of the
/// default limit on them, with their headers.
const LARGE_BYTES_MAX: usize = 65 * 1024 * 1024;
const LARGE_MAX: usize = 64;

/// A partial frame of at least this share of a receive buffer keeps the buffer; a smaller one is copied.
pub(crate) const PARTIAL_SHARE: usize = 8;

/// Unread bytes below this share of a buffer are copied into one of their own size.
const COPY_SHARE: usize = PARTIAL_SHARE;

/// How many waiting buffers are looked at before a new one is made.
const TRIES: usize = 8;

/// Receive buffers of the usual size, and some large ones.
#[derive(Debug)]
pub(crate) struct RecvPool {
    /// In the order in which they were given back.
    usual: VecDeque<RecvBuffer>,
    /// By size, ascending.
    large: Vec<RecvBuffer>,
    bytes: usize,
    /// Whether a large buffer was used, or many at once, since the pool was last trimmed.
    busy: bool,
}

impl RecvPool {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { usual: VecDeque::new(), large: Vec::new(), bytes, busy: false }
    }

    /// An empty buffer with at least half of the usual room. The one that was used last is used
    /// again, behind the slices that were taken from it, so that the bodies of many small turns
    /// share one, in the cache.
    pub(crate) fn lend(&mut self) -> RecvBuffer {
        let half = self.bytes / 2;
        match self.usual.pop_back_if(|buffer| buffer.room() >= half) {
            Some(buffer) => buffer,
            None => self.lend_whole(),
        }
    }

    /// An empty buffer with the usual room, whole. When the one that was used last has live slices,
    /// the buffers that have waited longest are the most likely to be free.
    fn lend_whole(&mut self) -> RecvBuffer {
        let bytes = self.bytes;
        if let Some(buffer) = self.usual.pop_back_if(|buffer| buffer.try_room(bytes)) {
            return buffer;
        }
        let free = self.usual.iter_mut().take(TRIES).position(|buffer| buffer.try_room(bytes));
        free.and_then(|place| self.usual.remove(place))
            .unwrap_or_else(|| RecvBuffer::with_capacity(bytes))
    }

    /// Begins a connection's turn: returns what it received before and did not read, or else an empty buffer.
    #[inline]
    pub(crate) fn begin(&mut self, own: &mut RecvBuffer) -> RecvBuffer {
        if own.is_empty() { self.lend() } else { core::mem::take(own) }
    }

    /// Makes room in `buffer`, whose unread bytes are at most a partial frame, or changes it for one
    /// that has room; returns how many bytes to receive at most, which is never 0.
    #[inline]
    pub(crate) fn make_room(&mut self, buffer: &mut RecvBuffer) -> usize {
        if !buffer.is_empty() {
            return self.make_room_behind(buffer);
        }
        if buffer.room() < self.bytes / 2 && !buffer.try_room(self.bytes / 2) {
            let full = core::mem::replace(buffer, self.lend());
            self.give_back(full);
        }
        buffer.room().min(self.bytes)
    }

    /// As [`make_room`](Self::make_room), for a buffer that ends with a partial frame.
    fn make_room_behind(&mut self, buffer: &mut RecvBuffer) -> usize {
        let (unread, lacking, room) = (buffer.len(), buffer.lacking().max(1), buffer.room());
        let frame = unread.saturating_add(lacking);
        let copied_gladly = unread < self.bytes / COPY_SHARE;
        if frame <= self.bytes {
            if room < lacking || (copied_gladly && room < self.bytes / 2) {
                let other = self.lend_whole();
                self.change(buffer, other);
            }
            return buffer.room().min(self.bytes);
        }
        // A large frame's buffer ends where the frame does: anything behind it would have to be moved.
        if room < lacking && !copied_gladly {
            if let Some(large) = self.lend_large(frame) {
                self.change(buffer, large);
            } else if room < self.bytes / COPY_SHARE {
                // Memory grows with what arrived, not with what was announced.
                let grown = frame.min(2 * unread.max(self.bytes));
                let larger = self.lend_large(grown);
                self.change(buffer, larger.unwrap_or_else(|| RecvBuffer::with_capacity(grown)));
            }
        } else if room < lacking && room < self.bytes / COPY_SHARE {
            let other = self.lend_whole();
            self.change(buffer, other);
        }
        buffer.room().min(lacking).min(self.bytes)
    }

    /// Moves what is unread to another buffer.
    fn change(&mut self, buffer: &mut RecvBuffer, mut other: RecvBuffer) {
        buffer.move_unread_to(&mut other);
        let old = core::mem::replace(buffer, other);
        self.give_back(old);
    }

    /// The smallest kept buffer with room for `bytes`, if one is free; none of more than twice the
    /// size, because a body that is kept keeps all of its buffer.
    fn lend_large(&mut self, bytes: usize) -> Option<RecvBuffer> {
        let first = self.large.partition_point(|buffer| buffer.made_with() < bytes);
        let end = self.large.partition_point(|buffer| buffer.made_with() / 2 <= bytes);
        let place = (first..end).find(|&place| self.large[place].try_room(bytes))?;
        self.busy = true;
        Some(self.large.remove(place))
    }

    /// Ends a connection's turn: what is unread becomes the connection's `own`, which was empty since
    /// the turn began. Little is copied, so that a peer that sends a byte at a time does not hold a
    /// large buffer; much stays where it is.
    #[inline]
    pub(crate) fn settle(&mut self, own: &mut RecvBuffer, buffer: RecvBuffer) {
        debug_assert!(own.is_empty(), "the turn began with it");
        if buffer.is_empty() {
            self.give_back(buffer);
        } else {
            self.settle_unread(own, buffer);
        }
    }

    fn settle_unread(&mut self, own: &mut RecvBuffer, mut buffer: RecvBuffer) {
        if buffer.len() >= self.bytes / COPY_SHARE || buffer.made_with() < self.bytes {
            *own = buffer;
            return;
        }
        *own = buffer.take_unread();
        self.give_back(buffer);
    }

    /// Takes an empty buffer back, if it is worth keeping and not too much is here.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: RecvBuffer) {
        debug_assert!(buffer.is_empty(), "what is unread belongs to its connection");
        match buffer.made_with().cmp(&self.bytes) {
            core::cmp::Ordering::Less => {}
            core::cmp::Ordering::Equal if self.usual.len() < KEEP_MAX => {
                self.usual.push_back(buffer)
            }
            core::cmp::Ordering::Equal => {}
            core::cmp::Ordering::Greater => self.keep_large(buffer),
        }
    }

    /// Whether it keeps more than a shard with little to do needs.
    #[inline]
    pub(crate) fn keeps_much(&self) -> bool {
        !self.large.is_empty() || self.usual.len() > KEEP_IDLE
    }

    /// Frees all large buffers.
    pub(crate) fn trim_large(&mut self) {
        self.large = Vec::new();
    }

    /// Frees what was not used since this was last called.
    pub(crate) fn trim(&mut self) {
        if core::mem::take(&mut self.busy) {
            return;
        }
        self.trim_large();
        // The ones used last are at the back.
        let spare = self.usual.len().saturating_sub(KEEP_IDLE);
        self.usual.drain(..spare);
        self.usual.shrink_to_fit();
    }

    #[cold]
    fn keep_large(&mut self, buffer: RecvBuffer) {
        self.busy = true;
        let bytes = buffer.made_with();
        while !self.has_room_for_large(bytes) {
            // The smaller ones go first: larger ones have grown from them. Then those whose bodies
            // somebody has kept for longest: perhaps for ever.
            let smaller = self.large.first().is_some_and(|kept| kept.made_with() < bytes);
            let busy = |kept: &mut RecvBuffer| !kept.try_room(kept.made_with());
            let place = if smaller { Some(0) } else { self.large.iter_mut().rposition(busy) };
            let Some(place) = place else { return };
            self.large.remove(place);
        }
        let place = self.large.partition_point(|kept| kept.made_with() < bytes);
        self.large.insert(place, buffer);
    }

    fn has_room_for_large(&self, bytes: usize) -> bool {
        let kept: usize = self.large.iter().map(RecvBuffer::made_with).sum();
        self.large.len() < LARGE_MAX && kept + bytes <= LARGE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
