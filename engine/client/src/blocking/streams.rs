//! The ends of a blocking channel's streams, all on the thread that drives the connection.
//!
//! Nothing here blocks: an end that has to wait returns `Pending`, and its caller gives the channel a
//! [turn](super::Channel::turn), which sleeps until something arrives on the socket.
//!
//! `send` goes into the connection at once and waits for credit while receiving what arrives. Where only this
//! thread's reading could bring credit back, the message is given back (`SendError::Full` in `corewire`).

use corewire_codec::{EncodedBody, Encoding, FrameWriter, RequestHead, Status};
use corewire_proto::StreamKind;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::channel::Channel;
use super::client::Client;
use super::link::Turn;
use super::waiter::StreamCell;
use crate::failure::CallFailure;
use crate::streams::{
    Closed, Event, Message, Opening, Outgoing, ReadMessages, StreamFailure, StreamHandle,
    WriteMessages,
};
use crate::transport::Outcome;

/// Unsent bytes that are gathered before they are written, while more may follow.
const PUSH_ABOVE: usize = 32 * 1024;

/// How long dropping a stream may block its thread until what is unsent, and then its cancel, is written.
const LAST_PUSH: Duration = Duration::from_millis(100);

/// A stream call and the channel that it is on.
#[derive(Clone)]
struct Ends {
    client: Rc<RefCell<Client>>,
    cell: Rc<StreamCell>,
    /// Its name in the channel.
    id: u64,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("id", &self.id).field("cell", &self.cell).finish()
    }
}

impl Ends {
    /// Runs `work` on the connection, unless that is gone or in use further up the stack.
    fn with_turn<R>(&self, work: impl FnOnce(&mut Turn<'_>) -> R) -> Option<R> {
        self.client.try_borrow_mut().ok()?.with_stream(self.id, work)
    }

    /// Hands what the ends want to the connection.
    fn settle(&self, push: bool) {
        self.with_turn(|turn| {
            turn.connection.settle_stream(self.id);
            turn.connection.serve_streams();
            if push {
                turn.push_now();
            }
        });
    }

    /// Nobody reads any more: gives the call up, unless it is over.
    fn abandon(&self) {
        self.cell.events.borrow_mut().clear();
        self.cell.closed.set(true);
        let over = self.cell.over.replace(true);
        if let Ok(mut client) = self.client.try_borrow_mut() {
            client.abandon(self.id, over, LAST_PUSH);
        }
    }

    fn poll_next(&self) -> Poll<Option<Result<Message, StreamFailure>>> {
        loop {
            let event = self.cell.events.borrow_mut().pop_front();
            return match event {
                None if self.cell.over.get() => Poll::Ready(None),
                None => Poll::Pending,
                Some(Event::Opened(_)) => continue,
                Some(Event::Message(message, cost)) => {
                    self.cell.consumed.set(self.cell.consumed.get().saturating_add(cost));
                    // What is granted goes out now: nobody knows when this thread comes back.
                    self.settle(true);
                    Poll::Ready(Some(Ok(message)))
                }
                Some(Event::End(failure)) => {
                    Poll::Ready(failure.map(|status| Err(StreamFailure::Status(status))))
                }
                Some(Event::Outcome(outcome)) => {
                    Poll::Ready(Some(Err(StreamFailure::Call(outcome))))
                }
            };
        }
    }
}

/// A blocking channel's call that streams. Dropping it gives the call up.
#[derive(Debug)]
pub struct StreamCall(Ends);

impl StreamHandle for StreamCall {
    type Reader = StreamReader;

    fn poll_opened(&mut self, _: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        let cell = &self.0.cell;
        let events = &mut *cell.events.borrow_mut();
        Poll::Ready(match events.pop_front() {
            Some(Event::Opened(opening)) => Ok(opening),
            Some(Event::Outcome(outcome)) => Err(outcome),
            Some(event) => {
                events.push_front(event);
                Ok(None)
            }
            None if cell.over.get() => Ok(None),
            None => return Poll::Pending,
        })
    }

    fn poll_outcome(&mut self, _: &mut Context<'_>) -> Poll<Outcome> {
        // The server of such a call sends nothing else.
        while let Some(event) = self.0.cell.events.borrow_mut().pop_front() {
            if let Event::Outcome(outcome) = event {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }

    fn into_reader(self) -> Option<StreamReader> {
        Some(StreamReader(self))
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What a blocking channel's stream is read from. Dropping it gives the call up.
#[derive(Debug)]
pub struct StreamReader(StreamCall);

impl StreamReader {
    /// Lets the channel have a turn, which blocks; see [`Channel::turn`].
    pub fn turn(&self) {
        turn(&self.0.0.client);
    }
}

impl ReadMessages for StreamReader {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, StreamFailure>>> {
        self.0.0.poll_next()
    }
}

/// What a blocking channel's stream is written to. A message goes into the connection at once, so there
/// is room for one while there is credit.
#[derive(Debug)]
pub struct StreamWriter(Ends);

impl StreamWriter {
    /// Lets the channel have a turn, which blocks; see [`Channel::turn`].
    pub fn turn(&self) {
        turn(&self.0.client);
    }

    /// Writes what was sent, as far as the socket takes it without waiting.
    pub fn push(&self) {
        self.0.with_turn(|turn| turn.push_now());
    }

    /// Whether the server may be waiting for this thread: so much is unread that the server may have no
    /// credit left, for this stream or for all.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.0.with_turn(|turn| turn.connection.is_choked(self.0.id)).unwrap_or(false)
    }
}

impl WriteMessages for StreamWriter {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.0.cell.closed.get() {
            return Poll::Ready(Err(Closed));
        }
        let ready = self.0.with_turn(|turn| {
            if turn.connection.unsent() > PUSH_ABOVE {
                turn.push_now();
            }
            turn.connection.takes_message(self.0.id)
        });
        match ready {
            Some(true) => Poll::Ready(Ok(())),
            // A connection that is gone has closed its streams.
            Some(false) | None => Poll::Pending,
        }
    }

    fn watch(&self, _: &mut Context<'_>) {}

    fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        if !self.0.cell.closed.get() {
            self.0.cell.outbox.borrow_mut().push_back(Outgoing::Message(encoding, body));
            self.0.settle(false);
        }
    }

    fn end(&mut self, failure: Option<Status>) {
        if !self.0.cell.closed.replace(true) {
            self.0.cell.outbox.borrow_mut().push_back(Outgoing::End(failure));
            self.0.settle(true);
        }
    }

    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match self.0.cell.closed.get() {
            false => Poll::Pending,
            true => Poll::Ready(()),
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.end(Some(Status::cancelled("the stream's sender was dropped before its end")));
    }
}

fn turn(client: &RefCell<Client>) {
    if let Ok(mut client) = client.try_borrow_mut() {
        client.turn();
    }
}

impl Channel {
    /// Begins a streaming call: connects if needed, and writes its request. There is a writer if the client
    /// sends.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    #[doc(hidden)]
    pub fn stream<E>(
        &self,
        kind: StreamKind,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Result<(StreamCall, Option<StreamWriter>), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        head.flags |= kind.request_flags();
        let (id, cell) = Self::with_client(&self.client, |client| {
            client.begin_stream(kind, head, timeout, encode)
        })?;
        let ends = Ends { client: Rc::clone(&self.client), cell, id };
        let writer = kind.client_sends().then(|| StreamWriter(ends.clone()));
        Ok((StreamCall(ends), writer))
    }

    /// Writes what waits, and sleeps until the server sends something or something is due. What arrived is
    /// then in the streams that it is for. Without a connection this returns at once.
    #[doc(hidden)]
    pub fn turn(&self) {
        turn(&self.client);
    }
}
