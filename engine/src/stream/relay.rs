//! A stream whose handler runs on another shard than its connection's: what stands for the connection there.
//!
//! The handler's ends are a [`StreamCell`] as always. In place of a connection, a [`Relay`] fills its inbox and empties its outbox;
//! who has the relay carries both to the shard of the connection.

use corewire_client::Message;
use corewire_client::core::channel::StreamEnd as _;
use corewire_client::streams::{Event, OUTBOX_BYTES, Outgoing};
use corewire_codec::{EncodedBody, Encoding, MetadataBuilder, Status};
use corewire_proto::StreamKind;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::cell::{Side, StreamArrivals, StreamCell};
use super::client::CoreEnd;
use super::ends::StreamEnds;
use crate::shard::account::StreamAccount;
use crate::shard::context::ShardContext;
use crate::shard::waker_place::set_waker;

/// What a handler's stream wants from its connection.
#[derive(Debug)]
pub(crate) enum Relayed {
    /// The handler has taken the call; the metadata is to be sent in any case.
    Accepted(Option<Box<MetadataBuilder>>),
    Message(Encoding, EncodedBody),
    End(Option<Status>),
    /// Messages of this cost were taken out.
    Consumed(u32),
    /// Nobody reads any more.
    Stopped,
}

/// The connection's side of a stream whose connection is another shard's. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Relay {
    cell: Rc<StreamCell>,
    /// Bytes of messages that were handed over and are not known to be sent.
    unsent: usize,
}

impl Relay {
    /// The relay of a call of this kind, and what its handler gets.
    pub(crate) fn new(shard: &Rc<ShardContext>, kind: StreamKind) -> (Self, StreamEnds) {
        let arrivals = StreamArrivals::new(Rc::clone(shard));
        let account: Rc<StreamAccount> = Rc::clone(&shard.client_streams);
        let halves = (kind.client_sends(), kind.server_sends());
        let cell = StreamCell::new(arrivals, account, Side::Relay(RefCell::default()), halves);
        let ends = StreamEnds::new(kind, &cell);
        (Self { cell, unsent: 0 }, ends)
    }

    /// A message came from the client.
    pub(crate) fn receive(&self, message: Message, cost: u32) {
        self.cell.push(message, cost);
        self.cell.wake_reader();
    }

    /// The client sends no more.
    pub(crate) fn end_incoming(&self, failure: Option<Status>) {
        CoreEnd(Rc::clone(&self.cell)).push(Event::End(failure));
    }

    /// The connection's shard has passed on so many bytes of messages.
    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.unsent = self.unsent.saturating_sub(bytes);
    }

    /// What the stream wants next. Messages wait while an outbox's worth of them is not known to be sent.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Relayed> {
        if let Side::Relay(waker) = &self.cell.side {
            set_waker(waker, context.waker());
        }
        if let Some(next) = self.take_notice() {
            return Poll::Ready(next);
        }
        if self.unsent >= OUTBOX_BYTES {
            return Poll::Pending;
        }
        match CoreEnd(Rc::clone(&self.cell)).pop() {
            Some(Outgoing::Message(encoding, body)) => {
                self.unsent += body.len() + 16;
                Poll::Ready(Relayed::Message(encoding, body))
            }
            Some(Outgoing::End(failure)) => Poll::Ready(Relayed::End(failure)),
            None => Poll::Pending,
        }
    }

    fn take_notice(&self) -> Option<Relayed> {
        let state = &mut *self.cell.state.borrow_mut();
        if state.consumed > 0 {
            return Some(Relayed::Consumed(core::mem::take(&mut state.consumed)));
        }
        if core::mem::take(&mut state.stop) {
            return Some(Relayed::Stopped);
        }
        core::mem::take(&mut state.accept).then(|| Relayed::Accepted(state.accept_with.take()))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cell.close();
    }
}
