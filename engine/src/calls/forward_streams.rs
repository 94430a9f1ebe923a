//! The streams of a call that another shard runs.
//!
//! ```text
//!  shard of the connection                                     owner
//!  connection ─▶ inbox ─▶ CallerStreams ── Part ─▶ slot ─▶ OwnerStreams ─▶ Relay ─▶ inbox ─▶ handler
//!  connection ◀─ outbox ◀─ CallerStreams ◀─ slot ◀─ Part ── OwnerStreams ◀─ Relay ◀─ outbox ◀─┘
//! ```
//!
//! Each direction has a window. A message of the client is granted again to its connection when the handler has taken it, and at most
//! [`WINDOW_BYTES`] are on their way; of the handler's messages, one outbox is on its way until the connection's outbox has taken it. So a
//! client that does not read, or a handler that does not, holds as much as if the call had not been forwarded, and that much more. All of
//! it is charged to the account of the client's connection: what waits at its shard, and what is at the owner and was not consumed.

use corewire_client::{Message, StreamFailure, WriteMessages as _};
use corewire_codec::{EncodedBody, Encoding, Forwarded, Status};
use corewire_proto::canary::{Bug, is_planted};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::shard::account::{Held, StreamAccount};
use crate::shard::mesh::{Mesh, Parcel, Slot, SlotName, Ticket};
use crate::stream::{Relay, Relayed, StreamEnds, StreamReader, StreamWriter};

/// Bytes of a client's messages that may be on their way to the owner, or wait there for the handler.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Something of a stream, on its way to the other shard.
enum Part {
    /// To the owner: the client sent a message of this cost.
    Message(Message, u32),
    /// To the owner: the client sends no more.
    End(Option<Status>),
    /// To the owner: so many bytes have gone on to the connection.
    Sent(usize),
    /// From the owner: what the handler wants from the connection.
    Relayed(Relayed),
}

impl Part {
    /// What it counts for while it waits where it arrived.
    fn bytes(&self) -> usize {
        PART_BYTES
            + match self {
                Self::Message(_, cost) => *cost as usize,
                Self::Relayed(Relayed::Message(_, body)) => body.len(),
                Self::End(_) | Self::Sent(_) | Self::Relayed(_) => 0,
            }
    }
}

/// What a part counts for in addition to its bytes.
const PART_BYTES: usize = 64;

struct Sent {
    ticket: Ticket,
    to_owner: bool,
    part: Box<Part>,
}

impl Parcel for Sent {
    fn arrive(self: Box<Self>, from: Option<usize>) {
        let (Some(mesh), Some(from)) = (Mesh::current(), from) else { return };
        let Self { ticket, to_owner, part } = *self;
        let name = if to_owner { SlotName::Theirs(from, ticket) } else { SlotName::Own(ticket) };
        let bytes = part.bytes();
        mesh.slots.put(name, part, bytes);
    }
}

/// The streams of a forwarded call, at the shard of its connection.
pub(super) struct CallerStreams {
    reader: Option<StreamReader>,
    writer: Option<StreamWriter>,
    /// What the client is told when the handler has taken the call.
    forwarded: Option<Forwarded>,
    /// Open once the call is on its way.
    way: Option<(Slot, usize, Ticket)>,
    /// The client's stream has ended. The reader stays until the owner has consumed what it got.
    has_ended: bool,
    /// The cost of messages that the owner has not consumed.
    unread: u32,
    /// The charge for these.
    unread_held: Option<Held>,
    /// What the handler sent and the connection's outbox has not taken.
    waiting: VecDeque<(Encoding, EncodedBody, Held)>,
    /// The handler's stream has ended; its end follows what waits.
    end: Option<Option<Status>>,
}

impl CallerStreams {
    pub(super) fn new(ends: StreamEnds, forwarded: Option<Forwarded>) -> Self {
        let StreamEnds { reader, writer } = ends;
        Self {
            reader,
            writer,
            forwarded,
            way: None,
            has_ended: false,
            unread: 0,
            unread_held: None,
            waiting: VecDeque::new(),
            end: None,
        }
    }

    /// That of the connection.
    fn account(&self) -> Option<Rc<StreamAccount>> {
        let reader = self.reader.as_ref().map(StreamReader::account);
        reader.or_else(|| self.writer.as_ref().map(StreamWriter::account))
    }

    /// The call goes to its owner under this ticket.
    pub(super) fn begin(&mut self, mesh: &Mesh, owner: usize, ticket: Ticket) {
        let account = self.account().unwrap_or_else(|| Rc::clone(&mesh.shard().client_streams));
        self.unread_held = Some(account.hold_incoming(0));
        let slot = mesh.slots.open(SlotName::Own(ticket), account);
        self.way = Some((slot, owner, ticket));
    }

    /// Moves what can be moved in both directions.
    pub(super) fn poll(&mut self, mesh: &Mesh, context: &mut Context<'_>) {
        let Some((slot, owner, ticket)) = &self.way else { return };
        let send = |part| {
            let part = Box::new(part);
            let sent = Sent { ticket: *ticket, to_owner: true, part };
            mesh.send(*owner, Box::new(sent));
        };
        while let Poll::Ready((part, held)) = slot.poll::<Part>(context) {
            let Part::Relayed(relayed) = *part else { continue };
            match relayed {
                Relayed::Consumed(cost) => {
                    let cost = cost.min(self.unread);
                    self.unread -= cost;
                    if let Some(reader) = &self.reader
                        && !is_planted(Bug::LostRelayedCredit)
                    {
                        reader.consume(cost);
                    }
                }
                Relayed::Stopped => stop_reading(&mut self.reader, &mut self.unread),
                Relayed::Accepted(metadata) => {
                    if let Some(writer) = &mut self.writer {
                        writer.accept_elsewhere(metadata.map(|it| *it), self.forwarded);
                    }
                }
                Relayed::Message(encoding, body) => self.waiting.push_back((encoding, body, held)),
                Relayed::End(failure) => self.end = Some(failure),
            }
        }
        let mut moved = 0;
        if let Some(writer) = &mut self.writer {
            while !self.waiting.is_empty() {
                match writer.poll_ready(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => self.waiting.clear(),
                    Poll::Pending => break,
                }
                if let Some((encoding, body, _)) = self.waiting.pop_front() {
                    moved += body.len() + 16;
                    writer.send(encoding, body);
                }
            }
            if self.waiting.is_empty()
                && let Some(failure) = self.end.take()
            {
                writer.end(failure);
            }
        }
        if moved > 0 {
            send(Part::Sent(moved));
        }
        while !self.has_ended
            && self.unread < WINDOW_BYTES
            && let Some(reader) = &self.reader
            && let Poll::Ready(item) = reader.poll_unconsumed(context)
        {
            match item {
                Some(Ok((message, cost))) => {
                    self.unread = self.unread.saturating_add(cost);
                    send(Part::Message(message, cost));
                }
                Some(Err(failure)) => {
                    send(Part::End(Some(status_of(failure))));
                    self.has_ended = true;
                }
                None => {
                    send(Part::End(None));
                    self.has_ended = true;
                }
            }
        }
        if let Some(held) = &mut self.unread_held {
            held.set(self.unread as usize);
        }
    }
}

/// Nobody reads any more: what was on its way counts as read, so that the connection's credit comes back. The drop of the
/// reader tells the client.
fn stop_reading(reader: &mut Option<StreamReader>, unread: &mut u32) {
    let unread = core::mem::take(unread);
    if let Some(reader) = reader.take()
        && unread > 0
    {
        reader.consume(unread);
    }
}

impl Drop for CallerStreams {
    fn drop(&mut self) {
        stop_reading(&mut self.reader, &mut self.unread);
    }
}

fn status_of(failure: StreamFailure) -> Status {
    match failure {
        StreamFailure::Status(status) => status,
        StreamFailure::Call(_) => Status::cancelled("the call that this stream belongs to is over"),
    }
}

/// The streams of a forwarded call, at its owner.
pub(super) struct OwnerStreams {
    relay: Relay,
    slot: Slot,
    from: usize,
    ticket: Ticket,
}

impl OwnerStreams {
    pub(super) fn new(relay: Relay, mesh: &Mesh, from: usize, ticket: Ticket) -> Self {
        let account = Rc::clone(&mesh.shard().client_streams);
        let slot = mesh.slots.open(SlotName::Theirs(from, ticket), account);
        Self { relay, slot, from, ticket }
    }

    /// Takes what the client sent.
    pub(super) fn poll_incoming(&mut self, context: &Context<'_>) {
        while let Poll::Ready((part, _)) = self.slot.poll::<Part>(context) {
            match *part {
                Part::Message(message, cost) => self.relay.receive(message, cost),
                Part::End(failure) => self.relay.end_incoming(failure),
                Part::Sent(bytes) => self.relay.note_sent(bytes),
                Part::Relayed(_) => {}
            }
        }
    }

    /// Sends what the handler wants sent; ready when its stream has ended.
    pub(super) fn poll_outgoing(&mut self, mesh: &Mesh, context: &Context<'_>) -> Poll<()> {
        while let Poll::Ready(relayed) = self.relay.poll(context) {
            let is_end = matches!(relayed, Relayed::End(_));
            let part = Box::new(Part::Relayed(relayed));
            let sent = Sent { ticket: self.ticket, to_owner: false, part };
            mesh.send(self.from, Box::new(sent));
            if is_end {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
