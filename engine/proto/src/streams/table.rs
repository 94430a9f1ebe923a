//! The streams of one connection, for both sides.
//!
//! A stream belongs to a call and has its id. Each side of it has a half that sends and a half that
//! receives; a call that streams in one direction only begins with the other halves ended. The table
//! is indexed by slot, as the calls are, and made when a connection's first stream opens.

use corewire_codec::{
    Credit, Encoding, FrameTooLarge, FrameWriter, Limits, Rule, SendBuffer, StreamData,
    request_flags,
};

use crate::in_flight::slot;
use crate::streams::credit::{RecvWindow, SendCredit, message_cost};

/// Which sides of a call stream (REQ-31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// The client sends a stream, the server one reply.
    Client,
    /// The client sends one request, the server a stream.
    Server,
    /// Both send a stream.
    Bidirectional,
}

impl StreamKind {
    /// The bits of [`request_flags`] that ask for it.
    #[must_use]
    pub const fn request_flags(self) -> u8 {
        match self {
            Self::Client => request_flags::STREAM_IN,
            Self::Server => request_flags::STREAM_OUT,
            Self::Bidirectional => request_flags::STREAM_IN | request_flags::STREAM_OUT,
        }
    }

    /// What a request's flags ask for; `None` is a unary or a one-way call.
    #[must_use]
    pub const fn from_request_flags(flags: u8) -> Option<Self> {
        if flags & request_flags::ONE_WAY != 0 {
            return None;
        }
        match (flags & request_flags::STREAM_IN != 0, flags & request_flags::STREAM_OUT != 0) {
            (true, false) => Some(Self::Client),
            (false, true) => Some(Self::Server),
            (true, true) => Some(Self::Bidirectional),
            (false, false) => None,
        }
    }

    /// Whether the client sends a stream.
    #[must_use]
    pub const fn client_sends(self) -> bool {
        matches!(self, Self::Client | Self::Bidirectional)
    }

    /// Whether the server sends a stream.
    #[must_use]
    pub const fn server_sends(self) -> bool {
        matches!(self, Self::Server | Self::Bidirectional)
    }
}

/// Why a message cannot be sent. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The credit of the stream or of the connection is used up: `Writable` tells when there is more.
    NoCredit,
    /// The stream never opened in this direction, its sending half has ended, or the call or the
    /// connection is over.
    Ended,
}

/// What happens to a message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Its consumer gets it.
    Deliver,
    /// Nobody wants it; its bytes were granted again.
    Discarded,
}

/// The half that receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Messages go to the consumer.
    Delivering,
    /// Nobody reads them: messages are dropped and their bytes granted again.
    Discarding,
    /// The peer sent its last, or never sends.
    Ended,
}

/// What one side of a connection knows of the credit that all its streams share, for checks: what one
/// side may send, and what the other holds and has not granted again, make up the other's connection
/// credit when nothing is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAccounts {
    /// Bytes that this side may send; none when the credit is overdrawn.
    pub available: u32,
    /// Bytes that were delivered here and not consumed.
    pub held: u32,
    /// Bytes that were consumed here and not granted again yet.
    pub ungranted: u32,
}

/// Both halves of one stream, as one side sees them.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    call: u32,
    credit: SendCredit,
    window: RecvWindow,
    /// Whether the half that sends is open.
    sending: bool,
    receiving: Receiving,
    /// Whether the server's opening was sent or read.
    opened: bool,
    /// This side is done with the call; the slot waits for the peer's end. No credit is granted.
    over: bool,
}

impl Stream {
    pub(crate) fn is_sending(&self) -> bool {
        self.sending
    }

    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving != Receiving::Ended
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn end_sending(&mut self) {
        self.sending = false;
    }

    /// Notes the server's opening; returns whether it is the first.
    pub(crate) fn set_opened(&mut self) -> bool {
        !core::mem::replace(&mut self.opened, true)
    }
}

/// The streams of one connection and the credit that they share.
#[derive(Clone, Debug)]
pub(crate) struct StreamTable {
    slots: Vec<Option<Stream>>,
    count: usize,
    credit: SendCredit,
    window: RecvWindow,
    /// Whether messages that were taken back gave the connection credit when it had none.
    reopened: bool,
}

impl StreamTable {
    /// `connection_credit` is what this side may send at first.
    pub(crate) fn new(connection_credit: u32) -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            credit: SendCredit::new(connection_credit),
            window: RecvWindow::default(),
            reopened: false,
        }
    }

    /// The shared credit of a table without streams.
    pub(crate) fn without_slots(&self) -> Self {
        let Self { credit, window, reopened, .. } = self;
        Self { slots: Vec::new(), count: 0, credit: *credit, window: *window, reopened: *reopened }
    }

    pub(crate) fn is_slot_taken(&self, call: u32) -> bool {
        matches!(self.slots.get(slot(call)), Some(Some(_)))
    }

    pub(crate) fn get(&self, call: u32) -> Option<&Stream> {
        self.slots.get(slot(call))?.as_ref().filter(|stream| stream.call == call)
    }

    pub(crate) fn get_mut(&mut self, call: u32) -> Option<&mut Stream> {
        self.slots.get_mut(slot(call))?.as_mut().filter(|stream| stream.call == call)
    }

    /// Opens a stream in its slot, which must be free.
    pub(crate) fn open(&mut self, call: u32, sends: bool, receives: bool, credit: u32) {
        let index = slot(call);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        debug_assert!(self.slots[index].is_none(), "the slot was checked to be free");
        let receiving = if receives { Receiving::Delivering } else { Receiving::Ended };
        self.slots[index] = Some(Stream {
            call,
            credit: SendCredit::new(credit),
            window: RecvWindow::default(),
            sending: sends,
            receiving,
            opened: false,
            over: false,
        });
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, call: u32) -> Option<Stream> {
        self.get_mut(call)?;
        self.count -= 1;
        self.slots.get_mut(slot(call))?.take()
    }

    /// This side has nothing more to do with a call: it sends no more, and drops what still comes.
    /// Returns whether the peer's half is open, so that the slot must wait.
    pub(crate) fn leave(&mut self, call: u32) -> bool {
        let Some(stream) = self.get_mut(call) else { return false };
        stream.sending = false;
        stream.over = true;
        if stream.receiving == Receiving::Ended {
            return false;
        }
        stream.receiving = Receiving::Discarding;
        true
    }

    /// A message with `payload_bytes` of payload arrives.
    pub(crate) fn receive(
        &mut self,
        call: u32,
        payload_bytes: usize,
        own: &Limits,
        out: &mut SendBuffer,
    ) -> Result<(Delivery, u32), Rule> {
        let cost = message_cost(u32::try_from(payload_bytes).unwrap_or(u32::MAX));
        let stream = self.get_mut(call).filter(|stream| stream.is_receiving());
        let Some(stream) = stream else { return Err(Rule::UnknownStream) };
        stream.window.receive(cost, own.stream_window())?;
        let discard = stream.receiving == Receiving::Discarding;
        self.window.receive(cost, own.connection_credit.get())?;
        if discard {
            self.consume(call, cost, own, out);
            return Ok((Delivery::Discarded, cost));
        }
        if let Some(bytes) = self.window.grant_shared(own.connection_credit.get()) {
            out.credit(&Credit { call: None, bytes: bytes.get() });
        }
        Ok((Delivery::Deliver, cost))
    }

    /// A message was consumed. Its stream may be over; the connection gets its bytes back all the
    /// same.
    pub(crate) fn consume(&mut self, call: u32, cost: u32, own: &Limits, out: &mut SendBuffer) {
        if self.get(call).is_none() && crate::canary::is_planted(crate::canary::Bug::LostCredit) {
            return;
        }
        if let Some(stream) = self.get_mut(call)
            && stream.is_receiving()
            && !stream.over
            && let Some(bytes) = stream.window.consume(cost, own.stream_window())
        {
            out.credit(&Credit { call: Some(call), bytes: bytes.get() });
        }
        if let Some(bytes) = self.window.consume_shared(cost, own.connection_credit.get()) {
            out.credit(&Credit { call: None, bytes: bytes.get() });
        }
    }

    /// From now on messages of this stream are dropped as they come.
    pub(crate) fn stop_receiving(&mut self, call: u32) {
        if let Some(stream) = self.get_mut(call)
            && stream.receiving == Receiving::Delivering
        {
            stream.receiving = Receiving::Discarding;
        }
    }

    /// The calls whose peer is still to send messages that somebody waits for.
    pub(crate) fn delivering(&self) -> Vec<u32> {
        let streams = self.slots.iter().flatten();
        let open = streams.filter(|it| !it.over && it.receiving == Receiving::Delivering);
        open.map(|stream| stream.call).collect()
    }

    /// The peer sends no more; returns whether its messages were still wanted.
    ///
    /// # Errors
    ///
    /// There is no such stream, or it has ended before.
    pub(crate) fn end_receiving(&mut self, call: u32) -> Result<Delivery, Rule> {
        let stream = self.get_mut(call).ok_or(Rule::UnknownStream)?;
        match core::mem::replace(&mut stream.receiving, Receiving::Ended) {
            Receiving::Ended => Err(Rule::UnknownStream),
            Receiving::Discarding => Ok(Delivery::Discarded),
            Receiving::Delivering => Ok(Delivery::Deliver),
        }
    }

    /// The peer grants credit. Returns what became writable: a stream (`Some(Some(call))`), or the
    /// connection (`Some(None)`). A grant for a call that is over crossed its end.
    ///
    /// # Errors
    ///
    /// The grant lifts a credit above its maximum.
    pub(crate) fn grant(&mut self, credit: &Credit) -> Result<Option<Option<u32>>, Rule> {
        let Some(call) = credit.call else {
            let open = self.credit.is_open();
            self.credit.grant(credit.bytes)?;
            return Ok((!open && self.credit.is_open()).then_some(None));
        };
        let connection_open = self.credit.is_open();
        let Some(stream) = self.get_mut(call) else { return Ok(None) };
        let open = stream.credit.is_open();
        stream.credit.grant(credit.bytes)?;
        let opens = !open && stream.credit.is_open() && stream.sending && connection_open;
        Ok(opens.then_some(Some(call)))
    }

    /// Messages that cost `cost` in total were taken back before anything of them was written. Their streams
    /// are over.
    pub(crate) fn refund(&mut self, cost: u32) {
        let open = self.credit.is_open();
        // It was charged, so it fits, unless the peer granted what it never received.
        let _ = self.credit.grant(cost);
        self.reopened |= !open && self.credit.is_open();
    }

    /// Whether there is connection credit again because of a refund; true once.
    pub(crate) fn take_reopened(&mut self) -> bool {
        core::mem::take(&mut self.reopened)
    }

    /// The peer's hello came, and with it more credit than was assumed.
    pub(crate) fn raise(&mut self, stream_bytes: u32, connection_bytes: u32) {
        // Both sums are initial credits of the peer, which are in range.
        let _ = self.credit.grant(connection_bytes);
        for stream in self.slots.iter_mut().flatten() {
            let _ = stream.credit.grant(stream_bytes);
        }
    }

    /// Bytes that may be sent before credit runs out; a message may be larger.
    pub(crate) fn send_credit(&self, call: u32) -> u32 {
        let stream = self.get(call).filter(|stream| stream.sending);
        stream.map_or(0, |stream| stream.credit.available().min(self.credit.available()))
    }

    /// Begins a message.
    pub(crate) fn begin<'a>(
        &'a mut self,
        data: &StreamData,
        out: &'a mut SendBuffer,
        frame_bytes_max: u32,
    ) -> Result<MessageWriter<'a>, NotSent> {
        let place = self.slots.get_mut(slot(data.call)).and_then(Option::as_mut);
        let stream = place.filter(|stream| stream.call == data.call && stream.sending);
        let stream = stream.ok_or(NotSent::Ended)?;
        if !stream.credit.is_open() || !self.credit.is_open() {
            return Err(NotSent::NoCredit);
        }
        Ok(MessageWriter {
            frame: out.stream_data(data),
            end: data.end,
            stream,
            connection: &mut self.credit,
            frame_bytes_max,
        })
    }

    /// Bytes of messages that were received and not consumed, with the cost of their frames.
    pub(crate) fn held_bytes(&self) -> u32 {
        self.window.held()
    }

    /// The shared accounts, for checks.
    pub(crate) fn accounts(&self) -> StreamAccounts {
        StreamAccounts {
            available: self.credit.available(),
            held: self.window.held(),
            ungranted: self.window.ungranted(),
        }
    }

    /// Streams whose slots are taken, also those of calls that are over on this side.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Gives back the memory if no stream is left; the shared credit stays.
    pub(crate) fn shrink(&mut self) {
        if self.count == 0 {
            self.slots = Vec::new();
        }
    }
}

/// Whether a message or an end may still come for this stream.
///
/// # Errors
///
/// The peer has ended its half, or there is no such stream.
pub(crate) fn check_receiving(streams: Option<&StreamTable>, call: u32) -> Result<(), Rule> {
    let stream = streams.and_then(|streams| streams.get(call));
    if stream.is_some_and(Stream::is_receiving) { Ok(()) } else { Err(Rule::UnknownStream) }
}

/// One message of a stream under construction, straight in the send buffer. Dropped without
/// [`finish`](Self::finish), it leaves no trace and costs no credit.
#[derive(Debug)]
pub struct MessageWriter<'a> {
    frame: FrameWriter<'a>,
    end: bool,
    stream: &'a mut Stream,
    connection: &'a mut SendCredit,
    frame_bytes_max: u32,
}

impl<'a> MessageWriter<'a> {
    /// Appends bytes by copying them.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.frame.put_slice(bytes);
    }

    /// Appends bytes; large ones without copying them.
    pub fn put_bytes(&mut self, bytes: bytes::Bytes) {
        self.frame.put_bytes(bytes);
    }

    /// The run of bytes that the message is appended to, for encoders that write into a `Vec`. Only
    /// append to it.
    pub fn inline(&mut self) -> &mut Vec<u8> {
        self.frame.inline()
    }

    /// The frame, for codecs that write into one. Only append to it.
    pub fn frame(&mut self) -> &mut FrameWriter<'a> {
        &mut self.frame
    }

    /// Ends the message and takes what it costs from the credits.
    ///
    /// # Errors
    ///
    /// The message is larger than the peer accepts in a frame; it was taken out again, and the stream
    /// goes on.
    pub fn finish(self) -> Result<(), FrameTooLarge> {
        let Self { frame, end, stream, connection, frame_bytes_max } = self;
        let payload_bytes = frame.payload_bytes();
        frame.finish(frame_bytes_max)?;
        // It fits into a frame, so it fits into a u32.
        let cost = message_cost(u32::try_from(payload_bytes).unwrap_or(u32::MAX));
        stream.credit.charge(cost);
        connection.charge(cost);
        stream.sending &= !end;
        Ok(())
    }
}

/// The head of a message.
pub(crate) const fn message(call: u32, encoding: Encoding, end: bool) -> StreamData {
    StreamData { call, encoding, end }
}
