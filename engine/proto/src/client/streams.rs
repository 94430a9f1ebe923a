//! The client's side of streams, and of one-way calls, which have no state at all.

use std::time::Instant;

use corewire_codec::{
    CancelReason, Credit, Encoding, HelloRecords, MetadataBuilder, Payload, ReplyHead, Rule,
    SendBuffer, Status, StatusCode, StreamData, StreamEnd,
};

use super::{ClientConnection, ClientInput, NoSlot, Phase};
use crate::streams::table::{
    Delivery, MessageWriter, NotSent, StreamAccounts, StreamKind, StreamTable, message,
};

impl<T> ClientConnection<T> {
    fn stream_table(&mut self) -> &mut StreamTable {
        let credit = self.peer.limits.connection_credit.get();
        self.streams.get_or_insert_with(|| Box::new(StreamTable::new(credit)))
    }

    /// As [`begin_call`](Self::begin_call), for a call that streams. The caller then appends the
    /// request with exactly that id and with [`StreamKind::request_flags`], or gives the slot back
    /// with [`unsend`](Self::unsend). Messages may follow the request at once.
    ///
    /// # Errors
    ///
    /// Why there is no slot; `work` is dropped.
    pub fn begin_stream(
        &mut self,
        kind: StreamKind,
        work: T,
        deadline: Option<Instant>,
    ) -> Result<u32, NoSlot> {
        self.begin_stream_with(kind, |_| work, deadline)
    }

    /// As [`begin_stream`](Self::begin_stream), for work that has to know its call's id.
    ///
    /// # Errors
    ///
    /// Why there is no slot.
    pub fn begin_stream_with(
        &mut self,
        kind: StreamKind,
        work: impl FnOnce(u32) -> T,
        deadline: Option<Instant>,
    ) -> Result<u32, NoSlot> {
        let call = self.begin_call_with(work, deadline)?;
        let credit = self.peer.limits.stream_credit.get();
        self.stream_table().open(call, kind.client_sends(), kind.server_sends(), credit);
        Ok(call)
    }

    /// Counts a one-way call, whose request the caller appends to `out`, before or after this, with call id 0 and
    /// [`request_flags::ONE_WAY`](corewire_codec::request_flags). Nothing is ever heard of it: all there is to
    /// know is that it was written. If the socket takes nothing until the deadline, the request is taken out of
    /// `out` again.
    ///
    /// # Errors
    ///
    /// The connection takes no more calls.
    pub fn begin_one_way(
        &mut self,
        deadline: Option<Instant>,
        out: &mut SendBuffer,
    ) -> Result<(), NoSlot> {
        if !matches!(self.phase, Phase::Hello | Phase::Open) {
            return Err(NoSlot::Closed);
        }
        let order = self.sent;
        self.sent = self.sent.wrapping_add(1);
        if let Some(by) = deadline {
            self.note_one_way(order, by, out);
        }
        Ok(())
    }

    /// What is kept for a call in flight.
    pub fn work_mut(&mut self, call: u32) -> Option<&mut T> {
        let place = self.slots.get_mut(super::slot(call))?;
        match &mut place.state {
            super::SlotState::InFlight { work, .. }
                if u32::from(place.generation) == call >> 16 =>
            {
                Some(work)
            }
            _ => None,
        }
    }

    /// Bytes that may be sent on a stream before its credit or the connection's is used up. 0 when
    /// there is none, or no such stream. A message may be larger: what counts is that it is not 0.
    #[must_use]
    pub fn send_credit(&self, call: u32) -> u32 {
        self.streams.as_ref().map_or(0, |streams| streams.send_credit(call))
    }

    /// Bytes of stream messages that were delivered and not consumed, each message with 16 more.
    #[must_use]
    pub fn held_stream_bytes(&self) -> u32 {
        self.streams.as_ref().map_or(0, |streams| streams.held_bytes())
    }

    /// The accounts of the credit that streams share, for checks; `None` before the first stream.
    #[must_use]
    pub fn stream_accounts(&self) -> Option<StreamAccounts> {
        self.streams.as_ref().map(|streams| streams.accounts())
    }

    /// Streams whose slots are taken, also those of calls that were abandoned.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.as_ref().map_or(0, |streams| streams.len())
    }

    /// Begins a message of a call's stream, the last one if `end`; write its bytes and finish it
    /// through the returned writer.
    ///
    /// # Errors
    ///
    /// Why no message may be sent now.
    pub fn begin_message<'a>(
        &'a mut self,
        call: u32,
        encoding: Encoding,
        end: bool,
        out: &'a mut SendBuffer,
    ) -> Result<MessageWriter<'a>, NotSent> {
        if matches!(self.phase, Phase::Closed(_)) {
            return Err(NotSent::Ended);
        }
        let frame_bytes_max = self.peer_frame_bytes_max();
        let streams = self.streams.as_mut().ok_or(NotSent::Ended)?;
        streams.begin(&message(call, encoding, end), out, frame_bytes_max)
    }

    /// Ends this side of a call's stream, with the status that stopped it if one did; the call goes on
    /// until the server ends it. Metadata and details that the server does not accept are left out.
    ///
    /// # Errors
    ///
    /// The call sends no stream, or it has ended.
    pub fn end_stream(
        &mut self,
        call: u32,
        failure: Option<&Status>,
        metadata: Option<&MetadataBuilder>,
        out: &mut SendBuffer,
    ) -> Result<(), NotSent> {
        if matches!(self.phase, Phase::Closed(_)) {
            return Err(NotSent::Ended);
        }
        let limits = self.peer.limits;
        let stream = self.streams.as_mut().and_then(|streams| streams.get_mut(call));
        let stream = stream.filter(|stream| stream.is_sending()).ok_or(NotSent::Ended)?;
        stream.end_sending();
        let (frame, block) = (limits.frame_bytes.get(), limits.metadata_bytes.get());
        out.stream_end(call, failure, metadata, frame, block);
        Ok(())
    }

    /// The reader of a stream is done with a message of this `cost`; grants credit when enough has
    /// accumulated. Call it once for each message that was delivered, even when its call is over.
    pub fn consume(&mut self, call: u32, cost: u32, out: &mut SendBuffer) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        if let Some(streams) = &mut self.streams {
            streams.consume(call, cost, &self.config.limits, out);
        }
    }

    /// Nobody reads a call's stream any more, while the call goes on: messages are dropped as they
    /// come, and the server is not held up by them. Those that were delivered are still to be
    /// consumed. To give up the call, [`abandon`](Self::abandon) it.
    pub fn stop_receiving(&mut self, call: u32) {
        if let Some(streams) = &mut self.streams {
            streams.stop_receiving(call);
        }
    }

    /// The request of this call was not appended.
    pub(super) fn forget_stream(&mut self, call: u32) {
        if let Some(streams) = &mut self.streams {
            streams.remove(call);
        }
    }

    /// Nobody waits for this call any more. The cancel that follows ends this side's half.
    pub(super) fn leave_stream(&mut self, call: u32) {
        if let Some(streams) = &mut self.streams {
            streams.leave(call);
        }
    }

    /// The server's hello is here: its credit may be more than was assumed.
    pub(super) fn raise_credit(&mut self, records: &HelloRecords) {
        let (before, now) = (&self.peer.limits, &records.limits);
        let stream = now.stream_credit.get() - before.stream_credit.get();
        let connection = now.connection_credit.get() - before.connection_credit.get();
        if let Some(streams) = &mut self.streams {
            streams.raise(stream, connection);
        }
    }

    /// The server sent a call's final frame. Its slot may be used again when this side has ended its
    /// half, too; if it has not, it does so here (REQ-63).
    #[cold]
    pub(super) fn end_stream_call(&mut self, call: u32, out: &mut SendBuffer) {
        let stream = self.streams.as_mut().and_then(|streams| streams.remove(call));
        if stream.is_some_and(|stream| stream.is_sending()) {
            out.cancel(call, CancelReason::Dropped);
        }
    }

    /// A reply that says that a stream follows. It is not the call's reply: the call goes on.
    #[cold]
    pub(super) fn handle_opening<'a>(
        &mut self,
        head: ReplyHead,
        payload: Payload<'a>,
        out: &mut SendBuffer,
    ) -> ClientInput<'a, T> {
        let stream = self.streams.as_mut().and_then(|streams| streams.get_mut(head.call));
        let first = stream.is_some_and(|stream| stream.is_receiving() && stream.set_opened());
        if !first || head.code != StatusCode::Ok {
            return self.misbehaved(Rule::UnknownReply, out);
        }
        match self.work_mut(head.call) {
            Some(_) => ClientInput::Opened { call: head.call, forwarded: head.forwarded, payload },
            None => ClientInput::Handled,
        }
    }

    #[cold]
    pub(super) fn handle_stream_data<'a>(
        &mut self,
        data: StreamData,
        payload: Payload<'a>,
        out: &mut SendBuffer,
    ) -> ClientInput<'a, T> {
        let limits = self.config.limits;
        let StreamData { call, encoding, end } = data;
        // A server ends with a status, in a frame of its own: it may not set the flag for any call.
        if end {
            return self.misbehaved(Rule::ReservedBits, out);
        }
        let Some(streams) = &mut self.streams else {
            return self.misbehaved(Rule::UnknownStream, out);
        };
        match streams.receive(call, payload.body().len(), &limits, out) {
            Err(rule) => self.misbehaved(rule, out),
            Ok((Delivery::Discarded, _)) => ClientInput::Handled,
            Ok((Delivery::Deliver, cost)) => {
                ClientInput::StreamData { call, encoding, cost, payload }
            }
        }
    }

    #[cold]
    pub(super) fn handle_stream_end<'a>(
        &mut self,
        end: StreamEnd,
        payload: Payload<'a>,
        out: &mut SendBuffer,
    ) -> ClientInput<'a, T> {
        let Some(streams) = &mut self.streams else {
            return self.misbehaved(Rule::UnknownStream, out);
        };
        if let Err(rule) = streams.end_receiving(end.call) {
            return self.misbehaved(rule, out);
        }
        let work = self.take(end.call);
        self.end_stream_call(end.call, out);
        self.release(end.call);
        match work {
            Some(work) => {
                self.proven = true;
                ClientInput::StreamEnd { work, code: end.code, payload }
            }
            None => ClientInput::Handled,
        }
    }

    #[cold]
    pub(super) fn handle_credit<'a>(
        &mut self,
        credit: &Credit,
        out: &mut SendBuffer,
    ) -> ClientInput<'a, T> {
        match self.stream_table().grant(credit) {
            Err(rule) => self.misbehaved(rule, out),
            Ok(None) => ClientInput::Handled,
            Ok(Some(call)) => ClientInput::Writable { call },
        }
    }
}
