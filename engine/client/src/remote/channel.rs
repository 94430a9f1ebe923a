//! The caller's handle on a connection that another thread, or a tokio task, drives.
//!
//! ```text
//!  any thread, any executor                    one thread of a shard, or one task of tokio
//!  ────────────────────────                    ───────────────────────────────────────────
//!  encode ─▶ Command ─▶ bounded queue ─▶ bell ─▶ Inbox ─▶ connection
//!            Outcome ◀─ one-shot or callback ◀────────── reply, failure
//! ```
//!
//! The request is encoded where the call is made, and the reply is decoded where it is awaited; the
//! driver only moves bytes. A streaming call has its own pipe between the two, see `streams.rs`.

use corewire_codec::{EncodedBody, FrameWriter, RequestHead, Status};
use corewire_proto::CloseReason;
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::config::ChannelConfig;
use crate::core::channel::ServerSide;
use crate::failure::{CallFailure, NotSent};
use crate::remote::backlog::Backlog;
use crate::remote::command::{Command, Completion, Control, Sink};
use crate::remote::mailbox::Mailbox;
use crate::transport::{Outcome, Pending, Transport};
use crate::wait::block_on;

/// A channel that any thread may use. Cheap to clone; clones share one connection.
///
/// It connects when the first call needs it, and again after the connection was lost, with the same
/// back-off as `Channel`. What drives the connection is chosen when the channel is made:
/// `ClientThread::channel` uses a thread, `SharedChannel::on_tokio` a task of tokio.
///
/// A call passes through two queues, wakes a thread each way, and encodes its request into memory of its
/// own. Code that runs on a shard should call over a `Channel` instead.
#[derive(Clone, Debug)]
pub struct SharedChannel {
    pub(super) handle: Arc<Handle>,
}

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) mailbox: Arc<Mailbox>,
    /// Which of the mailbox's channels this is; tokio's have a mailbox each.
    pub(super) channel: u32,
    pub(super) address: Address,
    pub(super) backlog: Arc<Backlog>,
    pub(super) server_side: Arc<ServerSide>,
    /// No call is handed over any more.
    pub(super) closed: AtomicBool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.mailbox.control(Control::Release(self.channel));
    }
}

impl SharedChannel {
    /// A handle on the mailbox's channel of this number.
    #[doc(hidden)]
    pub fn new(
        mailbox: Arc<Mailbox>,
        channel: u32,
        address: Address,
        config: &ChannelConfig,
    ) -> Self {
        let handle = Handle {
            mailbox,
            channel,
            address,
            backlog: Backlog::new(config.queued_max),
            server_side: Arc::default(),
            closed: AtomicBool::new(false),
        };
        Self { handle: Arc::new(handle) }
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.handle.address
    }

    /// The index of the server shard at the other end, and how many shards the server has; `None`
    /// before the first hello.
    #[must_use]
    pub fn server_shard(&self) -> Option<(u16, u16)> {
        self.handle.server_side.shard()
    }

    /// The connection's id in the server's process; `None` before the first hello.
    #[must_use]
    pub fn connection_id(&self) -> Option<u64> {
        self.handle.server_side.connection_id()
    }

    /// Connects now, if there is no connection and none is being made, and does not wait for it. Nobody is told of a
    /// failure; the next call is.
    pub fn begin_connect(&self) {
        self.handle.mailbox.control(Control::Connect(self.handle.channel));
    }

    /// Where the driver notes what the server says about itself.
    #[doc(hidden)]
    #[must_use]
    pub fn server_side(&self) -> Arc<ServerSide> {
        Arc::clone(&self.handle.server_side)
    }
}

impl Transport for SharedChannel {
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let handle = Arc::clone(&self.handle);
        SharedCall { stage: Stage::New { handle, head, timeout, encode }, pinned: PhantomPinned }
    }
}

pin_project! {
    /// A call over a [`SharedChannel`]. Once polled it cannot be moved, so `wait` and `then` only ever see
    /// a new one.
    struct SharedCall<E> {
        stage: Stage<E>,
        #[pin]
        pinned: PhantomPinned,
    }
}

enum Stage<E> {
    New { handle: Arc<Handle>, head: RequestHead, timeout: Option<Duration>, encode: E },
    Waiting(Waiting),
    Done,
}

/// What the caller of a call in flight holds. Dropping it cancels the call.
struct Waiting {
    /// `None` once the outcome was taken, or when it is being dropped.
    outcome: Option<oneshot::AsyncReceiver<Outcome>>,
    handle: Arc<Handle>,
    id: u64,
    deadline: Option<Instant>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Drop the receiver first, then send the cancel: a driver that takes the call in between sees that the
        // receiver is gone.
        if self.outcome.take().is_some() {
            let Handle { mailbox, channel, .. } = &*self.handle;
            mailbox.control(Control::Cancel { channel: *channel, id: self.id });
        }
    }
}

/// Ids for calls that may be cancelled. One counter for the process: an id must not be used twice.
static IDS: AtomicU64 = AtomicU64::new(1);

impl Handle {
    /// Encodes a request and hands it to the driver. Errors go into `sink`, too.
    pub(super) fn submit<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
        sink: Sink,
    ) -> (u64, Option<Instant>)
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        match EncodedBody::encode(encode) {
            Ok(body) => self.submit_encoded(head, timeout, body, sink),
            Err(status) => Self::turn_away(sink, NotSent::Encode(status.to_string())),
        }
    }

    /// Ends a call that no driver has seen. No call has the id that this returns.
    pub(super) fn turn_away(sink: Sink, why: NotSent) -> (u64, Option<Instant>) {
        let done = Completion { sink: Some(sink), begun: false };
        done.complete(Err(CallFailure::NotSent(why)));
        (0, None)
    }

    /// Hands a request to the driver. Returns its id and its deadline.
    pub(super) fn submit_encoded(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        body: EncodedBody,
        sink: Sink,
    ) -> (u64, Option<Instant>) {
        if self.closed.load(Ordering::Relaxed) {
            return Self::turn_away(sink, NotSent::Closed);
        }
        let Some(body) = self.backlog.admit(body) else {
            return Self::turn_away(sink, NotSent::QueueFull);
        };
        let deadline = timeout.and_then(|timeout| self.mailbox.now().checked_add(timeout));
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        self.mailbox.call(Command {
            channel: self.channel,
            id,
            head,
            deadline,
            body,
            done: Completion { sink: Some(sink), begun: false },
        });
        (id, deadline)
    }
}

impl<E> Stage<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    /// Submits the call if that has not been done yet. Returns what to wait for.
    fn begin(&mut self) -> Result<&mut Waiting, CallFailure> {
        if let Self::New { .. } = self
            && let Self::New { handle, head, timeout, encode } =
                core::mem::replace(self, Self::Done)
        {
            let (sender, receiver) = oneshot::async_channel();
            let (id, deadline) = handle.submit(head, timeout, encode, Sink::Future(sender));
            *self = Self::Waiting(Waiting { outcome: Some(receiver), handle, id, deadline });
        }
        match self {
            Self::Waiting(waiting) => Ok(waiting),
            Self::New { .. } | Self::Done => Err(CallFailure::Reused),
        }
    }
}

impl<E> Future for SharedCall<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let stage = self.project().stage;
        let outcome = match stage.begin() {
            Ok(waiting) => ready!(waiting.poll(context)),
            Err(failure) => Err(failure),
        };
        *stage = Stage::Done;
        Poll::Ready(outcome)
    }
}

impl Waiting {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(receiver) = &mut self.outcome else {
            return Poll::Ready(Err(CallFailure::Reused));
        };
        let received = ready!(Pin::new(receiver).poll(context));
        self.outcome = None;
        // A completion always sends something before it is dropped.
        Poll::Ready(received.unwrap_or(Err(CallFailure::Unknown(CloseReason::LocallyClosed))))
    }
}

/// How long after its deadline a thread waits for the driver to say that it has passed.
const GRACE: Duration = Duration::from_millis(100);
/// And how long it waits if it looks much later than that.
const GRACE_LATE: Duration = Duration::from_secs(1);

impl<E> Pending for SharedCall<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
{
    fn wait(mut self) -> Outcome {
        if let Stage::New { handle, .. } = &self.stage
            && !handle.mailbox.may_block()
        {
            return Err(CallFailure::NotSent(NotSent::WouldBlock));
        }
        let waiting = self.stage.begin()?;
        let until = waiting.deadline.and_then(|deadline| deadline.checked_add(GRACE));
        let mut outcome = block_on(poll_fn(|context| waiting.poll(context)), until);
        let late = until.map(|until| Instant::now().saturating_duration_since(until));
        if outcome.is_none() && late > Some(GRACE) {
            // The whole process was away. The driver must first read what has arrived meanwhile.
            let until = Instant::now().checked_add(GRACE_LATE);
            outcome = block_on(poll_fn(|context| waiting.poll(context)), until);
        }
        outcome.unwrap_or(Err(CallFailure::DeadlineExceeded { sent: true }))
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        let Stage::New { handle, head, timeout, encode } = self.stage else {
            return done(Err(CallFailure::Reused));
        };
        handle.submit(head, timeout, encode, Sink::Callback(Box::new(done)));
    }
}
