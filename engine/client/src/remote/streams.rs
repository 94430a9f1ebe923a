//! The ends of a shared channel's streams, which may be on any threads.
//!
//! ```text
//!  caller's thread                                     what drives the connection
//!  ───────────────                                     ──────────────────────────
//!  SharedStreamCall / Reader ◀── events, by the window ◀── Port
//!        │ consumed: a counter ──── notify ──────────────▶ │ grants credit
//!  SharedStreamWriter ──▶ outbox, 32 KiB ── notify ───────▶ │ writes by credit
//! ```
//!
//! Received messages wait in the queue of events until their reader takes them, and only then are their
//! bytes granted again: the queue holds a stream's window at most. A notification is one flag and, if it was not
//! set, one wake of the driver. The driver in turn wakes a reader once for all that arrived in a turn.

use corewire_codec::{EncodedBody, Encoding, FrameWriter, RequestHead, Status};
use corewire_proto::{CloseReason, StreamKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::failure::{CallFailure, NotSent};
use crate::remote::channel::{Handle, SharedChannel};
use crate::remote::command::{Control, Sink, Spawned};
use crate::remote::pipe::{Event, MESSAGE_BYTES, Outgoing, Pipe, Port};
use crate::streams::{
    CONSUMED_BYTES, Closed, Message, OUTBOX_BYTES, Opening, ReadMessages, StreamFailure,
    StreamHandle, WriteMessages,
};
use crate::transport::Outcome;

/// What the caller's ends have in common.
#[derive(Debug)]
struct StreamRef {
    pipe: Arc<Pipe>,
    handle: Arc<Handle>,
    id: u64,
}

impl StreamRef {
    /// Makes the driver look at this stream.
    fn notify(&self) {
        if self.pipe.notified.swap(true, Ordering::AcqRel) {
            return;
        }
        let Handle { mailbox, channel, .. } = &*self.handle;
        mailbox.control(Control::Stream { channel: *channel, id: self.id });
    }
}

/// A shared channel's streaming call. Dropping it gives the call up.
#[derive(Debug)]
pub struct SharedStreamCall {
    stream: StreamRef,
    events: flume::Receiver<Event>,
    /// An event that was looked at and not taken.
    front: Option<Event>,
    /// Cost of messages that were taken and are not in the pipe's counter yet.
    untold: u32,
    over: bool,
}

impl SharedStreamCall {
    /// Reports to the driver what was taken, if its cost is at least `least`.
    fn tell(&mut self, least: u32) {
        if self.untold != 0 && self.untold >= least {
            self.stream.pipe.consumed.fetch_add(self.untold, Ordering::AcqRel);
            self.untold = 0;
            self.stream.notify();
        }
    }

    /// The same while nothing is left to read.
    fn tell_at_rest(&mut self) {
        self.tell(self.stream.pipe.grain.load(Ordering::Relaxed));
    }

    fn poll_event(&mut self, context: &Context<'_>) -> Poll<Event> {
        if let Some(event) = self.front.take() {
            return Poll::Ready(event);
        }
        let event = match self.events.try_recv() {
            Err(flume::TryRecvError::Empty) => {
                self.stream.pipe.reader.register(context.waker());
                self.tell_at_rest();
                // An event may have come in between.
                self.events.try_recv()
            }
            event => event,
        };
        match event {
            Ok(event) => Poll::Ready(event),
            Err(flume::TryRecvError::Empty) => Poll::Pending,
            // A driver that ends says so; this one had no time to.
            Err(flume::TryRecvError::Disconnected) => {
                let lost = CallFailure::Unknown(CloseReason::LocallyClosed);
                Poll::Ready(Event::Outcome(Err(lost)))
            }
        }
    }

    fn poll_message(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.poll_event(context)) {
                Event::Opened(_) => {}
                Event::Message(message, cost) => {
                    self.untold = self.untold.saturating_add(cost);
                    self.tell(CONSUMED_BYTES);
                    if self.events.is_empty() {
                        self.tell_at_rest();
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Event::End(failure) => {
                    self.over = true;
                    let failure = failure.map(|status| Err(StreamFailure::Status(status)));
                    return Poll::Ready(failure);
                }
                Event::Outcome(outcome) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(StreamFailure::Call(outcome))));
                }
            }
        }
    }
}

impl StreamHandle for SharedStreamCall {
    type Reader = SharedStreamReader;

    fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<Opening, Outcome>> {
        if self.over {
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(match ready!(self.poll_event(context)) {
            Event::Opened(opening) => Ok(opening),
            Event::Outcome(outcome) => {
                self.over = true;
                Err(outcome)
            }
            event @ (Event::Message(..) | Event::End(_)) => {
                self.front = Some(event);
                Ok(None)
            }
        })
    }

    fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        while !self.over {
            // The server of such a call sends nothing else.
            if let Event::Outcome(outcome) = ready!(self.poll_event(context)) {
                self.over = true;
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    }

    fn into_reader(self) -> Option<SharedStreamReader> {
        Some(SharedStreamReader(self))
    }
}

impl Drop for SharedStreamCall {
    fn drop(&mut self) {
        // Drop the queue first, then send the cancel: a driver that takes the call in between sees that nobody
        // waits. The driver knows what it put in, and takes it back on the cancel.
        let (_, nothing) = flume::bounded(0);
        drop(core::mem::replace(&mut self.events, nothing).drain());
        let Handle { mailbox, channel, .. } = &*self.stream.handle;
        mailbox.control(Control::Cancel { channel: *channel, id: self.stream.id });
    }
}

/// What a shared channel's stream is read from. Dropping it gives the call up.
#[derive(Debug)]
pub struct SharedStreamReader(SharedStreamCall);

impl SharedStreamReader {
    /// Whether this thread may sleep until a message comes: not if it runs a shard, and not if the connection
    /// may need it.
    #[must_use]
    pub fn may_block(&self) -> bool {
        self.0.stream.handle.mailbox.may_block()
    }
}

impl ReadMessages for SharedStreamReader {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, StreamFailure>>> {
        self.0.poll_message(context)
    }
}

/// What a shared channel's stream is written to.
#[derive(Debug)]
pub struct SharedStreamWriter {
    stream: StreamRef,
    outbox: flume::Sender<Outgoing>,
    ended: bool,
}

impl SharedStreamWriter {
    fn is_closed(&self) -> bool {
        self.stream.pipe.closed.load(Ordering::Acquire)
    }
}

impl WriteMessages for SharedStreamWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let pipe = &self.stream.pipe;
        for looks in 0..2 {
            if self.ended || self.is_closed() {
                return Poll::Ready(Err(Closed));
            }
            if pipe.outbox_bytes.load(Ordering::Acquire) < OUTBOX_BYTES {
                return Poll::Ready(Ok(()));
            }
            if looks == 0 {
                pipe.writer.register(context.waker());
            }
        }
        Poll::Pending
    }

    fn watch(&self, context: &mut Context<'_>) {
        self.stream.pipe.writer.register(context.waker());
        if self.is_closed() {
            context.waker().wake_by_ref();
        }
    }

    fn send(&mut self, encoding: Encoding, body: EncodedBody) {
        if self.ended {
            return;
        }
        self.stream.pipe.outbox_bytes.fetch_add(body.len() + MESSAGE_BYTES, Ordering::AcqRel);
        // A driver that is gone takes nothing more.
        let _ = self.outbox.send(Outgoing::Message(encoding, body));
        self.stream.notify();
    }

    fn end(&mut self, failure: Option<Status>) {
        if !core::mem::replace(&mut self.ended, true) {
            let _ = self.outbox.send(Outgoing::End(failure));
            self.stream.notify();
        }
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.pipe.writer.register(context.waker());
        if self.is_closed() || self.outbox.is_disconnected() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for SharedStreamWriter {
    fn drop(&mut self) {
        self.end(Some(Status::cancelled("the stream's sender was dropped before its end")));
    }
}

impl SharedChannel {
    /// Hands a streaming call over to the driver of the connection. There is a writer if the client sends.
    /// Whether the call could be sent shows in its outcome.
    ///
    /// # Errors
    ///
    /// The arguments cannot be encoded.
    #[doc(hidden)]
    pub fn stream<E>(
        &self,
        kind: StreamKind,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Result<(SharedStreamCall, Option<SharedStreamWriter>), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        head.flags |= kind.request_flags();
        // A failure to encode is returned at once, so that it cannot get lost.
        let body = EncodedBody::encode(encode)
            .map_err(|status| CallFailure::NotSent(NotSent::Encode(status.to_string())))?;
        let (events, events_out) = flume::unbounded();
        let (outbox, outbox_out) = flume::unbounded();
        let pipe = Arc::new(Pipe::default());
        let port = Port { pipe: Arc::clone(&pipe), events, outbox: outbox_out };
        let id = self.handle.submit_encoded(head, timeout, body, Sink::Stream(port)).0;
        let stream = || StreamRef { pipe: Arc::clone(&pipe), handle: Arc::clone(&self.handle), id };
        let writer = kind.client_sends().then(|| SharedStreamWriter {
            stream: stream(),
            outbox,
            ended: false,
        });
        let call = SharedStreamCall {
            stream: stream(),
            events: events_out,
            front: None,
            untold: 0,
            over: false,
        };
        Ok((call, writer))
    }

    /// Runs a future where the connection is driven: on the client thread, or as a task of the runtime. It
    /// is dropped if that has ended.
    #[doc(hidden)]
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.mailbox.control(Control::Spawn(Spawned(Box::pin(future))));
    }

    /// Blocks this thread until a future that depends on this channel is ready.
    ///
    /// # Errors
    ///
    /// [`NotSent::WouldBlock`] where blocking would keep it from becoming ready.
    #[doc(hidden)]
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, NotSent> {
        if !self.handle.mailbox.may_block() {
            return Err(NotSent::WouldBlock);
        }
        // Without a time limit only the future ends this.
        crate::wait::block_on(future, None).ok_or(NotSent::WouldBlock)
    }
}
