//! How a request gets into the send buffer: the caller's code writes it, and that code may do anything.
//!
//! While that code runs, the channel's state is not borrowed and the send buffer is taken out of it.
//! So an encoder may use the channel: a call that it makes waits in the queue until the request is
//! whole, a call that it drops is cancelled after it, and a panic leaves the channel as it was.

use corewire_codec::{EncodedBody, FrameWriter, Limits, RequestHead, SendBuffer};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use corewire_codec::CancelReason;

use super::ChannelCore;
use super::state::{CallState, ChannelState, Link, Writing};
use crate::net::io::Token;
use corewire_client::failure::{CallFailure, NotSent, check_metadata};

/// The most payload that can come before a body: timeout, trace, the lengths of attachment and metadata.
const FIELDS_BYTES_MAX: usize = 8 + 25 + 4 + 2;

/// What writes a request's body.
pub(super) enum Request<F> {
    New(F),
    /// It was encoded before the server's hello; boxed, because few calls are that early.
    Encoded(Box<EncodedBody>),
    /// It is written, or cannot be.
    Gone,
}

impl<E, F> Request<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    #[inline]
    fn write(&mut self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent> {
        match core::mem::replace(self, Self::Gone) {
            Self::New(encode) => encode(frame).map_err(|error| NotSent::Encode(error.to_string())),
            Self::Encoded(body) => {
                body.write_to(frame);
                Ok(())
            }
            // A call that was sent is not polled here again, so nothing of this one ever was.
            Self::Gone => {
                Err(NotSent::Encode("the code that writes the request panicked".to_owned()))
            }
        }
    }

    /// Encodes it into memory of its own, because only then its size is known. Returns whether it is
    /// larger than what every server accepts before its hello was read (REQ-7).
    #[cold]
    pub(super) fn encode_early(&mut self) -> Result<bool, NotSent> {
        if let Self::New(_) = self {
            let body = EncodedBody::encode(|frame| self.write(frame))?;
            *self = Self::Encoded(Box::new(body));
        }
        let Self::Encoded(body) = self else { return Ok(false) };
        let bytes = body.len().saturating_add(FIELDS_BYTES_MAX);
        Ok(bytes > Limits::EARLY.frame_bytes.get() as usize)
    }
}

/// The send buffer, taken out of the channel for a request.
pub(super) struct Outgoing {
    out: Box<SendBuffer>,
    token: Token,
    frame_bytes_max: u32,
    was_empty: bool,
}

impl Outgoing {
    /// Writes one frame; nothing is left of it if that fails.
    #[inline]
    pub(super) fn write<E, F>(
        mut self,
        core: &ChannelCore,
        kind: Kind,
        head: &RequestHead,
        request: &mut Request<F>,
    ) -> Result<(), CallFailure>
    where
        E: fmt::Display,
        F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    {
        let mut frame = self.out.request(head, None);
        // The caller's code may panic; the buffer taken for it must be put back even then.
        let written = catch_unwind(AssertUnwindSafe(|| request.write(&mut frame)));
        let written = match written {
            Ok(Ok(())) => frame.finish(self.frame_bytes_max).map_err(NotSent::TooLarge),
            Ok(Err(failure)) => {
                drop(frame);
                Err(failure)
            }
            Err(panic) => {
                drop(frame);
                self.end(core, kind, false);
                resume_unwind(panic);
            }
        };
        self.end(core, kind, written.is_ok());
        written.map_err(CallFailure::NotSent)
    }

    /// Puts the buffer back, and does what the caller's code left to be done.
    #[allow(
        clippy::inline_always,
        reason = "on every call's path; out of line its arguments are copied"
    )]
    #[inline(always)]
    fn end(self, core: &ChannelCore, kind: Kind, written: bool) {
        let state = &mut *core.state.borrow_mut();
        state.spare_out = Some(core::mem::replace(&mut state.out, self.out));
        let writing = core::mem::replace(&mut state.writing, Writing::No);
        if written {
            if let (Kind::OneWay(deadline), Link::Up { proto, .. }) = (kind, &mut state.link) {
                // Nothing begins while something is written, so this is its place among the requests.
                let _ = proto.begin_one_way(deadline, &mut state.out);
            }
            // Behind a full socket a request causes no turn, but the timer must know the deadline of a one-way call:
            // it makes room when it expires. Those of other calls are noted when they begin.
            let is_timed = matches!(kind, Kind::OneWay(Some(_)));
            if self.was_empty || (is_timed && state.is_blocked()) {
                core.local.mark_dirty(self.token);
            }
        } else {
            state.take_back(kind);
        }
        if writing == Writing::Disturbed {
            state.settle(core);
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The call with this key, which has its slot.
    Call(usize),
    /// A one-way call with this deadline.
    OneWay(Option<Instant>),
}

impl ChannelState {
    /// Completes a request's head and takes the send buffer out for it.
    #[allow(
        clippy::inline_always,
        reason = "on every call's path; out of line its answer is copied"
    )]
    #[inline(always)]
    pub(super) fn begin_request(
        &mut self,
        kind: Kind,
        head: &mut RequestHead,
        timeout: Option<Duration>,
    ) -> Result<Outgoing, CallFailure> {
        let call = match kind {
            Kind::Call(key) => self.calls.get(key).and_then(CallState::call),
            Kind::OneWay(_) => Some(0),
        };
        let (Link::Up { token, proto }, Some(call)) = (&mut self.link, call) else {
            let why = "the connection ended before the call was sent".to_owned();
            return Err(CallFailure::NotSent(NotSent::NoConnection(why)));
        };
        head.call = call;
        head.timeout_us =
            timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        if let Err(failure) = check_metadata(head, &proto.peer().limits) {
            self.take_back(kind);
            return Err(CallFailure::NotSent(failure));
        }
        self.writing = Writing::Yes;
        Ok(Outgoing {
            token: *token,
            frame_bytes_max: proto.peer_frame_bytes_max(),
            was_empty: self.out.is_empty(),
            out: core::mem::replace(&mut self.out, self.spare_out.take().unwrap_or_default()),
        })
    }

    /// Nothing of this request was written.
    #[cold]
    fn take_back(&mut self, kind: Kind) {
        let Kind::Call(key) = kind else { return };
        let call = self.calls.try_remove(key).and_then(|state| state.call());
        if let (Some(call), Link::Up { proto, .. }) = (call, &mut self.link) {
            proto.unsend(call);
        }
        // The slot is free again: the next waiting call may have it.
        self.wake_waiting(1);
    }

    /// Whether nothing may begin now, because a caller's code is writing and has called this. The call
    /// that asks waits then, and has its turn when the writing is over.
    #[inline]
    pub(super) fn is_writing(&mut self) -> bool {
        if self.writing == Writing::No {
            return false;
        }
        self.writing = Writing::Disturbed;
        true
    }

    /// The code that wrote a request has used the channel: does what had to wait until it was finished.
    #[cold]
    fn settle(&mut self, core: &ChannelCore) {
        if let Link::Up { token, proto } = &mut self.link {
            for call in self.given_up.drain(..) {
                proto.abandon(call, CancelReason::Dropped, &mut self.out);
            }
            if self.closed {
                proto.leave(&mut self.out);
            }
            core.local.mark_dirty(*token);
        }
        self.wake_waiting(usize::MAX);
    }

    /// Nobody waits for the call with this key any more.
    #[cold]
    pub(super) fn abandon(&mut self, core: &ChannelCore, key: usize) {
        let Some(CallState::Waiting { call, .. }) = self.calls.try_remove(key) else { return };
        if let Link::Up { token, proto } = &mut self.link
            && proto.work_mut(call).copied() == Some(key)
        {
            if self.writing == Writing::No {
                proto.abandon(call, CancelReason::Dropped, &mut self.out);
                core.local.mark_dirty(*token);
            } else {
                self.writing = Writing::Disturbed;
                self.given_up.push(call);
            }
            return;
        }
        for retired in &mut self.retired {
            retired.abandon(core, call, key);
        }
    }
}
