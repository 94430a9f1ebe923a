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

use super::cell::Cell;
use super::channel::Channel;
use super::client::Client;
use super::link::Link;
use crate::failure::{CallFailure, NotSent};
use crate::streams::{
    Closed, Message, Opening, ReadMessages, StreamFailure, StreamHandle, WriteMessages,
};
use crate::transport::Outcome;

/// Unsent bytes above which a message waits until some have been written.
const UNSENT_MAX: usize = 256 * 1024;

/// Unsent bytes that are gathered before they are written, while more may follow.
const PUSH_ABOVE: usize = 32 * 1024;

/// How long dropping a stream may block its thread until what is unsent, and then its cancel, is written.
const LAST_PUSH: Duration = Duration::from_millis(100);

/// A stream call and the channel that it is on.
#[derive(Clone)]
struct Ends {
    client: Rc<RefCell<Client>>,
    cell: Rc<Cell>,
    /// Its id on the wire, on the connection of this number.
    call: u32,
    link: u64,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("call", &self.call).field("cell", &self.cell).finish()
    }
}

impl Ends {
    /// Runs `work` on the connection, unless that is gone or in use further up the stack.
    fn with_link<R>(&self, work: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let mut client = self.client.try_borrow_mut().ok()?;
        if client.links != self.link {
            return None;
        }
        client.link.as_deref_mut().map(work)
    }

    /// The reader took messages of this cost.
    fn consume(&self, cost: u32) {
        self.with_link(|link| {
            link.session.consume(self.call, cost);
            // What is granted goes out now: nobody knows when this thread comes back.
            link.push_now();
        });
    }

    /// Nobody reads any more: gives the call up, unless it is over.
    fn abandon(&self) {
        let (unread, over) = {
            let state = &mut *self.cell.state.borrow_mut();
            state.inbox.clear();
            state.sending = false;
            let over = core::mem::replace(&mut state.over, true);
            (core::mem::take(&mut state.held), over)
        };
        self.with_link(|link| {
            if unread > 0 {
                link.session.consume(self.call, unread);
            }
            if over {
                return link.push_now();
            }
            drop(link.session.cancel(self.call));
        });
        if !over && let Ok(mut client) = self.client.try_borrow_mut() {
            client.push_within(LAST_PUSH);
            client.rest();
        }
    }

    fn poll_next(&self) -> Poll<Option<Result<Message, StreamFailure>>> {
        let (message, cost) = {
            let state = &mut *self.cell.state.borrow_mut();
            let Some((message, cost)) = state.inbox.pop_front() else {
                if let Some(failure) = &mut state.ended {
                    let failure = failure.take();
                    return Poll::Ready(failure.map(|status| Err(StreamFailure::Status(status))));
                }
                if state.over {
                    let outcome = state.outcome.take();
                    return Poll::Ready(outcome.map(|outcome| Err(StreamFailure::Call(outcome))));
                }
                return Poll::Pending;
            };
            state.held = state.held.saturating_sub(cost);
            (message, cost)
        };
        self.consume(cost);
        Poll::Ready(Some(Ok(message)))
    }
}

/// A blocking channel's call that streams. Dropping it gives the call up.
#[derive(Debug)]
pub struct StreamCall(Option<Ends>);

impl StreamHandle for StreamCall {
    type Reader = StreamReader;

    fn poll_opened(&mut self, _: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        let Some(ends) = &self.0 else { return Poll::Ready(Ok(None)) };
        let state = &mut *ends.cell.state.borrow_mut();
        if state.opened {
            return Poll::Ready(Ok(state.opening.take()));
        }
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(Err(outcome)),
            None if state.over => Poll::Ready(Ok(None)),
            None => Poll::Pending,
        }
    }

    fn poll_outcome(&mut self, _: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = self.0.as_ref().and_then(|it| it.cell.state.borrow_mut().outcome.take());
        outcome.map_or(Poll::Pending, Poll::Ready)
    }

    fn into_reader(mut self) -> Option<StreamReader> {
        self.0.take().map(StreamReader)
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        if let Some(ends) = &self.0 {
            ends.abandon();
        }
    }
}

/// What a blocking channel's stream is read from. Dropping it gives the call up.
#[derive(Debug)]
pub struct StreamReader(Ends);

impl StreamReader {
    /// Lets the channel have a turn, which blocks; see [`Channel::turn`].
    pub fn turn(&self) {
        turn(&self.0.client);
    }
}

impl ReadMessages for StreamReader {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, StreamFailure>>> {
        self.0.poll_next()
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.0.abandon();
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
        self.0.with_link(Link::push_now);
    }

    /// Whether the server may be waiting for this thread: so much is unread that the server may have no
    /// credit left, for this stream or for all.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        let held = self.0.cell.state.borrow().held;
        let choked = self.0.with_link(|link| {
            let (own, _) = link.session.limits();
            // What was consumed and not granted yet is less than the other half.
            held >= own.stream_window() / 2
                || link.session.held_bytes() >= own.connection_credit.get() / 2
        });
        choked.unwrap_or(false)
    }
}

impl WriteMessages for StreamWriter {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if !self.0.cell.state.borrow().sending {
            return Poll::Ready(Err(Closed));
        }
        let ready = self.0.with_link(|link| {
            if link.session.out.len() > PUSH_ABOVE {
                link.push_now();
            }
            link.session.out.len() <= UNSENT_MAX && link.session.has_credit(self.0.call)
        });
        match ready {
            Some(true) => Poll::Ready(Ok(())),
            // A connection that is gone has closed its streams.
            Some(false) | None => Poll::Pending,
        }
    }

    fn watch(&self, _: &mut Context<'_>) {}

    fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        let sent = self.0.with_link(|link| {
            let sent = link.session.message(self.0.call, encoding, body);
            if let Err(error) = &sent {
                let status = Status::resource_exhausted(error.to_string());
                link.session.end_stream(self.0.call, Some(&status));
            }
            sent.is_ok()
        });
        if sent == Some(false) {
            self.0.cell.state.borrow_mut().sending = false;
        }
    }

    fn end(&mut self, failure: Option<Status>) {
        if core::mem::take(&mut self.0.cell.state.borrow_mut().sending) {
            self.0.with_link(|link| {
                link.session.end_stream(self.0.call, failure.as_ref());
                link.push_now();
            });
        }
    }

    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match self.0.cell.state.borrow().sending {
            true => Poll::Pending,
            false => Poll::Ready(()),
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
    pub fn stream<E>(
        &self,
        kind: StreamKind,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Result<(StreamCall, Option<StreamWriter>), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        if crate::wait::is_shard() {
            return Err(CallFailure::NotSent(NotSent::WouldBlock));
        }
        head.flags |= kind.request_flags();
        let (cell, call, link) = {
            let Ok(mut client) = self.client.try_borrow_mut() else {
                return Err(CallFailure::NotSent(NotSent::QueueFull));
            };
            let begun = client.begin_stream(kind, head, timeout, encode);
            client.close_if_told();
            begun?
        };
        let ends = Ends { client: Rc::clone(&self.client), cell, call, link };
        let writer = kind.client_sends().then(|| StreamWriter(ends.clone()));
        Ok((StreamCall(Some(ends)), writer))
    }

    /// Writes what waits, and sleeps until the server sends something or something is due. What arrived is
    /// then in the streams that it is for. Without a connection this returns at once.
    pub fn turn(&self) {
        turn(&self.client);
    }
}
