//! What the engine asks of the layer above: make a call, answer it.

use corewire_codec::{
    Encode, Extras, Forwarded, Mark, OwnedPayload, Payload, ReplyHead, RequestHead, SendBuffer,
    Status, StatusCode, reply_flags,
};
use corewire_proto::is_one_way_id;
use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::calls::extensions::Extensions;
use crate::stream::StreamEnds;
use corewire_client::MethodName;
use corewire_client::address::Peer;
use corewire_client::panics::panic_text;
use corewire_codec::MethodId;
use corewire_proto::ShardId;

/// A call as it arrived.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Its fields.
    pub request: &'a RequestHead,
    /// Its bytes, still in the receive buffer; `None` once they were taken out.
    pub payload: Option<Payload<'a>>,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// The caller.
    pub peer: Peer,
    /// The shard that runs the call.
    pub shard: ShardId,
    /// The connection's id in this process; with the call id it names the call globally.
    pub connection_id: u64,
    /// Its streams, if it asks for any.
    pub streams: Option<&'a mut StreamEnds>,
    /// The largest metadata block that the caller accepts with its reply, in bytes.
    pub metadata_bytes_max: u16,
    /// Whether the caller may be told that its call was forwarded; see [`ReplySlot::set_forwarded`].
    pub hears_forwards: bool,
    /// What layers hand to the handler.
    pub extensions: &'a mut Extensions,
}

impl Incoming<'_> {
    /// Takes the call out of the receive buffer, by copying its bytes, so that it can begin later. Its streams and
    /// its extensions go along.
    #[must_use]
    #[cold]
    pub fn take(&mut self) -> OwnedCall {
        OwnedCall {
            request: *self.request,
            payload: self.payload.take().map(|payload| payload.to_owned()),
            deadline: self.deadline,
            peer: self.peer,
            shard: self.shard,
            connection_id: self.connection_id,
            streams: self.streams.as_deref_mut().map(core::mem::take),
            metadata_bytes_max: self.metadata_bytes_max,
            hears_forwards: self.hears_forwards,
            extensions: core::mem::take(self.extensions),
        }
    }
}

/// A call that arrived and was not begun at once. See [`Incoming::take`].
#[derive(Debug)]
pub struct OwnedCall {
    request: RequestHead,
    payload: Option<OwnedPayload>,
    deadline: Option<Instant>,
    peer: Peer,
    shard: ShardId,
    connection_id: u64,
    streams: Option<StreamEnds>,
    metadata_bytes_max: u16,
    hears_forwards: bool,
    extensions: Extensions,
}

impl OwnedCall {
    /// The call, to be given to a [`Dispatch`]. Its connection knows the deadline that it had when it was taken:
    /// who makes it sooner must keep to that himself.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming {
            request: &self.request,
            payload: self.payload.as_mut().map(OwnedPayload::view),
            deadline: self.deadline,
            peer: self.peer,
            shard: self.shard,
            connection_id: self.connection_id,
            streams: self.streams.as_mut(),
            metadata_bytes_max: self.metadata_bytes_max,
            hears_forwards: self.hears_forwards,
            extensions: &mut self.extensions,
        }
    }
}

/// What a dispatcher did with a call.
#[derive(Debug)]
pub enum Dispatched {
    /// The [`ReplySlot`] was used.
    Replied,
    /// The handler pends; poll it when its waker is woken.
    Pending(Pin<Box<dyn PendingCall>>),
}

/// A set of methods on one shard. It is polled on that shard's thread only.
pub trait Dispatch {
    /// Makes a call: polls its handler once, with `context`, and answers through `reply` if it is
    /// done. It may panic; the call then fails with `Internal`.
    fn dispatch(
        &self,
        call: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched;

    /// The methods that it knows, for logs. Asked once, when the shard starts, and when something is logged.
    fn methods(&self) -> Vec<(MethodId, MethodName)> {
        Vec::new()
    }

    /// Whether it has methods of another class than [`ServiceClass::Normal`](crate::ServiceClass), for whose calls it
    /// calls [`enter_class`](crate::enter_class). Asked once, when the shard starts.
    fn has_classes(&self) -> bool {
        false
    }
}

/// A handler that was polled and pends. Dropping it cancels it.
pub trait PendingCall {
    /// Polls the handler; on `Ready` the reply was given. It may panic.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>, reply: &mut ReplySlot<'_>)
    -> Poll<()>;

    /// The call is over: the memory may be used for another one.
    fn recycle(self: Pin<Box<Self>>);
}

impl std::fmt::Debug for dyn PendingCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingCall")
    }
}

/// The place of one call's reply in its connection's send buffer. It takes one reply; further ones
/// are ignored.
#[derive(Debug)]
pub struct ReplySlot<'a> {
    out: &'a mut SendBuffer,
    head: ReplyHead,
    frame_bytes_max: u32,
    done: bool,
    refused: bool,
    /// What the log should say about the call.
    note: Option<Box<Note>>,
}

/// What only the log is told about a call.
#[derive(Debug)]
pub(crate) enum Note {
    /// Its handler panicked, with this message.
    Panicked(String),
    /// It failed with a status that has a detail for the log.
    Failed(Status),
}

impl<'a> ReplySlot<'a> {
    #[inline]
    pub(crate) fn new(out: &'a mut SendBuffer, call: u32, frame_bytes_max: u32) -> Self {
        // A one-way call is never answered: it counts as replied.
        let done = is_one_way_id(call);
        Self { out, head: ReplyHead::ok(call), frame_bytes_max, done, refused: false, note: None }
    }

    /// Whether a reply was given.
    #[must_use]
    #[inline]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the call was [refused](Self::refuse).
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Replies that the handler panicked, and notes with what.
    #[cold]
    pub(crate) fn panicked(&mut self, panic: &(dyn Any + Send)) {
        self.note = Some(Box::new(Note::Panicked(panic_text(panic))));
        self.status(&Status::internal("the handler panicked"));
    }

    /// What the log should say about the call.
    #[inline]
    pub(crate) fn into_note(self) -> Option<Box<Note>> {
        self.note
    }

    /// States how long the handler took, in µs.
    pub fn set_handler_us(&mut self, handler_us: u32) {
        self.head.handler_us = handler_us;
    }

    /// States that the call was handed to the shard that owns its key. Only for a caller that understands it
    /// ([`Incoming::hears_forwards`]): to another one it would be a breach of the protocol.
    pub fn set_forwarded(&mut self, forwarded: Forwarded) {
        self.head.forwarded = Some(forwarded);
    }

    /// Replies with a value, written straight into the send buffer. A value that cannot be encoded
    /// becomes `Internal`, one that is larger than the peer accepts `ResourceExhausted`.
    #[inline]
    pub fn send<C: Encode<T>, T>(&mut self, value: T) {
        if self.done {
            return;
        }
        self.head.encoding = corewire_codec::Encoding::plain(C::ID);
        let mut frame = self.out.reply(&self.head, None);
        let failure = match C::encode(value, &mut frame) {
            Ok(()) => match frame.finish(self.frame_bytes_max) {
                Ok(()) => {
                    self.done = true;
                    return;
                }
                Err(error) => Status::resource_exhausted(error.to_string()),
            },
            Err(error) => {
                drop(frame);
                Status::internal(error.to_string())
            }
        };
        self.status(&failure);
    }

    /// Replies with a value, metadata and an attachment. More metadata than the caller accepts
    /// ([`Incoming::metadata_bytes_max`]) would end the connection: the code that collects it must keep
    /// to that limit.
    #[cold]
    pub fn send_with<C: Encode<T>, T>(&mut self, value: T, extras: &Extras) {
        if self.done {
            return;
        }
        self.head.encoding = corewire_codec::Encoding::plain(C::ID);
        self.head.attachment_bytes = extras.attachment_bytes();
        let mut frame = self.out.reply(&self.head, extras.metadata());
        let failure = match C::encode(value, &mut frame) {
            Ok(()) => {
                extras.write_attachment(&mut frame);
                match frame.finish(self.frame_bytes_max) {
                    Ok(()) => {
                        self.done = true;
                        return;
                    }
                    Err(error) => Status::resource_exhausted(error.to_string()),
                }
            }
            Err(error) => {
                drop(frame);
                Status::internal(error.to_string())
            }
        };
        self.status(&failure);
    }

    /// Replies with the frame that another shard has written for this call.
    pub(crate) fn append(&mut self, frame: SendBuffer, note: Option<Box<Note>>) {
        if let Some(note) = note {
            self.note.get_or_insert(note);
        }
        if !self.done {
            self.done = true;
            self.out.append(frame);
        }
    }

    /// The largest frame that the caller accepts.
    pub(crate) fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// Where the reply will begin; take it before the handler is polled.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.out.mark()
    }

    /// The code of the reply that was written after `mark`.
    #[must_use]
    pub fn code_at(&mut self, mark: Mark) -> Option<StatusCode> {
        if self.done { self.out.code_at(mark) } else { None }
    }

    /// States in the reply that was written after `mark` how long the handler took, in µs.
    pub fn set_handler_us_at(&mut self, mark: Mark, handler_us: u32) {
        if self.done {
            self.out.set_handler_us_at(mark, handler_us);
        }
    }

    /// Replies with a failure.
    pub fn status(&mut self, status: &Status) {
        if status.log_detail().is_some() {
            self.note.get_or_insert_with(|| Box::new(Note::Failed(status.clone())));
        }
        if !self.done {
            self.done = true;
            self.out.status(&self.head, status, self.frame_bytes_max);
        }
    }

    /// Replies that the call was not run and may be tried again.
    pub fn refuse(&mut self, status: &Status) {
        self.refused = true;
        self.head.flags |= reply_flags::REFUSED;
        self.status(status);
    }
}
