//! A client's stream, as the core of its channel sees it.

use std::rc::Rc;

use corewire_client::core::channel::StreamEnd;
use corewire_client::streams::{Event, Message, OUTBOX_BYTES, Outgoing};
use corewire_codec::{Encoding, Limits, Payload};

use super::cell::{Sending, Side, StreamCell};

impl StreamCell {
    /// The name of a client's stream in its channel.
    pub(crate) fn name(&self) -> Option<u64> {
        match &self.side {
            Side::Client(side) => Some(side.name),
            Side::Server { .. } | Side::Relay(_) => None,
        }
    }

    /// Whether nobody waits for the client's call any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.borrow().abandoned
    }
}

/// The end of the channel's core. Clones are the same end.
#[derive(Clone, Debug)]
pub(crate) struct CoreEnd(pub(crate) Rc<StreamCell>);

impl StreamEnd for CoreEnd {
    fn begin(&self, _: &Limits, _: u32) {
        if let Side::Client(side) = &self.0.side {
            side.token.set(side.current.get());
        }
        self.0.wake_reader();
    }

    fn take_notice(&self) {
        self.0.queued.set(false);
    }

    fn is_given_up(&self) -> bool {
        self.0.is_abandoned()
    }

    fn received(&self, encoding: Encoding, payload: Payload<'_>) -> Message {
        self.0.received(encoding, payload)
    }

    fn take_consumed(&self) -> u32 {
        core::mem::take(&mut self.0.state.borrow_mut().consumed)
    }

    fn has_outgoing(&self) -> bool {
        self.0.wants_to_write()
    }

    fn is_ending(&self) -> bool {
        let state = self.0.state.borrow();
        state.outbox.is_empty() && matches!(state.sending, Sending::Ending(_))
    }

    fn pop(&self) -> Option<Outgoing> {
        let (outgoing, has_room) = {
            let state = &mut *self.0.state.borrow_mut();
            let outgoing = match state.outbox.pop_front() {
                Some((encoding, body, _)) => {
                    state.outbox_bytes = state.outbox_bytes.saturating_sub(body.len() + 16);
                    Outgoing::Message(encoding, body)
                }
                None => match core::mem::replace(&mut state.sending, Sending::Ended) {
                    Sending::Ending(failure) => Outgoing::End(failure),
                    sending => {
                        state.sending = sending;
                        return None;
                    }
                },
            };
            (outgoing, state.outbox_bytes < OUTBOX_BYTES)
        };
        if has_room {
            self.0.wake_writer();
        }
        Some(outgoing)
    }

    fn push(&self, event: Event) {
        match event {
            Event::Opened(opening) => self.0.open(opening),
            Event::Message(message, cost) => self.0.push(message, cost),
            Event::End(failure) => self.0.end_incoming(failure),
            Event::Outcome(outcome) => self.0.finish(Some(outcome)),
        }
    }

    fn wake_reader(&self) {
        self.0.wake_reader();
    }

    fn close(&self) {
        self.0.state.borrow_mut().end_sending();
        self.0.wake_writer();
    }
}
