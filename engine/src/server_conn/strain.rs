//! What a connection holds beside its calls, and how it waits for room.
//!
//! Room is lacking when the connection's pending calls, or all that its shard holds, have reached their
//! bound ([`Budgets`](crate::Budgets)). The connection is then not read from, and its client is held up
//! by its own socket. But what it has sent may be the very thing that would make room: a cancel, or the
//! message that a handler waits for. So patience ends: then frames are read again, and requests refused.

use std::time::Instant;

use corewire_codec::{RecvBuffer, Status};

use super::ServerConn;
use crate::io::Io;
use crate::turn::{Shared, Unacked};

/// Kept by connections that hold something unsent, receive a large request, wait for room, or come to
/// their end. Idle ones have none, for they shall be small.
#[derive(Debug, Default)]
pub(super) struct Strain {
    /// What the shard's account knows of this connection, beside its calls.
    counted: usize,
    /// The whole length of the large request that is being received.
    large: usize,
    /// Bytes of a refused request that are still to come, and to be dropped.
    skip: usize,
    /// What the client's side has not acknowledged of what was written.
    pub(super) unacked: Unacked,
    /// Since when it waits for room for its calls, and for a large request.
    since: Option<Instant>,
    large_since: Option<Instant>,
    /// While draining: since when nothing is in flight.
    pub(super) finished: Option<Instant>,
    /// Set when the connection is over: by when it is dropped at the latest, and the bytes that were
    /// forgotten since.
    pub(super) linger: Option<(Instant, usize)>,
}

impl<S: 'static> ServerConn<S> {
    /// Whether the connection is over, and kept only until its last words are read.
    #[inline]
    pub(super) fn lingers(&self) -> bool {
        self.strain.as_ref().is_some_and(|strain| strain.linger.is_some())
    }

    /// Whether another call would be one too many.
    #[inline]
    pub(super) fn lacks_room<I: Io<Socket = S>>(&self, shared: &Shared<I>) -> bool {
        self.held >= shared.config.budgets.connection_bytes_max || shared.holdings.is_full()
    }

    /// Whether nothing is read for want of room: while it lasts, but not for longer than patience does.
    #[inline]
    pub(super) fn waits_for_room<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>) -> bool {
        if self.lacks_room(shared) {
            return self.wait_for_room(shared);
        }
        if let Some(strain) = &mut self.strain {
            strain.since = None;
        }
        false
    }

    /// Whether room was lacking when the frame that is being handled was begun, and for too long.
    #[inline]
    pub(super) fn is_out_of_patience(&self) -> bool {
        self.strain.as_ref().is_some_and(|strain| strain.since.is_some())
    }

    #[cold]
    fn wait_for_room<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>) -> bool {
        let strain = self.strain.get_or_insert_default();
        let since = *strain.since.get_or_insert(shared.now);
        let waits = shared.now < since + shared.config.budgets.patience;
        if waits {
            shared.holdings.wait(self.token);
        }
        waits
    }

    /// When patience ends, while the connection waits.
    pub(super) fn patience_by<I: Io<Socket = S>>(&self, shared: &Shared<I>) -> Option<Instant> {
        let strain = self.strain.as_ref()?;
        let patience = shared.config.budgets.patience;
        let by = |since: Option<Instant>| Some(since? + patience).filter(|by| *by > shared.now);
        [by(strain.since), by(strain.large_since)].into_iter().flatten().min()
    }

    /// What a call gets that came when patience was over.
    #[cold]
    pub(super) fn no_room<I: Io<Socket = S>>(&self, shared: &Shared<I>) -> Status {
        let budgets = &shared.config.budgets;
        let text = if self.held >= budgets.connection_bytes_max {
            format!("the connection's pending calls hold {} bytes, and may hold no more", self.held)
        } else {
            let (calls, bytes) = (shared.holdings.calls(), shared.holdings.bytes());
            format!(
                "the server's shard holds {calls} pending calls and {bytes} bytes, and may hold no more"
            )
        };
        Status::resource_exhausted(text).with_retry_after(RETRY_AFTER)
    }

    /// Whether the rest of what `buffer` begins with may be received: a large request waits until the
    /// shard has room for all of it. It then has its room for good, so that whatever was begun ends. One
    /// that finds none while patience lasts is refused, and what comes of it is dropped.
    #[inline]
    pub(super) fn may_receive<I: Io<Socket = S>>(
        &mut self,
        shared: &mut Shared<I>,
        buffer: &mut RecvBuffer,
    ) -> bool {
        let frame = buffer.len().saturating_add(buffer.lacking());
        if frame <= shared.config.budgets.receive_bytes || !self.proto.is_open() {
            return true;
        }
        self.reserve(shared, buffer, frame)
    }

    #[cold]
    fn reserve<I: Io<Socket = S>>(
        &mut self,
        shared: &mut Shared<I>,
        buffer: &mut RecvBuffer,
        frame: usize,
    ) -> bool {
        let strain = self.strain.get_or_insert_default();
        if strain.large == frame {
            return true;
        }
        // Another one was handled in this very turn: its room is not this one's.
        if core::mem::take(&mut strain.large) != 0 {
            self.count(shared);
        }
        let strain = self.strain.get_or_insert_default();
        if shared.holdings.has_room(frame) {
            (strain.large, strain.large_since) = (frame, None);
            self.count(shared);
            return true;
        }
        let since = *strain.large_since.get_or_insert(shared.now);
        if since + shared.config.budgets.patience <= shared.now {
            let status = self.no_room(shared);
            let refused = self.proto.refuse_partial(buffer, &status, &mut self.send, shared.now);
            if let Some(frame) = refused {
                shared.counters.calls_refused.add(1);
                let strain = self.strain.get_or_insert_default();
                strain.large_since = None;
                strain.skip = frame - buffer.discard(frame);
                return true;
            }
        }
        shared.holdings.wait(self.token);
        false
    }

    /// Drops what came of a refused request.
    #[inline]
    pub(super) fn skip(&mut self, buffer: &mut RecvBuffer) {
        if let Some(strain) = &mut self.strain {
            strain.skip -= buffer.discard(strain.skip);
        }
    }

    /// Brings the shard's account up to date, at the end of a turn.
    #[inline]
    pub(super) fn settle_account<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>) {
        if self.strain.is_some() || !self.send.is_empty() {
            self.count(shared);
        }
    }

    #[cold]
    fn count<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>) {
        let strain = self.strain.get_or_insert_default();
        let held = self.send.len() + strain.large;
        shared.holdings.change(strain.counted, held);
        strain.counted = held;
        let waits = strain.since.is_some() || strain.large_since.is_some();
        let ends = strain.finished.is_some() || strain.linger.is_some();
        if held == 0 && !waits && !ends && strain.skip == 0 {
            self.strain = None;
        }
    }

    /// No large request is being received any more.
    #[inline]
    pub(super) fn end_large(&mut self, rest: usize, usual: usize) {
        if let Some(strain) = &mut self.strain
            && rest <= usual
        {
            strain.large = 0;
        }
    }

    /// The connection is about to be dropped: gives back all that the shard counts for it.
    pub(crate) fn leave<I: Io<Socket = S>>(&mut self, shared: &mut Shared<I>) {
        self.drop_calls(shared);
        if let Some(strain) = self.strain.take() {
            shared.holdings.change(strain.counted, 0);
        }
    }
}

/// When a caller whose call found no room is asked to come back.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
