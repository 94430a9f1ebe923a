//! One-way calls over a shard's channel: written and then forgotten.

use corewire_codec::FrameWriter;
use std::cell::RefMut;
use std::fmt;
use std::task::{Context, Poll};

use super::call::Call;
use super::send::Kind;
use super::state::{ChannelState, Link};
use crate::shard::clock::clock;
use corewire_client::config::Reply;
use corewire_client::failure::CallFailure;
use corewire_client::transport::Outcome;

impl<E, F> Call<F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    /// Writes the request, or waits for the connection or for room in its send buffer. It takes no slot.
    #[cold]
    pub(super) fn begin_one_way(
        &mut self,
        mut state: RefMut<'_, ChannelState>,
        context: &Context<'_>,
    ) -> Poll<Outcome> {
        let channel = self.ticket.channel.clone();
        let core = channel.core();
        let now = clock();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false }));
        }
        let waits = state.is_writing();
        if !waits && let Link::Up { proto, .. } = &state.link {
            if proto.is_draining() {
                return Poll::Ready(Err(state.going_away(core)));
            }
            if state.out.len() > core.config.unsent_max {
                self.ticket.wait_for_room(&mut state, context, self.deadline);
                return Poll::Pending;
            }
            self.ticket.leave_queues(&mut state);
            let left = self.deadline.map(|by| by.saturating_duration_since(now));
            let kind = Kind::OneWay(self.deadline);
            let outgoing = match state.begin_request(kind, &mut self.head, left) {
                Ok(outgoing) => outgoing,
                Err(failure) => return Poll::Ready(Err(failure)),
            };
            // The caller's code comes next, and may do anything.
            drop(state);
            let written = outgoing.write(core, kind, &self.head, &mut self.request);
            return Poll::Ready(written.map(|()| Reply::written()));
        }
        match state.want_connection(core, now) {
            Ok(()) => self
                .ticket
                .wait(&mut state, context, self.deadline)
                .map(|failure| Err(CallFailure::NotSent(failure))),
            Err(why) => Poll::Ready(Err(CallFailure::NotSent(why))),
        }
    }
}
