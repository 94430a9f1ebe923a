//! How a call begins: whether it does, and what happens to it then.

use std::rc::Rc;
use std::time::Instant;

use corewire_codec::{Payload, RequestHead, Status, request_flags};
use corewire_proto::StreamKind;

use super::{STREAM, ServerConn};
use crate::calls::dispatch::{Incoming, ReplySlot};
use crate::calls::parked::Polled;
use crate::conn::turn::TurnContext;
use crate::net::io::Io;
use crate::shard::account::ReturnAccount;
use crate::stream::{Side, StreamCell, StreamEnds};

/// The streams of a call that begins.
struct OpenedStream {
    ends: StreamEnds,
    cell: Rc<StreamCell>,
}

impl<S: 'static> ServerConn<S> {
    /// Gives a call to its handler, unless it must be turned away. Returns whether nothing has changed: the
    /// call was answered at once, and nothing is held for it.
    #[allow(clippy::inline_always, reason = "it has one caller, and what it is given is large")]
    #[inline(always)]
    pub(super) fn begin_call<I: Io<Socket = S>>(
        &mut self,
        shared: &mut TurnContext<I>,
        request: &RequestHead,
        payload: Payload<'_>,
        deadline: Option<Instant>,
        came: Instant,
    ) -> bool {
        if let Some(status) = self.turn_away(shared, request, came, deadline) {
            self.refuse(shared, request, &status);
            return false;
        }
        let payload_bytes = payload.len();
        let mut stream = match request.flags & (STREAM | request_flags::KEY) {
            0 => None,
            _ => self.begin_special(shared, request),
        };
        let mut incoming = Incoming {
            request,
            payload: Some(payload),
            deadline,
            peer: self.peer,
            shard: shared.config.info.id,
            connection_id: self.proto.connection_id(),
            streams: stream.as_mut().map(|stream| &mut stream.ends),
            metadata_bytes_max: self.proto.peer_metadata_bytes_max(),
            hears_forwards: self.proto.peer_hears_forwards(),
            extensions: &mut shared.extensions,
        };
        let frame_bytes_max = self.proto.peer_frame_bytes_max();
        let mut reply = ReplySlot::new(&mut self.send, request.call, frame_bytes_max);
        let polled = shared.calls.begin(
            &*shared.dispatch,
            &mut incoming,
            shared.token,
            &mut reply,
            &shared.counters,
        );
        if request.flags & request_flags::ONE_WAY != 0 && reply.is_refused() {
            shared.counters.one_way_dropped.add(1);
        }
        let note = reply.into_note();
        // A layer may have changed it.
        let deadline = incoming.deadline;
        shared.extensions.clear();
        if let Some(note) = note {
            self.log_call(shared, request.method, request.call, &note);
        }
        let stream = stream.map(|stream| stream.cell);
        match polled {
            Polled::Done if stream.is_none() => true,
            Polled::Parked(mut parked) => {
                let held = shared.config.budgets.call_bytes.saturating_add(payload_bytes);
                parked.stream = stream;
                if let Some(wanted) = shared.calls.local().take_wanted_account() {
                    self.tell_account(shared, &wanted);
                }
                parked.held = held;
                self.held = self.held.saturating_add(held);
                shared.memory.begin_call(held);
                self.proto.park(request.call, deadline, parked);
                false
            }
            Polled::Done => {
                if let Some(stream) = stream {
                    stream.close();
                    self.proto.finish_stream(request.call);
                }
                false
            }
        }
    }

    /// A call has gone to another shard: its reply will be charged to this connection.
    #[cold]
    fn tell_account<I: Io<Socket = S>>(&mut self, shared: &TurnContext<I>, wanted: &ReturnAccount) {
        let account = self.streams.get_or_insert_default().account(shared.memory.totals());
        let _ = wanted.set(account);
    }

    /// What a call with streams or a key needs more than others: returns the ends of its streams.
    #[cold]
    fn begin_special<I: Io<Socket = S>>(
        &mut self,
        shared: &TurnContext<I>,
        request: &RequestHead,
    ) -> Option<Box<OpenedStream>> {
        self.keyed |= request.flags & request_flags::KEY != 0;
        let kind = StreamKind::from_request_flags(request.flags)?;
        let account = self.streams.get_or_insert_default().account(shared.memory.totals());
        let halves = (kind.client_sends(), kind.server_sends());
        let arrivals = Rc::clone(&shared.streams);
        let side = Side::Server { token: shared.token, call: request.call };
        let cell = StreamCell::new(arrivals, account, side, halves);
        Some(Box::new(OpenedStream { ends: StreamEnds::new(kind, &cell), cell }))
    }

    /// Why a call is refused before it is given to its handler; `None` if it is not.
    #[inline]
    fn turn_away<I: Io<Socket = S>>(
        &self,
        shared: &TurnContext<I>,
        request: &RequestHead,
        came: Instant,
        deadline: Option<Instant>,
    ) -> Option<Status> {
        if self.may_refuse() {
            shared.counters.calls_refused.add(1);
            return Some(self.no_room(shared));
        }
        shared.judge_wait(request.priority, came, deadline)
    }

    /// Replies to a call that is not run.
    #[cold]
    fn refuse<I: Io<Socket = S>>(
        &mut self,
        shared: &TurnContext<I>,
        request: &RequestHead,
        status: &Status,
    ) {
        if request.flags & request_flags::ONE_WAY != 0 {
            shared.counters.one_way_dropped.add(1);
            return;
        }
        self.proto.refuse(request.call, status, &mut self.send);
        if request.flags & STREAM != 0 {
            self.proto.finish_stream(request.call);
        }
    }
}
