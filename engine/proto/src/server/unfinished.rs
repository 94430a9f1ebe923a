//! Frames that have arrived only in part.

use std::time::Instant;

use corewire_codec::{FrameKind, Header, RecvBuffer, Rule, SendBuffer, Status};

use super::{ONE_WAY, Phase, ServerConnection, ServerInput};
use crate::streams::table::StreamKind;

impl<T> ServerConnection<T> {
    /// Part of a frame is here. If its header shows it to be wrong, the rest is not waited for: its
    /// payload would take as much room as the largest request.
    #[cold]
    pub(super) fn handle_unfinished<'a>(
        &mut self,
        recv: &RecvBuffer,
        out: &mut SendBuffer,
    ) -> ServerInput<'a, T> {
        match recv.peek_header().map_or(Ok(()), |header| self.check_unfinished(header)) {
            Ok(()) => ServerInput::NeedBytes,
            Err(rule) => self.misbehaved(rule, out),
        }
    }

    fn check_unfinished(&self, header: Header) -> Result<(), Rule> {
        header.check_unfinished()?;
        match header.kind {
            FrameKind::Reply => Err(Rule::WrongDirection),
            FrameKind::Request if header.flags & ONE_WAY == 0 => self.check_slot(header.call),
            FrameKind::StreamData | FrameKind::StreamEnd => {
                let streams = self.extra_calls.as_ref().map(|extra| &extra.streams);
                crate::streams::table::check_receiving(streams, header.call)
            }
            _ => Ok(()),
        }
    }

    /// Refuses the partly received request at the front of `recv`, so that its body needs no room; one of a one-way
    /// call is only dropped. Returns how many bytes belong to it, from the first unread one on; drop them as they
    /// come. `None` for any other frame, which must be received before it can be judged.
    pub fn refuse_partial(
        &mut self,
        recv: &RecvBuffer,
        status: &Status,
        out: &mut SendBuffer,
        now: Instant,
    ) -> Option<usize> {
        let header = recv.peek_header()?;
        if header.kind != FrameKind::Request || self.phase != Phase::Open {
            return None;
        }
        let is_one_way = header.flags & ONE_WAY != 0;
        let kind = StreamKind::from_request_flags(header.flags);
        if self.check_unfinished(header).is_err() || (is_one_way && kind.is_some()) {
            return None;
        }
        self.keep_alive.handle_frame(now);
        self.keep_alive.handle_activity(now);
        self.accepted = self.accepted.wrapping_add(1);
        if !is_one_way {
            self.refuse(header.call, status, out);
        }
        if let Some(kind) = kind {
            self.open_refused_stream(header.call, kind);
        }
        Some(recv.len().saturating_add(recv.lacking()))
    }

    /// Part of a [refused](Self::refuse_partial) request came, and was dropped: its client is there.
    pub fn handle_dropped(&mut self, now: Instant) {
        self.keep_alive.handle_alive(now);
    }
}
