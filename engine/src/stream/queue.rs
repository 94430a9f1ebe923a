//! The streams of a server's connection that want something from it, and the order in which they write. Those of a
//! client's are in the core of its channel.

use corewire_client::streams::OUTBOX_BYTES;
use corewire_codec::{SendBuffer, Status};
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{NotSent, STREAM_QUANTUM, ServerConnection, StreamPlace, StreamSchedule};
use std::collections::VecDeque;
use std::rc::Rc;

use super::cell::{Sending, StreamCell};
use crate::shard::account::{StreamAccount, Totals};

/// How many writers go on at once when there is room for a connection's streams.
const FED_AT_ONCE: usize = 16;

/// How a stream's turn to write ended.
#[derive(Debug)]
enum Wrote {
    /// There is more, and it may be written.
    More,
    /// The outbox is empty.
    All,
    /// Credit is used up.
    Blocked,
    /// It sent its end, and the call is over. The log may say more about a failure than its caller is told.
    Over(Option<Box<Status>>),
}

/// The streams of one connection, as far as they want something.
#[derive(Debug, Default)]
pub(crate) struct StreamQueue {
    /// Streams that the driver brought.
    arrived: Vec<Rc<StreamCell>>,
    /// Streams that have something to write.
    schedule: StreamSchedule<Rc<StreamCell>>,
    /// Streams whose writers wait for the connection to have room.
    starved: VecDeque<Rc<StreamCell>>,
    /// Calls that are over through what was written, or that nobody waits for any more.
    ended: Vec<(u32, Option<Box<Status>>)>,
    /// What its streams hold; made with a server's first stream.
    account: Option<Rc<StreamAccount>>,
}

impl StreamQueue {
    pub(crate) fn push(&mut self, cell: Rc<StreamCell>) {
        self.arrived.push(cell);
    }

    /// There is credit again: for one stream, or for any.
    pub(crate) fn handle_writable(&mut self, call: Option<u32>) {
        self.schedule.handle_writable(call, |cell| cell.place.set(StreamPlace::Ready));
    }

    /// The account of a server's streams.
    pub(crate) fn account(&mut self, totals: &Totals) -> Rc<StreamAccount> {
        let make = || StreamAccount::of_server(totals.clone());
        Rc::clone(self.account.get_or_insert_with(make))
    }

    /// Bytes that its streams hold, and bytes that they have given back.
    pub(crate) fn held(&self) -> (usize, usize) {
        self.account.as_ref().map_or((0, 0), |account| (account.bytes(), account.released()))
    }

    /// Whether no stream wants anything, and nothing is held for any.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
            && !self.schedule.has_ready()
            && self.starved.is_empty()
            && self.ended.is_empty()
            && self.account.as_ref().is_none_or(|account| account.bytes() == 0)
    }

    /// Whether its streams hold all that they may.
    pub(crate) fn is_over_share(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.is_over_share())
    }

    /// Notes whether the connection's address holds more than its share.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        if let Some(account) = &self.account {
            account.set_crowded(crowded);
        }
    }

    /// Whether writers wait for the connection to have room, and whether there is some.
    pub(crate) fn starves(&self) -> (bool, bool) {
        let starves = !self.starved.is_empty();
        (starves, starves && self.may_feed(0))
    }

    /// Whether another writer may go on, in addition to `fed` others.
    fn may_feed(&self, fed: usize) -> bool {
        let Some(account) = &self.account else { return true };
        match account.is_over_share() {
            false => fed < FED_AT_ONCE,
            true => fed == 0 && account.may_write_one(),
        }
    }

    /// Lets some writers go on, if there is room: not all, because what they will write is not known.
    fn feed(&mut self) {
        let mut fed = 0;
        while !self.starved.is_empty() && self.may_feed(fed) {
            let Some(cell) = self.starved.pop_front() else { return };
            cell.starves.set(false);
            cell.state.borrow_mut().starved = false;
            fed += usize::from(!cell.is_over());
            cell.wake_writer();
        }
    }

    /// Whether streams could write if the send buffer took more.
    pub(crate) fn has_ready(&self) -> bool {
        self.schedule.has_ready()
    }

    /// A call that is over through what [`serve`](Self::serve) did, and its failure if the log should say more about it.
    pub(crate) fn pop_ended(&mut self) -> Option<(u32, Option<Box<Status>>)> {
        self.ended.pop()
    }

    /// Grants what was consumed, and writes what waits: in turns, within the bound of a turn, and only
    /// while less than `unsent_max` waits for the socket, so that replies are not far behind.
    pub(crate) fn serve<T>(
        &mut self,
        proto: &mut ServerConnection<T>,
        out: &mut SendBuffer,
        unsent_max: usize,
    ) {
        let mut arrived = core::mem::take(&mut self.arrived);
        for cell in arrived.drain(..) {
            self.settle(cell, proto, out);
        }
        self.arrived = arrived;
        let start = out.len();
        while let Some(cell) = self.schedule.next(out.len(), unsent_max, start) {
            let wrote = write(&cell, proto, out);
            cell.place.set(StreamPlace::Idle);
            match wrote {
                Wrote::More => self.enqueue(Rc::clone(&cell)),
                Wrote::Blocked => {
                    cell.place.set(StreamPlace::Blocked);
                    self.schedule.block(cell.call(), Rc::clone(&cell));
                }
                Wrote::Over(failure) => self.ended.push((cell.call(), failure)),
                Wrote::All => {}
            }
            if cell.state.borrow().outbox_bytes < OUTBOX_BYTES {
                cell.wake_writer();
            }
        }
        if !self.starved.is_empty() {
            self.feed();
        }
    }

    /// Puts a stream among those that may write.
    fn enqueue(&mut self, cell: Rc<StreamCell>) {
        cell.place.set(StreamPlace::Ready);
        self.schedule.push(cell);
    }

    /// Does what a stream asks for except writing, and puts it into the queue if it wants to write.
    fn settle<T>(
        &mut self,
        cell: Rc<StreamCell>,
        proto: &mut ServerConnection<T>,
        out: &mut SendBuffer,
    ) {
        cell.queued.set(false);
        let (consumed, stop) = {
            let state = &mut *cell.state.borrow_mut();
            (core::mem::take(&mut state.consumed), core::mem::take(&mut state.stop))
        };
        if consumed > 0 {
            proto.consume(cell.call(), consumed, out);
        }
        if stop {
            proto.stop_receiving(cell.call());
        }
        if cell.state.borrow().starved && !cell.starves.replace(true) {
            self.starved.push_back(Rc::clone(&cell));
        }
        if cell.is_over() && cell.place.get() == StreamPlace::Blocked {
            self.schedule.unblock(cell.call());
            cell.place.set(StreamPlace::Idle);
        }
        if cell.place.get() == StreamPlace::Idle && cell.wants_to_write() {
            self.enqueue(cell);
        }
    }
}

/// Writes up to a quantum of one stream's messages, and its end after the last.
fn write<T>(cell: &StreamCell, proto: &mut ServerConnection<T>, out: &mut SendBuffer) -> Wrote {
    let state = &mut *cell.state.borrow_mut();
    let mut accept = core::mem::take(&mut state.accept);
    let (metadata, forwarded) = (state.accept_with.take(), state.forwarded.take());
    if accept && (metadata.is_some() || forwarded.is_some() || state.outbox.is_empty()) {
        // A stream that is over needs no opening.
        let _ = proto.accept_stream(cell.call(), metadata.as_deref(), forwarded, out);
        accept = false;
    }
    let mut left = STREAM_QUANTUM;
    while let Some((encoding, body, held)) = state.outbox.pop_front() {
        let bytes = body.len() + 16;
        let blocked = match proto.begin_message(cell.call(), encoding, out) {
            Ok(mut message) => {
                accept = false;
                body.write_to(message.frame());
                state.outbox_bytes = state.outbox_bytes.saturating_sub(bytes);
                if let Err(error) = message.finish() {
                    state.outbox.clear();
                    state.outbox_bytes = 0;
                    let status = Status::resource_exhausted(error.to_string());
                    state.sending = Sending::Ending(Some(status));
                    break;
                }
                false
            }
            Err(NotSent::NoCredit) if is_planted(Bug::OvertakenMessage) => {
                state.outbox.push_back((encoding, body, held));
                return Wrote::Blocked;
            }
            Err(NotSent::NoCredit) => {
                state.outbox.push_front((encoding, body, held));
                true
            }
            Err(NotSent::Ended) => {
                state.end_sending();
                return Wrote::All;
            }
        };
        if blocked {
            if accept {
                // It needs no credit, and the client waits for it.
                let _ = proto.accept_stream(cell.call(), None, None, out);
            }
            return Wrote::Blocked;
        }
        left = left.saturating_sub(bytes);
        if left == 0 && !state.outbox.is_empty() {
            return Wrote::More;
        }
    }
    match core::mem::replace(&mut state.sending, Sending::Ended) {
        Sending::Ending(failure)
            if proto.end_stream(cell.call(), failure.as_ref(), None, out).is_ok() =>
        {
            let failure = failure.filter(|status| status.log_detail().is_some());
            Wrote::Over(failure.map(Box::new))
        }
        Sending::Open => {
            state.sending = Sending::Open;
            Wrote::All
        }
        Sending::Ending(_) | Sending::Ended => Wrote::All,
    }
}
