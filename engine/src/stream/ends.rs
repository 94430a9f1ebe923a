//! The ends of a shard's streams.

use corewire_codec::{EncodedBody, Encoding, Forwarded, MetadataBuilder, Status};
use corewire_proto::StreamKind;
use std::rc::Rc;
use std::task::{Context, Poll};

use corewire_client::{
    Closed, Message, Opening, Outcome, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};

use super::StreamCell;
use crate::shard::account::StreamAccount;

/// The end of a stream that messages are read from.
///
/// Dropping it says that nobody reads any more. At a client this gives up the call; at a server the call
/// goes on, and what still comes for it is dropped.
#[derive(Debug)]
pub struct StreamReader(Rc<StreamCell>);

impl ReadMessages for StreamReader {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        let Poll::Ready(item) = self.0.poll_next(context) else { return Poll::Pending };
        Poll::Ready(item.map(|item| {
            item.map(|(message, cost)| {
                self.0.consume(cost);
                message
            })
        }))
    }
}

impl StreamReader {
    /// As [`poll_next`](ReadMessages::poll_next), but the message counts as read only when its cost, which is returned with it,
    /// is [consumed](Self::consume).
    pub(crate) fn poll_unconsumed(
        &self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<(Message, u32), StreamFailure>>> {
        self.0.poll_next(context)
    }

    /// What its messages are charged to.
    pub(crate) fn account(&self) -> Rc<StreamAccount> {
        self.0.account()
    }

    /// Messages of this cost were read.
    pub(crate) fn consume(&self, cost: u32) {
        self.0.consume(cost);
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.0.drop_reader();
    }
}

/// The end of a stream that messages are written to.
///
/// Dropping it without [`end`](Self::end) ends the stream as cancelled.
#[derive(Debug)]
pub struct StreamWriter(Rc<StreamCell>);

impl WriteMessages for StreamWriter {
    /// Waits until the outbox has room; credit and the socket empty it.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll_ready(context)
    }

    fn watch(&self, context: &mut Context<'_>) {
        self.0.watch(context);
    }

    fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        self.0.send(encoding, body);
    }

    fn end(&mut self, failure: Option<Status>) {
        self.0.end(failure);
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ended(context)
    }
}

impl StreamWriter {
    /// Tells the client that the handler took the call, before its first message. Only a server does.
    /// Metadata is sent at once and in any case; without metadata, a message that is waiting may say it
    /// instead.
    pub fn accept(&mut self, metadata: Option<MetadataBuilder>) {
        self.0.accept(metadata, None);
    }

    /// What its messages are charged to.
    pub(crate) fn account(&self) -> Rc<StreamAccount> {
        self.0.account()
    }

    /// As [`accept`](Self::accept), by the handler of another shard; the client is told which if it understands that.
    pub(crate) fn accept_elsewhere(
        &self,
        metadata: Option<MetadataBuilder>,
        forwarded: Option<Forwarded>,
    ) {
        self.0.accept(metadata, forwarded);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.0.end(Some(Status::cancelled("the stream's sender was dropped before its end")));
    }
}

/// A server's ends of a call's streams.
#[derive(Debug, Default)]
pub struct StreamEnds {
    /// What the client sends, if it sends a stream.
    pub reader: Option<StreamReader>,
    /// What the server sends, if it sends a stream.
    pub writer: Option<StreamWriter>,
}

impl StreamEnds {
    pub(crate) fn new(kind: StreamKind, cell: &Rc<StreamCell>) -> Self {
        Self {
            reader: kind.client_sends().then(|| StreamReader(Rc::clone(cell))),
            writer: kind.server_sends().then(|| StreamWriter(Rc::clone(cell))),
        }
    }
}

/// A client's call that streams. Dropping it gives up the call.
#[derive(Debug)]
pub struct StreamCall(Option<Rc<StreamCell>>);

impl StreamCall {
    /// The call, and the writer if the client sends.
    pub(crate) fn new(kind: StreamKind, cell: Rc<StreamCell>) -> (Self, Option<StreamWriter>) {
        let writer = kind.client_sends().then(|| StreamWriter(Rc::clone(&cell)));
        (Self(Some(cell)), writer)
    }
}

impl StreamHandle for StreamCall {
    type Reader = StreamReader;

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        match &self.0 {
            Some(cell) => cell.poll_opened(context),
            None => Poll::Ready(Ok(None)),
        }
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        match &self.0 {
            Some(cell) => cell.poll_outcome(context),
            None => Poll::Pending,
        }
    }

    fn into_reader(mut self) -> Option<StreamReader> {
        self.0.take().map(StreamReader)
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        // Messages may have come before anybody asked for them: their credit is returned, too.
        if let Some(cell) = &self.0 {
            cell.drop_reader();
        }
    }
}
