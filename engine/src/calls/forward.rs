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
//! The connection's shard keeps the call's deadline, and counts its request against its budgets until the reply has come, and the
//! reply from its arrival until it is written behind the connection's other replies; a call that ends there is cancelled at the owner.
//! The owner admits the call as it does those of its own connections (`guests.rs`), and counts it while it pends.
//!
//! A one-way call is over for its connection when it has been sent. Its request counts until the owner is done with it.

use corewire_codec::{
    Forwarded, MethodId, OwnedPayload, RequestHead, SendBuffer, Status, request_flags,
};
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
use super::guests::Guests;
use super::parked::finish as finish_reply;
use crate::shard::account::ReturnAccount;
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
    pub(crate) guests: Rc<Guests>,
}

/// What a reply counts for in addition to its bytes.
const REPLY_BYTES: usize = 64;

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
        let Some(mesh) = Mesh::current() else { return Dispatched::Replied };
        let bytes = payload.len();
        let payload = payload.to_owned();
        let one_way = self.request.flags & request_flags::ONE_WAY != 0;
        let call = Box::new(ForwardedCall {
            ticket: None,
            has_waited: false,
            dropped: None,
            state: State::Going(Call {
                request: *self.request,
                payload,
                sent: mesh.shard().now(),
                deadline: self.deadline,
                peer: self.peer,
                connection_id: self.connection_id,
                metadata_bytes_max: self.metadata_bytes_max,
                frame_bytes_max: reply.frame_bytes_max(),
                hears_forwards: self.hears_forwards,
            }),
        });
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
        let account = ReturnAccount::default();
        let mut forwarding = Forwarding {
            owner,
            stage: Stage::Packed(call),
            streams,
            number: None,
            account: Rc::clone(&account),
            one_way: one_way.then_some(bytes),
        };
        match Pin::new(&mut forwarding).poll(context, reply) {
            Poll::Ready(()) => Dispatched::Replied,
            Poll::Pending => {
                mesh.shard().want_account(account);
                Dispatched::Pending(Box::pin(forwarding))
            }
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
    /// What its reply is charged to.
    account: ReturnAccount,
    /// The bytes of a one-way call.
    one_way: Option<usize>,
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
                        if let Some(bytes) = this.one_way {
                            let held = mesh.shard().client_streams.hold_incoming(bytes);
                            mesh.waiting.leave_unattended(ticket, Some(held));
                            this.stage = Stage::Over;
                        } else {
                            mesh.waiting.charge(ticket, Rc::clone(&this.account));
                        }
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
        if this.one_way.is_some() && matches!(this.stage, Stage::Over) {
            return Poll::Ready(());
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
    /// The call's id, if its owner had no counters yet to say that it dropped the call. The caller's shard counts it.
    dropped: Option<u32>,
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
    /// When it was sent to its owner, or began to wait for that.
    sent: Instant,
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
                if let (Some(call), Some(served)) = (self.dropped, served(&mesh)) {
                    served.counters.note_one_way_dropped(call);
                }
                self.state = back;
                mesh.give_back(Some(from).filter(|_| !self.has_waited), ticket, self);
            }
        }
    }

    fn bytes(&self) -> usize {
        match &self.state {
            State::Back(frame, _) => frame.len().saturating_add(REPLY_BYTES),
            State::Going(_) | State::Empty | State::Streamed => 0,
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
            self.dropped = Some(call.request.call);
            self.state = State::Back(out, None);
            return mesh.send(from, self);
        };
        let request = call.request;
        let (connection, payload_bytes) = (call.connection_id, call.payload.view().len());
        let refusal =
            served.guests.turn_away(shard, &request, connection, call.sent, call.deadline);
        if let Some(status) = refusal {
            served.counters.note_one_way_dropped(request.call);
            reply.refuse(&status);
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
                served.counters.panics.add(1);
                reply.panicked(&*panic);
                None
            }
        };
        if reply.is_refused() {
            served.counters.note_one_way_dropped(request.call);
        }
        let Some(work) = work else {
            let note = reply.into_note();
            self.state = State::Back(out, note);
            return mesh.send(from, self);
        };
        self.has_waited = true;
        let parked = served.guests.park(&request, connection, payload_bytes);
        served.counters.calls_parked.add(1);
        let here = Rc::clone(mesh);
        let task = shard.spawn(async move {
            let work = Going { work, method, shard: Rc::clone(here.shard()) };
            let counters = &served.counters;
            let note = finish(work, deadline, &mut out, replies, &mut streams, counters).await;
            drop(parked);
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
    counters: &ShardCounters,
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
                if reply.is_refused() {
                    counters.note_one_way_dropped(replies.call);
                }
                return Poll::Ready((true, Finished::Replied(reply.into_note())));
            }
            Ok(Poll::Pending) => {}
            Err(panic) => {
                counters.panics.add(1);
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
    let dropped =
        catch_unwind(AssertUnwindSafe(|| if well { work.work.recycle() } else { drop(work) }));
    if dropped.is_err() {
        counters.panics.add(1);
    }
    finished
}
