//! Calls that landed on another shard than the one that owns their key.
//!
//! The call goes to its owner as it was received, through the mesh. There it is dispatched as if it had come on a connection,
//! and its reply is written as a frame for the connection on which the caller waits. The frame goes back, and is
//! appended to that connection's replies. Arguments are decoded at the owner alone.
//!
//! ```text
//!  shard of the connection                            owner
//!  Router ─▶ Forwarding ── ForwardedCall ────────────▶ Router ─▶ handler
//!  ReplySlot::append ◀──── the frame of the reply ─────┘
//! ```
//!
//! The connection's shard keeps the call's deadline, and counts its request against its budgets until the reply has come; a call that
//! ends there is cancelled at the owner. A reply on its way back is not counted yet.

use corewire_codec::{Forwarded, MethodId, OwnedPayload, RequestHead, SendBuffer, Status};
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ShardId, ShardInfo, StreamKind};
use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::dispatch::{Dispatch, Dispatched, Incoming, Note, PendingCall, ReplySlot};
use super::extensions::Extensions;
use super::forward_streams::{CallerStreams, OwnerStreams};
use super::parked::finish as finish_reply;
use crate::shard::clock::clock;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::errand::{Begun, Cancel};
use crate::shard::holds::Holder;
use crate::shard::mesh::{Lost, Mesh, Parcel, Ticket};
use crate::shard::sleep::sleep_until;
use crate::stream::Relay;
use corewire_client::address::Peer;

/// What a shard serves, for calls that come from other shards.
pub(crate) struct Served {
    pub(crate) dispatch: Rc<dyn Dispatch>,
    pub(crate) counters: Arc<ShardCounters>,
}

/// What this shard serves, once it does.
fn served(mesh: &Mesh) -> Option<Rc<Served>> {
    mesh.served().and_then(|served| served.downcast().ok())
}

impl Incoming<'_> {
    /// Has the call run on the shard that owns its key. It is answered as [`Dispatch::dispatch`] answers.
    #[must_use]
    pub fn forward(
        &mut self,
        owner: ShardId,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let Some(payload) = self.payload.take() else {
            reply.status(&Status::internal("the call was taken before it was forwarded"));
            return Dispatched::Replied;
        };
        let call = Box::new(ForwardedCall {
            ticket: None,
            has_waited: false,
            state: State::Going(Call {
                request: *self.request,
                payload: payload.to_owned(),
                deadline: self.deadline,
                peer: self.peer,
                connection_id: self.connection_id,
                metadata_bytes_max: self.metadata_bytes_max,
                frame_bytes_max: reply.frame_bytes_max(),
                hears_forwards: self.hears_forwards,
            }),
        });
        let Some(mesh) = Mesh::current() else { return Dispatched::Replied };
        let shards = mesh.info().count;
        if let Some(served) = served(&mesh) {
            served.counters.calls_forwarded.add(1);
        }
        let forwarded = Forwarded::new(owner.0, shards).filter(|_| self.hears_forwards);
        let mut owner = usize::from(owner.0);
        if is_planted(Bug::WrongOwner) {
            owner = (owner + 1) % usize::from(shards);
        }
        let ends = self.streams.as_deref_mut().map(core::mem::take);
        let streams = ends.map(|ends| CallerStreams::new(ends, forwarded));
        let mut forwarding =
            Forwarding { owner, stage: Stage::Packed(call), streams, number: None };
        match Pin::new(&mut forwarding).poll(context, reply) {
            Poll::Ready(()) => Dispatched::Replied,
            Poll::Pending => Dispatched::Pending(Box::pin(forwarding)),
        }
    }
}

/// A call that another shard runs, as the shard of its connection sees it.
struct Forwarding {
    owner: usize,
    stage: Stage,
    streams: Option<CallerStreams>,
    /// Its place in the queue for room.
    number: Option<u64>,
}

enum Stage {
    Packed(Box<ForwardedCall>),
    Away(Ticket),
    Over,
}

impl PendingCall for Forwarding {
    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        // Calls are polled on shards.
        let Some(mesh) = Mesh::current() else { return Poll::Pending };
        if let Stage::Packed(_) = this.stage {
            match mesh.poll_room(this.owner, &mut this.number, context) {
                Poll::Pending => {}
                Poll::Ready(Err(Lost)) => {
                    this.stage = Stage::Over;
                    reply.refuse(&lost());
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(())) => {
                    if let Stage::Packed(mut call) =
                        core::mem::replace(&mut this.stage, Stage::Over)
                    {
                        let ticket = mesh.send_away(this.owner, |ticket| {
                            call.ticket = Some(ticket);
                            call
                        });
                        this.stage = Stage::Away(ticket);
                        if let Some(streams) = &mut this.streams {
                            streams.begin(&mesh, this.owner, ticket);
                        }
                    }
                    if let Some(number) = this.number.take() {
                        mesh.leave_queue(this.owner, number);
                    }
                }
            }
        }
        mesh.shard().note_known_wait();
        if let Some(streams) = &mut this.streams {
            streams.poll(&mesh, context);
        }
        let Stage::Away(ticket) = this.stage else { return Poll::Pending };
        let Poll::Ready(parcel) = mesh.waiting.poll(ticket, context) else { return Poll::Pending };
        this.stage = Stage::Over;
        let parcel = parcel.map(|parcel| parcel as Box<dyn Any>);
        match parcel.map(|parcel| parcel.downcast::<ForwardedCall>().map(|call| call.state)) {
            Ok(Ok(State::Back(frame, note))) => reply.append(frame, note),
            // The connection ends the call when the last message is written.
            Ok(Ok(State::Streamed)) => return Poll::Pending,
            Ok(_) => {
                reply.status(&Status::internal("a call came back from its owner without a reply"))
            }
            Err(Lost) => reply.status(&lost()),
        }
        Poll::Ready(())
    }

    fn recycle(self: Pin<Box<Self>>) {}
}

fn lost() -> Status {
    Status::unavailable("the shard that owns the call's key is gone")
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let Some(mesh) = Mesh::current() else { return };
        if let Some(number) = self.number.take() {
            mesh.leave_queue(self.owner, number);
        }
        if let Stage::Away(ticket) = self.stage
            && mesh.waiting.forget(ticket)
            && !is_planted(Bug::LostForwardedCancel)
        {
            mesh.send(self.owner, Box::new(Cancel(ticket)));
        }
    }
}

/// A call on its way to its owner, or its reply on the way back.
struct ForwardedCall {
    ticket: Option<Ticket>,
    /// Whether it waited at its owner, so that its place on the way is free already.
    has_waited: bool,
    state: State,
}

enum State {
    Going(Call),
    /// It runs.
    Empty,
    Back(SendBuffer, Option<Box<Note>>),
    /// Its stream of results has ended, and was sent before this.
    Streamed,
}

struct Call {
    request: RequestHead,
    payload: OwnedPayload,
    deadline: Option<Instant>,
    peer: Peer,
    connection_id: u64,
    metadata_bytes_max: u16,
    frame_bytes_max: u32,
    hears_forwards: bool,
}

impl Parcel for ForwardedCall {
    fn arrive(mut self: Box<Self>, from: Option<usize>) {
        let (Some(mesh), Some(ticket), Some(from)) = (Mesh::current(), self.ticket, from) else {
            return;
        };
        match core::mem::replace(&mut self.state, State::Empty) {
            State::Going(call) => self.run(call, &mesh, from, ticket),
            back => {
                self.state = back;
                mesh.give_back(Some(from).filter(|_| !self.has_waited), ticket, self);
            }
        }
    }
}

impl ForwardedCall {
    fn run(mut self: Box<Self>, mut call: Call, mesh: &Rc<Mesh>, from: usize, ticket: Ticket) {
        let shard = mesh.shard();
        let served = served(mesh);
        let mut out = SendBuffer::new();
        let replies = Replies::to(&call, mesh.info());
        let mut reply = replies.slot(&mut out);
        let Some(served) = served else {
            reply.refuse(&Status::unavailable("the shard that owns the call's key is starting"));
            self.state = State::Back(out, None);
            return mesh.send(from, self);
        };
        let is_late = call.deadline.is_some_and(|deadline| deadline <= clock());
        if is_late && !is_planted(Bug::LateForward) {
            reply.status(&Status::deadline_exceeded("the deadline passed on the way to the owner"));
            self.state = State::Back(out, None);
            return mesh.send(from, self);
        }
        let mut extensions = Extensions::default();
        let kind = StreamKind::from_request_flags(call.request.flags);
        let (relay, mut ends) = kind.map(|kind| Relay::new(shard, kind)).unzip();
        let mut streams = relay.map(|relay| OwnerStreams::new(relay, mesh, from, ticket));
        let mut here = mesh.info().id;
        if is_planted(Bug::WrongOwner) {
            here = ShardId((here.0 + mesh.info().count - 1) % mesh.info().count);
        }
        let mut incoming = call.incoming(here, &mut extensions);
        incoming.streams = ends.as_mut();
        served.counters.calls_taken.add(1);
        served.counters.current.enter(incoming.connection_id);
        served.counters.current.begin(incoming.request.call, incoming.request.method);
        shard.holds.note_poll();
        let (connection, call) = (incoming.connection_id, incoming.request.call);
        let method = incoming.request.method;
        if shard.observes_polls() {
            shard.start_poll(Some(method), false);
        }
        // A handler that pends is polled again as a task, with a waker of its own.
        let mut context = Context::from_waker(Waker::noop());
        let begun = catch_unwind(AssertUnwindSafe(|| {
            served.dispatch.dispatch(&mut incoming, &mut context, &mut reply)
        }));
        if shard.observes_polls() {
            let class = shard.classes.current();
            shard.end_call_poll(class, false, || Holder::Call { connection, call, method });
        }
        let deadline = incoming.deadline;
        let work = match begun {
            Ok(Dispatched::Replied) => {
                finish_reply(&mut reply);
                None
            }
            Ok(Dispatched::Pending(work)) => Some(work),
            Err(panic) => {
                reply.panicked(&*panic);
                None
            }
        };
        let Some(work) = work else {
            let note = reply.into_note();
            self.state = State::Back(out, note);
            return mesh.send(from, self);
        };
        self.has_waited = true;
        let here = Rc::clone(mesh);
        let task = shard.spawn(async move {
            let work = Going { work, method, shard: Rc::clone(here.shard()) };
            let note = finish(work, deadline, &mut out, replies, &mut streams).await;
            self.state = match note {
                Finished::Replied(note) => State::Back(out, note),
                Finished::Streamed => State::Streamed,
            };
            here.end(from, ticket);
            here.send(from, self);
        });
        mesh.run(from, ticket, task);
        // It waits: its place on the way is free for others.
        mesh.send(from, Box::new(Begun));
    }
}

/// How replies to a call are written.
#[derive(Clone, Copy)]
struct Replies {
    call: u32,
    frame_bytes_max: u32,
    forwarded: Option<Forwarded>,
}

impl Replies {
    fn to(call: &Call, here: ShardInfo) -> Self {
        Self {
            call: call.request.call,
            frame_bytes_max: call.frame_bytes_max,
            forwarded: Forwarded::new(here.id.0, here.count).filter(|_| call.hears_forwards),
        }
    }

    fn slot(self, out: &mut SendBuffer) -> ReplySlot<'_> {
        let mut slot = ReplySlot::new(out, self.call, self.frame_bytes_max);
        if let Some(forwarded) = self.forwarded {
            slot.set_forwarded(forwarded);
        }
        slot
    }
}

impl Call {
    fn incoming<'a>(&'a mut self, shard: ShardId, extensions: &'a mut Extensions) -> Incoming<'a> {
        Incoming {
            request: &self.request,
            payload: Some(self.payload.view()),
            deadline: self.deadline,
            peer: self.peer,
            shard,
            connection_id: self.connection_id,
            streams: None,
            metadata_bytes_max: self.metadata_bytes_max,
            hears_forwards: self.hears_forwards,
            extensions,
        }
    }
}

/// How a handler ended.
enum Finished {
    /// Its reply is written.
    Replied(Option<Box<Note>>),
    /// Its stream of results has ended.
    Streamed,
}

/// A handler that is polled as a task, and pays as a call.
struct Going {
    work: Pin<Box<dyn PendingCall>>,
    method: MethodId,
    shard: Rc<ShardContext>,
}

impl Going {
    fn poll(&mut self, context: &mut Context<'_>, reply: &mut ReplySlot<'_>) -> Poll<()> {
        self.shard.costs.begin(self.method, true);
        let polled = self.work.as_mut().poll(context, reply);
        self.shard.costs.end();
        polled
    }
}

/// Polls a handler to its end or to the deadline, which a layer may have made shorter, and writes its reply.
async fn finish(
    mut work: Going,
    deadline: Option<Instant>,
    out: &mut SendBuffer,
    replies: Replies,
    streams: &mut Option<OwnerStreams>,
) -> Finished {
    let mut end = pin!(deadline.map(sleep_until));
    let (well, finished) = poll_fn(|context| {
        if let Some(streams) = streams {
            streams.poll_incoming(context);
        }
        let mut reply = replies.slot(out);
        // As on a connection: a call whose time is over is not polled any more.
        if let Some(end) = end.as_mut().as_pin_mut()
            && end.poll(context).is_ready()
        {
            reply.status(&Status::deadline_exceeded("the deadline passed while the call ran"));
            return Poll::Ready((false, Finished::Replied(reply.into_note())));
        }
        match catch_unwind(AssertUnwindSafe(|| work.poll(context, &mut reply))) {
            Ok(Poll::Ready(())) => {
                finish_reply(&mut reply);
                return Poll::Ready((true, Finished::Replied(reply.into_note())));
            }
            Ok(Poll::Pending) => {}
            Err(panic) => {
                reply.panicked(&*panic);
                return Poll::Ready((false, Finished::Replied(reply.into_note())));
            }
        }
        if let Some(streams) = streams
            && let Some(mesh) = Mesh::current()
            && streams.poll_outgoing(&mesh, context).is_ready()
        {
            return Poll::Ready((true, Finished::Streamed));
        }
        Poll::Pending
    })
    .await;
    // What is dropped is the user's, and its caller is to hear whatever happens there.
    let _ = catch_unwind(AssertUnwindSafe(|| if well { work.work.recycle() } else { drop(work) }));
    finished
}
