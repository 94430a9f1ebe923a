//! The server's side of streams.

use std::time::Instant;

use corewire_codec::{
    Credit, Encoding, Forwarded, FrameKind, MetadataBuilder, Payload, RecvBuffer, ReplyHead,
    RequestHead, Rule, SendBuffer, Status, StreamData, StreamEnd, reply_flags, stream_flags,
};

use super::{ExtraCalls, OneWayTable, Phase, ServerConnection, ServerInput};
use crate::close::CloseReason;
use crate::streams::table::{
    Delivery, MessageWriter, NotSent, StreamAccounts, StreamKind, StreamTable, message,
};

/// Kept out of line for calls on connections that never streamed.
#[cold]
fn is_slot_taken(streams: &StreamTable, call: u32) -> bool {
    streams.is_slot_taken(call)
}

impl<T> ServerConnection<T> {
    pub(super) fn extra_calls(&mut self) -> &mut ExtraCalls<T> {
        let credit = self.peer_connection_credit;
        self.extra_calls.get_or_insert_with(|| {
            Box::new(ExtraCalls { streams: StreamTable::new(credit), one_way: OneWayTable::new() })
        })
    }

    /// Whether a stream has this call's slot: that of a parked call, or one whose client has not ended
    /// its half yet.
    #[inline]
    pub(super) fn is_stream_slot_taken(&self, call: u32) -> bool {
        self.extra_calls.as_ref().is_some_and(|extra| is_slot_taken(&extra.streams, call))
    }

    /// A request that asks for a stream. Even a refused one has a stream until its client has ended its
    /// half: what the client sent before it read the refusal is no fault (REQ-63).
    #[cold]
    pub(super) fn handle_stream_request<'a>(
        &mut self,
        request: &'a RequestHead,
        payload: Payload<'a>,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ServerInput<'a, T> {
        let call = request.call;
        let found = self.handle_request(request, payload, out, now);
        let refused = match found {
            ServerInput::Call { .. } if self.config.streams => false,
            ServerInput::Call { .. } => {
                let status = Status::unimplemented("this server offers no streams");
                self.refuse(call, &status, out);
                true
            }
            ServerInput::Handled => true,
            // It broke a rule.
            other => return other,
        };
        let Some(kind) = StreamKind::from_request_flags(request.flags) else { return found };
        if refused {
            self.open_refused_stream(call, kind);
            return ServerInput::Handled;
        }
        self.open_stream(call, kind);
        found
    }

    fn open_stream(&mut self, call: u32, kind: StreamKind) {
        let credit = self.peer_stream_credit;
        self.extra_calls().streams.open(call, kind.server_sends(), kind.client_sends(), credit);
    }

    /// The stream of a call that is refused: only what its client still sends passes through it.
    pub(super) fn open_refused_stream(&mut self, call: u32, kind: StreamKind) {
        self.open_stream(call, kind);
        self.finish_stream(call);
    }

    #[cold]
    pub(super) fn handle_stream_data<'a>(
        &mut self,
        data: StreamData,
        payload: Payload<'a>,
        out: &mut SendBuffer,
    ) -> ServerInput<'a, T> {
        let limits = self.config.limits;
        let Some(extra) = &mut self.extra_calls else {
            return self.misbehaved(Rule::UnknownStream, out);
        };
        let streams = &mut extra.streams;
        let call = data.call;
        match streams.receive(call, payload.body().len(), &limits, out) {
            Err(rule) => self.misbehaved(rule, out),
            Ok((delivery, cost)) => {
                if data.end {
                    // The stream was there for the message, so it is there for its end.
                    let _ = self.end_client_half(call);
                }
                match delivery {
                    Delivery::Discarded => ServerInput::Handled,
                    Delivery::Deliver => {
                        let StreamData { encoding, end, .. } = data;
                        ServerInput::StreamData { call, encoding, cost, end, payload }
                    }
                }
            }
        }
    }

    /// Treats the partly received message at the front of `recv` as one that nobody reads: its cost is
    /// granted again. Stop its call first. Returns how many bytes belong to it, from the first unread one
    /// on; drop them as they come. `None` if it is not a message, or breaks a rule, which ends the
    /// connection.
    #[cold]
    pub fn drop_message(
        &mut self,
        recv: &RecvBuffer,
        out: &mut SendBuffer,
        now: Instant,
    ) -> Option<usize> {
        let header = recv.peek_header()?;
        let is_message = header.kind == FrameKind::StreamData && self.is_open();
        if !is_message || self.in_flight.get_mut(header.call).is_some() {
            return None;
        }
        let limits = self.config.limits;
        let streams = &mut self.extra_calls.as_mut()?.streams;
        let bytes = usize::try_from(header.payload_bytes).ok()?;
        match streams.receive(header.call, bytes, &limits, out) {
            Ok((Delivery::Deliver, cost)) => streams.consume(header.call, cost, &limits, out),
            Ok((Delivery::Discarded, _)) => {}
            Err(rule) => {
                drop(self.misbehaved(rule, out));
                return None;
            }
        }
        if header.flags & stream_flags::END != 0 {
            // The stream was there for the message, so it is there for its end.
            let _ = self.end_client_half(header.call);
        }
        self.keep_alive.handle_frame(now);
        self.keep_alive.handle_activity(now);
        Some(recv.len().saturating_add(recv.lacking()))
    }

    #[cold]
    pub(super) fn handle_stream_end<'a>(
        &mut self,
        end: StreamEnd,
        payload: Payload<'a>,
        out: &mut SendBuffer,
    ) -> ServerInput<'a, T> {
        match self.end_client_half(end.call) {
            Err(rule) => self.misbehaved(rule, out),
            Ok(Delivery::Discarded) => ServerInput::Handled,
            Ok(Delivery::Deliver) => {
                ServerInput::StreamEnd { call: end.call, code: end.code, payload }
            }
        }
    }

    /// The client sends no more; if the call was over otherwise, its slot is freed.
    fn end_client_half(&mut self, call: u32) -> Result<Delivery, Rule> {
        let streams = &mut self.extra_calls.as_mut().ok_or(Rule::UnknownStream)?.streams;
        let delivery = streams.end_receiving(call)?;
        if streams.get(call).is_some_and(crate::streams::table::Stream::is_over) {
            streams.remove(call);
        }
        Ok(delivery)
    }

    #[cold]
    pub(super) fn handle_credit<'a>(
        &mut self,
        credit: &Credit,
        out: &mut SendBuffer,
    ) -> ServerInput<'a, T> {
        match self.extra_calls().streams.grant(credit) {
            Err(rule) => self.misbehaved(rule, out),
            Ok(None) => ServerInput::Handled,
            Ok(Some(call)) => ServerInput::Writable { call },
        }
    }

    /// A client cancels a call, which ends its half of a stream.
    pub(super) fn cancel_stream(&mut self, call: u32) {
        if let Some(extra) = &mut self.extra_calls {
            extra.streams.remove(call);
        }
    }

    /// Ends a stream's call on this side, whose final frame is written: nothing more is sent, and what
    /// still comes from the client is dropped. [`unpark`](Self::unpark) does this for parked calls.
    pub fn finish_stream(&mut self, call: u32) {
        if let Some(extra) = &mut self.extra_calls
            && !extra.streams.leave(call)
        {
            extra.streams.remove(call);
        }
    }

    /// Bytes that may be sent on a stream before its credit or the connection's is used up. 0 when
    /// there is none, or no such stream. A message may be larger: what counts is that it is not 0.
    #[must_use]
    pub fn send_credit(&self, call: u32) -> u32 {
        self.extra_calls.as_ref().map_or(0, |extra| extra.streams.send_credit(call))
    }

    /// Bytes of stream messages that were delivered and not consumed, each message with 16 more.
    #[must_use]
    pub fn held_stream_bytes(&self) -> u32 {
        self.extra_calls.as_ref().map_or(0, |extra| extra.streams.held_bytes())
    }

    /// The accounts of the credit that streams share, for checks; `None` before the first stream.
    #[must_use]
    pub fn stream_accounts(&self) -> Option<StreamAccounts> {
        self.extra_calls.as_ref().map(|extra| extra.streams.accounts())
    }

    /// Streams whose slots are taken, also those that are over except for their client's half.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.extra_calls.as_ref().map_or(0, |extra| extra.streams.len())
    }

    /// Says that the handler took the call and its stream of results follows. It is optional, and
    /// comes before the first message; the call goes on. Metadata that the client does not accept is
    /// left out.
    ///
    /// # Errors
    ///
    /// The stream is over, or was opened already.
    pub fn accept_stream(
        &mut self,
        call: u32,
        metadata: Option<&MetadataBuilder>,
        forwarded: Option<Forwarded>,
        out: &mut SendBuffer,
    ) -> Result<(), NotSent> {
        let max = usize::from(self.peer_metadata_bytes_max);
        let stream = self.sending(call).ok_or(NotSent::Ended)?;
        if !stream.set_opened() {
            return Err(NotSent::Ended);
        }
        let metadata = metadata.filter(|metadata| metadata.as_bytes().len() <= max);
        let head = ReplyHead { flags: reply_flags::STREAM, forwarded, ..ReplyHead::ok(call) };
        // With nothing but metadata, it fits into even the least frame.
        out.reply(&head, metadata).finish(u32::MAX).map_err(|_| NotSent::Ended)
    }

    /// Begins a message of a call's stream; write its bytes and finish it through the returned writer.
    ///
    /// # Errors
    ///
    /// Why no message may be sent now.
    pub fn begin_message<'a>(
        &'a mut self,
        call: u32,
        encoding: Encoding,
        out: &'a mut SendBuffer,
    ) -> Result<MessageWriter<'a>, NotSent> {
        if matches!(self.phase, Phase::Closed(_)) {
            return Err(NotSent::Ended);
        }
        let frame_bytes_max = self.peer_frame_bytes_max;
        let extra = self.extra_calls.as_mut().ok_or(NotSent::Ended)?;
        extra.streams.begin(&message(call, encoding, false), out, frame_bytes_max)
    }

    /// Ends the stream of results: the call's final frame. Then [`unpark`](Self::unpark) the call.
    /// Metadata and details that the client does not accept are left out.
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
        let (frame, block) = (self.peer_frame_bytes_max, self.peer_metadata_bytes_max);
        self.sending(call).ok_or(NotSent::Ended)?.end_sending();
        out.stream_end(call, failure, metadata, frame, u32::from(block));
        Ok(())
    }

    /// The stream of a call whose sending half is open, while frames may be sent.
    fn sending(&mut self, call: u32) -> Option<&mut crate::streams::table::Stream> {
        if matches!(self.phase, Phase::Closed(_)) {
            return None;
        }
        self.extra_calls.as_mut()?.streams.get_mut(call).filter(|stream| stream.is_sending())
    }

    /// The reader of a stream is done with a message of this `cost`; grants credit when enough has
    /// accumulated. Call it once for each message that was delivered, even when its call is over.
    pub fn consume(&mut self, call: u32, cost: u32, out: &mut SendBuffer) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        if let Some(extra) = &mut self.extra_calls {
            extra.streams.consume(call, cost, &self.config.limits, out);
        }
    }

    /// Nobody reads a call's stream any more, while the call goes on: messages are dropped as they
    /// come, and the client is not held up by them. Those that were delivered are still to be
    /// consumed.
    pub fn stop_receiving(&mut self, call: u32) {
        if let Some(extra) = &mut self.extra_calls {
            extra.streams.stop_receiving(call);
        }
    }

    /// Ends all parked calls with one status, for a drain or a grace whose time is over (REQ-76). Drop
    /// the works, write what is left, and close.
    pub fn finish_all(&mut self, status: &Status, out: &mut SendBuffer) -> Vec<T> {
        let mut works = Vec::with_capacity(self.in_flight());
        if matches!(self.phase, Phase::Closed(reason) if reason != CloseReason::DrainDeadline) {
            return works;
        }
        for (call, work) in self.in_flight.drain() {
            out.status(&ReplyHead::ok(call), status, self.peer_frame_bytes_max);
            self.finish_stream(call);
            works.push(work);
        }
        if let Some(extra) = &mut self.extra_calls {
            let one_way = core::mem::replace(&mut extra.one_way, OneWayTable::new());
            works.extend(one_way.into_work().map(|(_, work)| work));
        }
        self.keep_alive.handle_call_end();
        works
    }
}
