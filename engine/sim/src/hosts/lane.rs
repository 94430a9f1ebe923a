//! The two ends of one direction of a stream, as clients and handlers use them, and what must hold
//! between them: messages in order and unchanged, one end, and no more in transit than credit allows.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use corewire_client::{Outcome, ReadMessages, StreamFailure, WriteMessages};
use corewire_codec::{CodecId, EncodedBody, Encoding, Status, StatusCode};
use corewire_engine::{Sleep, StreamReader, StreamWriter};

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::hosts::service::planned_panic;
use crate::judge::ledger::{Call, LaneBook, Ledger, State};
use crate::plan::message::{Ask, is_message, message};
use crate::plan::script::{Finish, Lane, Reading};

/// What a sender's outbox takes before it asks to wait, as the engine documents it.
const OUTBOX_BYTES: u64 = 32 * 1024;

/// What a message costs besides its bytes.
const COST: u64 = 16;

/// What both ends know.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) core: Rc<Core>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) id: u64,
    /// From the client to the server.
    pub(crate) up: bool,
    /// The rules are not enforced.
    pub(crate) tainted: bool,
}

impl Track {
    fn book<R>(&self, change: impl FnOnce(&mut LaneBook) -> R) -> R {
        change(self.ledger.lanes.borrow_mut().entry((self.id, self.up)).or_default())
    }

    fn violated(&self, rule: Violated, what: impl FnOnce() -> String) {
        if !self.tainted {
            let way = if self.up { "to the server" } else { "to the client" };
            let book = self.book(|book| *book);
            self.core.violated(rule, || {
                format!("stream of call {} {way}: {}; {book:?}", self.id, what())
            });
        }
    }
}

/// The end that sends.
#[derive(Debug)]
pub(crate) struct Outlet<W = StreamWriter> {
    track: Track,
    lane: Lane,
    /// `None` once it was dropped.
    writer: Option<W>,
    next: u32,
    sleep: Option<Sleep>,
    finished: bool,
}

impl<W: WriteMessages> Outlet<W> {
    pub(crate) fn new(track: Track, ask: &Ask, writer: W) -> Self {
        let lane = *ask.script.lane(track.up);
        Self { track, lane, writer: Some(writer), next: 0, sleep: None, finished: false }
    }

    /// Ready when the end is written, or nothing more can be sent.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.finished {
            if let Some(sleep) = &mut self.sleep {
                ready!(Pin::new(sleep).poll(context));
                self.sleep = None;
            }
            let Some(writer) = &mut self.writer else { return Poll::Ready(()) };
            let room = writer.poll_ready(context);
            if room == Poll::Ready(Err(corewire_client::Closed)) {
                return Poll::Ready(());
            }
            if self.next < u32::from(self.lane.count) {
                let _ = ready!(room);
                self.send();
            } else {
                ready!(self.finish(context));
            }
        }
        match &mut self.writer {
            Some(writer) => writer.poll_ended(context),
            None => Poll::Ready(()),
        }
    }

    fn send(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        let (number, track) = (self.next, &self.track);
        let more = self.lane.message_bytes(track.id, number);
        let body = message(track.id, track.up, number, more);
        let cost = body.len() as u64 + COST;
        let body = EncodedBody::encode(|frame| {
            frame.put_bytes(body.into());
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(body) = body;
        writer.send(Encoding::plain(CodecId::RAW), body);
        self.next += 1;
        track.core.note(Note::Sends { call: track.id, up: track.up, number });
        track.ledger.step();
        let book = track.book(|book| {
            book.sent += 1;
            book.under_way += cost;
            *book
        });
        // A message may be added to an almost full outbox, and may overdraw the credit.
        let largest = u64::from(self.lane.bytes) + 13 + COST;
        let window = u64::from(track.core.plan.limits.stream_window());
        // What a handler sends from another shard is in two more outboxes: one on its way, one at the connection.
        let calls = track.ledger.calls.borrow();
        let is_keyed = calls.get(&track.id).is_some_and(|call| call.key.is_some());
        let relayed = if is_keyed && !track.up { 2 * (OUTBOX_BYTES + largest) } else { 0 };
        drop(calls);
        if book.reader && book.under_way > OUTBOX_BYTES + window + 2 * largest + relayed {
            track.violated(Violated::Memory, || "more is under way than its credit".to_owned());
        }
        if self.lane.send_us > 0 {
            let wait = Duration::from_micros(self.lane.send_us.into());
            self.sleep = Some(corewire_engine::sleep(wait));
        }
    }

    fn finish(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let finish = self.lane.finish;
        let Some(writer) = &mut self.writer else { return Poll::Ready(()) };
        if finish == Finish::Never {
            writer.watch(context);
            return Poll::Pending;
        }
        self.track.core.note(Note::Finishes { call: self.track.id, up: self.track.up, finish });
        self.track.ledger.step();
        self.track.book(|book| book.given = Some(finish));
        match finish {
            Finish::Fails => writer.end(Some(Status::aborted("as asked"))),
            Finish::Dropped => self.writer = None,
            Finish::Panics => planned_panic(),
            Finish::Whole | Finish::Never => writer.end(None),
        }
        self.finished = true;
        Poll::Ready(())
    }
}

/// How a stream ended for its reader.
#[derive(Debug)]
pub(crate) enum Seen {
    /// After its last message.
    Clean,
    /// The sender stopped with a status.
    Status(StatusCode),
    /// The call ended first.
    Call(Outcome),
    /// The reader stopped reading.
    Stopped,
    /// The reader never began to read.
    Ignored,
}

/// The end that receives.
#[derive(Debug)]
pub(crate) struct Inlet<R = StreamReader> {
    track: Track,
    ask: Ask,
    reader: Option<R>,
    got: u32,
    sleep: Option<Sleep>,
    /// It waits for messages only, and for nothing else.
    pub(crate) waits: bool,
}

impl<R> Drop for Inlet<R> {
    fn drop(&mut self) {
        self.track.book(|book| book.reader = false);
    }
}

impl<R: ReadMessages> Inlet<R> {
    pub(crate) fn new(track: Track, ask: &Ask, reader: R) -> Self {
        track.book(|book| book.reader = true);
        Self { track, ask: *ask, reader: Some(reader), got: 0, sleep: None, waits: false }
    }

    fn lane(&self) -> &Lane {
        self.ask.script.lane(self.track.up)
    }

    /// Ready when nothing more is read.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Seen> {
        self.waits = false;
        match self.lane().reading {
            Reading::Holds if !self.track.core.released.get() => return Poll::Pending,
            Reading::Ignores => return Poll::Ready(Seen::Ignored),
            _ => {}
        }
        loop {
            if self.lane().reading == Reading::Stops && self.got >= u32::from(self.lane().stop_at) {
                self.track.book(|book| book.reader = false);
                self.reader = None;
                return Poll::Ready(Seen::Stopped);
            }
            if let Some(sleep) = &mut self.sleep {
                ready!(Pin::new(sleep).poll(context));
                self.sleep = None;
            }
            let Some(reader) = &mut self.reader else { return Poll::Ready(Seen::Stopped) };
            let Poll::Ready(item) = reader.poll_next(context) else {
                self.waits = true;
                return Poll::Pending;
            };
            match item {
                Some(Ok(message)) => self.receive(&message.body),
                Some(Err(StreamFailure::Status(status))) => {
                    return Poll::Ready(self.end(Seen::Status(status.code()), context));
                }
                Some(Err(StreamFailure::Call(outcome))) => {
                    return Poll::Ready(self.end(Seen::Call(outcome), context));
                }
                None => return Poll::Ready(self.end(Seen::Clean, context)),
            }
        }
    }

    fn receive(&mut self, body: &[u8]) {
        let (track, number) = (&self.track, self.got);
        track.core.note(Note::Gets { call: track.id, up: track.up, number });
        track.ledger.step();
        let more = self.lane().message_bytes(track.id, number);
        if !is_message(body, track.id, track.up, number, more) {
            track.violated(Violated::Order, || format!("another message in place of {number}"));
        }
        let book = track.book(|book| {
            book.got += 1;
            book.under_way = book.under_way.saturating_sub(body.len() as u64 + COST);
            *book
        });
        if book.got > book.sent {
            track.violated(Violated::Order, || "a message that was not sent".to_owned());
        }
        self.got += 1;
        if self.lane().read_us > 0 {
            let wait = Duration::from_micros(self.lane().read_us.into());
            self.sleep = Some(corewire_engine::sleep(wait));
        }
    }

    /// The stream ended: once, and for its sender's reason.
    fn end(&mut self, seen: Seen, context: &mut Context<'_>) -> Seen {
        let track = &self.track;
        track.ledger.step();
        let book = track.book(|book| {
            book.seen = true;
            *book
        });
        let whole = book.got == book.sent;
        let right = match (&seen, book.given) {
            (Seen::Clean, Some(Finish::Whole))
            | (Seen::Status(StatusCode::Aborted), Some(Finish::Fails))
            | (Seen::Status(StatusCode::Cancelled), Some(Finish::Dropped)) => whole,
            // That the sender was dropped reaches another thread before the cancel of its call does.
            (Seen::Status(StatusCode::Cancelled), None) => {
                let calls = track.ledger.calls.borrow();
                let gone = |call: &Call| call.apart && call.state == State::GivenUp;
                whole && track.up && calls.get(&track.id).is_some_and(gone)
            }
            // A client giving up is no valid reason at its handler, which is dropped instead.
            (Seen::Call(_), _) => !track.up,
            _ => false,
        };
        if !right {
            track.violated(Violated::End, || format!("it ended with {seen:?}"));
        }
        if let Some(reader) = &mut self.reader
            && !matches!(reader.poll_next(context), Poll::Ready(None))
        {
            track.violated(Violated::End, || "something follows its end".to_owned());
        }
        track.core.note(Note::SeesEnd { call: track.id, up: track.up });
        seen
    }
}
