//! One-way calls over a shard's channel: written, and then forgotten.

use corewire_codec::FrameWriter;
use std::fmt;
use std::task::{Context, Poll};

use super::ChannelCore;
use super::call::Call;
use super::state::{ChannelState, Link};
use crate::config::{ONE_WAY_UNSENT_MAX, Reply};
use crate::failure::{CallFailure, NotSent};
use crate::local::clock;
use crate::transport::Outcome;

impl<E, F> Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    /// Writes the request, or waits for the connection or for room in its send buffer. It takes no slot.
    #[cold]
    pub(super) fn begin_one_way(
        &mut self,
        state: &mut ChannelState,
        context: &Context<'_>,
    ) -> Poll<Outcome> {
        let channel = self.ticket.channel.clone();
        let core = channel.core();
        if self.deadline.is_some_and(|deadline| deadline <= clock()) {
            return Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false }));
        }
        if let Link::Up { proto, .. } = &state.link {
            if proto.is_draining() {
                return Poll::Ready(Err(CallFailure::going_away(&core.address)));
            }
            if state.out.len() > ONE_WAY_UNSENT_MAX {
                core.local.note_known_wait();
                state.room.push(context.waker().clone());
                return Poll::Pending;
            }
            self.ticket.id = None;
            return Poll::Ready(self.write_one_way(core, state));
        }
        match state.want_connection(core, clock()) {
            Ok(()) => self
                .ticket
                .wait(state, context, self.deadline)
                .map(|failure| Err(CallFailure::NotSent(failure))),
            Err(why) => Poll::Ready(Err(CallFailure::NotSent(NotSent::NoConnection(why)))),
        }
    }

    fn write_one_way(&mut self, core: &ChannelCore, state: &mut ChannelState) -> Outcome {
        let (Link::Up { token, proto }, Some(encode)) = (&mut state.link, self.encode.take())
        else {
            let why = "the call has ended already".to_owned();
            return Err(CallFailure::NotSent(NotSent::NoConnection(why)));
        };
        self.head.call = 0;
        let left = self.deadline.map(|by| by.saturating_duration_since(core.local.now()));
        self.head.timeout_us = left.map(|left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
        let mut frame = state.out.request(&self.head, None);
        let failure = match encode(&mut frame) {
            Ok(()) => match frame.finish(proto.peer_frame_bytes_max()) {
                // A connection that takes no more calls was asked above.
                Ok(()) if proto.begin_one_way().is_ok() => {
                    core.local.mark_dirty(*token);
                    return Ok(Reply::written());
                }
                Ok(()) => NotSent::NoConnection("the connection is over".to_owned()),
                Err(error) => NotSent::TooLarge(error),
            },
            Err(error) => {
                drop(frame);
                NotSent::Encode(error.to_string())
            }
        };
        Err(CallFailure::NotSent(failure))
    }
}
