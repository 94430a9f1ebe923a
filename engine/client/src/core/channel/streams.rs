//! The streams of a connection: what they want of it, and the order in which they write.

use corewire_codec::{Encoding, Forwarded, HelloRecords, Payload, Status, StatusCode};
use corewire_proto::{STREAM_QUANTUM, StreamPlace, StreamSchedule};
use std::collections::HashMap;

use super::server_side::ServerSide;
use super::waiter::{StreamEnd, Waiter};
use crate::core::session::{Events, Session};
use crate::streams::{Event, Outgoing, end_status, opening};
use crate::transport::Outcome;

/// Unsent bytes above which streams write nothing more, so that requests are never far behind.
const UNSENT_MAX: usize = 256 * 1024;

#[derive(Debug)]
struct Entry<S> {
    port: S,
    /// Its id on the wire.
    call: u32,
    /// Cost of messages that its reader has not taken.
    held: u32,
    place: StreamPlace,
    /// The call is over: what is left is what its reader takes.
    over: bool,
}

/// The streams by the names of their calls.
#[derive(Debug)]
pub(super) struct Streams<S> {
    entries: HashMap<u64, Entry<S>>,
    /// Those that have something to write.
    schedule: StreamSchedule<u64>,
    /// Those whose readers are to be woken.
    touched: Vec<u64>,
}

impl<S> Default for Streams<S> {
    fn default() -> Self {
        let schedule = StreamSchedule::default();
        Self { entries: HashMap::new(), schedule, touched: Vec::new() }
    }
}

impl<S: StreamEnd> Streams<S> {
    pub(super) fn contains(&self, id: u64) -> bool {
        self.entries.contains_key(&id)
    }

    /// Cost of messages of this stream that its reader has not taken.
    pub(super) fn held(&self, id: u64) -> u32 {
        self.entries.get(&id).map_or(0, |entry| entry.held)
    }

    /// Whether a message of this stream would be written at once.
    pub(super) fn takes_message<T>(&self, id: u64, session: &Session<T>) -> bool {
        self.entries.get(&id).is_some_and(|entry| {
            !entry.port.has_outgoing()
                && session.out.len() <= UNSENT_MAX
                && session.has_credit(entry.call)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A call was sent.
    pub(super) fn open(&mut self, id: u64, call: u32, port: S) {
        self.entries
            .insert(id, Entry { port, call, held: 0, place: StreamPlace::Idle, over: false });
        self.enqueue(id);
    }

    /// Whether this stream's caller has given its call up.
    pub(super) fn is_given_up(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.port.is_given_up())
    }

    /// The caller's ends want something. Returns whether this is the name of one of these streams.
    pub(super) fn settle<T>(&mut self, id: u64, session: &mut Session<T>) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.port.take_notice();
        let consumed = entry.port.take_consumed();
        entry.held = entry.held.saturating_sub(consumed);
        if consumed > 0 {
            session.consume(entry.call, consumed);
        }
        if entry.over && entry.held == 0 {
            self.entries.remove(&id);
        } else {
            self.enqueue(id);
        }
        true
    }

    /// Puts a stream into the queue if it has something to write.
    fn enqueue(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.place == StreamPlace::Idle
            && !entry.over
            && entry.port.has_outgoing()
        {
            entry.place = StreamPlace::Ready;
            self.schedule.push(id);
        }
    }

    /// Nobody waits for the call any more; what its reader has not taken is taken back.
    pub(super) fn forget<T>(&mut self, id: u64, session: &mut Session<T>) {
        let Some(entry) = self.entries.remove(&id) else { return };
        entry.port.close();
        self.schedule.unblock(entry.call);
        if entry.held > 0 {
            session.consume(entry.call, entry.held);
        }
    }

    /// The call is over.
    fn finish(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.over = true;
        self.schedule.unblock(entry.call);
        if entry.held == 0 {
            self.entries.remove(&id);
        }
    }

    /// Wakes each reader that has news, once.
    #[inline]
    pub(super) fn wake_readers(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(entry) = self.entries.get(&id) {
                entry.port.wake_reader();
            }
        }
    }

    /// Whether some could write more, with so many bytes unsent.
    pub(super) fn has_ready(&self, unsent: usize) -> bool {
        self.schedule.has_ready() && unsent <= UNSENT_MAX
    }

    /// Writes what waits, in turns and by credit.
    #[inline]
    pub(super) fn serve<T>(&mut self, session: &mut Session<T>) {
        let start = session.out.len();
        while let Some(id) = self.schedule.next(session.out.len(), UNSENT_MAX, start) {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.place = StreamPlace::Idle;
            if entry.over {
                continue;
            }
            let call = entry.call;
            match write(&entry.port, call, session) {
                Wrote::All => {}
                Wrote::More => {
                    entry.place = StreamPlace::Ready;
                    self.schedule.push(id);
                }
                Wrote::Blocked => {
                    entry.place = StreamPlace::Blocked;
                    self.schedule.block(call, id);
                }
            }
        }
    }

    /// There is credit again: for the stream of one call, or for any.
    pub(super) fn handle_writable(&mut self, call: Option<u32>) {
        let entries = &mut self.entries;
        self.schedule.handle_writable(call, |id| {
            if let Some(entry) = entries.get_mut(id) {
                entry.place = StreamPlace::Ready;
            }
        });
    }
}

/// How a stream's turn to write ended.
enum Wrote {
    All,
    More,
    Blocked,
}

/// Writes up to a quantum of one stream's messages, and its end behind the last.
fn write<T>(port: &impl StreamEnd, call: u32, session: &mut Session<T>) -> Wrote {
    let mut left = STREAM_QUANTUM;
    while port.has_outgoing() {
        if left == 0 {
            return Wrote::More;
        }
        // The end needs no credit, but it may only be found by taking what is in front.
        if !session.has_credit(call) && !port.is_ending() {
            return Wrote::Blocked;
        }
        match port.pop() {
            Some(Outgoing::Message(encoding, body)) => {
                left = left.saturating_sub(body.len() + 16);
                if let Err(error) = session.message(call, encoding, body) {
                    let status = Status::resource_exhausted(error.to_string());
                    session.end_stream(call, Some(&status));
                    port.close();
                }
            }
            Some(Outgoing::End(failure)) => {
                session.end_stream(call, failure.as_ref());
                port.close();
            }
            None => break,
        }
    }
    Wrote::All
}

/// What is kept for a call in flight.
#[derive(Debug)]
pub struct InFlight<W> {
    pub(super) id: Option<u64>,
    pub(super) waiter: W,
}

/// What a connection brings, on its way to those who wait for it.
pub(super) struct Deliver<'a, S> {
    pub(super) calls: &'a mut HashMap<u64, u32>,
    pub(super) server_side: &'a ServerSide,
    pub(super) streams: &'a mut Streams<S>,
}

impl<S: StreamEnd> Deliver<'_, S> {
    /// A call is over; one without a name is in no table.
    #[inline]
    fn forget<W>(&mut self, call: &InFlight<W>) {
        if let Some(id) = call.id {
            self.calls.remove(&id);
            self.streams.finish(id);
        }
    }
}

impl<W: Waiter> Events<InFlight<W>> for Deliver<'_, W::Stream> {
    fn ready(&mut self, server: &HelloRecords) {
        self.server_side.note(server);
        // The hello grants more than was assumed before it, and no credit frame announces that.
        self.streams.handle_writable(None);
    }

    #[inline]
    fn done(&mut self, call: InFlight<W>, outcome: Outcome) {
        self.forget(&call);
        call.waiter.complete(outcome);
    }

    fn opened(
        &mut self,
        call: &mut InFlight<W>,
        forwarded: Option<Forwarded>,
        payload: Payload<'_>,
    ) {
        if let (Some(id), Some(port)) = (call.id, call.waiter.stream()) {
            port.push(Event::Opened(opening(forwarded, payload)));
            self.streams.touched.push(id);
        }
    }

    fn message(
        &mut self,
        call: &mut InFlight<W>,
        encoding: Encoding,
        cost: u32,
        payload: Payload<'_>,
    ) {
        let Some(id) = call.id else { return };
        let Some(entry) = self.streams.entries.get_mut(&id) else { return };
        entry.held = entry.held.saturating_add(cost);
        let message = entry.port.received(encoding, payload);
        entry.port.push(Event::Message(message, cost));
        if self.streams.touched.last() != Some(&id) {
            self.streams.touched.push(id);
        }
    }

    fn end(&mut self, call: InFlight<W>, code: StatusCode, payload: &Payload<'_>) {
        self.forget(&call);
        call.waiter.end_stream(end_status(code, payload));
    }

    fn writable(&mut self, call: Option<u32>) {
        self.streams.handle_writable(call);
    }
}
