//! The caller's handle on a connection, for code that runs on a shard.
//!
//! A [`Channel`] is one logical connection to one address. It connects when the first call needs it,
//! reconnects with jittered exponential back-off, and carries any number of calls at once. All its
//! clones share one socket, which the shard's driver owns; a call writes its request into the
//! channel's send buffer and the driver sends what has gathered once per turn.

use bytes::Bytes;
use corewire_codec::{
    CancelReason, FrameTooLarge, FrameWriter, ReplyHead, RequestHead, SendBuffer,
};
use corewire_proto::{ClientConfig, ClientConnection, CloseReason};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::address::IntoAddress;
use crate::io::Token;
use crate::local::Local;

/// How a channel behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Limits and timeouts of each connection.
    pub connection: ClientConfig,
    /// From the start of a connect to its end. Default 3 s.
    pub connect_timeout: Duration,
    /// The wait after the first failed connect; it doubles with each further one. Default 50 ms.
    pub backoff_min: Duration,
    /// The longest wait. Default 5 s. Each wait is drawn between half of it and all of it.
    pub backoff_max: Duration,
    /// Calls that may wait for a slot or for the connection. Default 65,536; one more fails at once.
    pub waiting_max: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connection: ClientConfig::default(),
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            waiting_max: 65_536,
        }
    }
}

/// Why a call has no reply. Each variant says whether the call may have run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// Nothing of it was sent. Always safe to try again.
    NotSent(NotSent),
    /// The server said that it did not run it. Always safe to try again.
    Refused,
    /// It was sent, and then the connection ended: it may have run.
    Unknown(CloseReason),
    /// The caller's time is over. `sent` tells whether it may have run.
    DeadlineExceeded {
        /// Whether the request had been handed to the connection.
        sent: bool,
    },
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotSent {
    /// There is no connection; the text says since when and why.
    NoConnection(String),
    /// Too many calls wait already.
    QueueFull,
    /// The request is larger than the server accepts.
    TooLarge(FrameTooLarge),
    /// The arguments cannot be encoded.
    Encode(String),
    /// The code does not run on a shard of the engine.
    NotOnShard,
}

impl std::fmt::Display for NotSent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoConnection(why) => f.write_str(why),
            Self::QueueFull => f.write_str("too many calls wait on this channel already"),
            Self::TooLarge(error) => error.fmt(f),
            Self::Encode(why) => f.write_str(why),
            Self::NotOnShard => f.write_str(
                "channels work on the shard that made them; run this code with corewire::block_on_shard",
            ),
        }
    }
}

/// Why a channel could not be made, or has no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none; the text says why.
    Address(String),
    /// There is no connection.
    NotConnected(NotSent),
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(why) => f.write_str(why),
            Self::NotConnected(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {}

impl std::error::Error for NotSent {}

/// A reply, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its fields.
    pub head: ReplyHead,
    /// Its body: a slice of what was received.
    pub body: Bytes,
}

/// What one call waits for.
#[derive(Debug)]
struct CallState {
    call: u32,
    waker: Option<Waker>,
    outcome: Option<Result<Reply, CallFailure>>,
}

/// Where the channel's connection is.
#[derive(Debug)]
pub(crate) enum Link {
    /// None, and none is wanted. After a failure, not before `retry_at`.
    Down { retry_at: Option<Instant>, why: String },
    /// The driver was asked for one.
    Connecting,
    /// There is one.
    Up { token: Token, proto: Box<ClientConnection<usize>> },
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    waker: Waker,
    deadline: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) link: Link,
    pub(crate) out: SendBuffer,
    calls: Slab<CallState>,
    waiting: VecDeque<Waiting>,
    waiting_ids: u64,
    /// Connects that failed in a row.
    failures: u32,
    /// The shard that the server's hello named.
    server_shard: Option<(u16, u16)>,
    connection_id: Option<u64>,
}

/// What channel and driver share.
#[derive(Debug)]
pub(crate) struct ChannelCore {
    pub(crate) address: SocketAddr,
    pub(crate) config: ChannelConfig,
    pub(crate) connection: Rc<ClientConfig>,
    pub(crate) state: RefCell<ChannelState>,
    local: Rc<Local>,
    /// No handle is left: the driver closes the connection.
    pub(crate) released: Cell<bool>,
    jitter: Cell<u64>,
}

/// Tells the driver when the last handle is gone.
#[derive(Debug)]
struct Handle(Rc<ChannelCore>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.released.set(true);
        if let Link::Up { token, .. } = self.0.state.borrow().link {
            self.0.local.mark_dirty(token);
        }
    }
}

/// One logical connection to one server. Cheap to clone; clones share the connection.
///
/// It belongs to the shard it was made on.
#[derive(Clone, Debug)]
pub struct Channel {
    handle: Rc<Handle>,
}

impl Channel {
    /// A channel that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// [`NotSent::NotOnShard`] when the thread is not a shard's.
    pub fn new(address: SocketAddr, config: ChannelConfig) -> Result<Self, NotSent> {
        let local = Local::current().ok_or(NotSent::NotOnShard)?;
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), address);
        let core = ChannelCore {
            address,
            connection: Rc::new(config.connection),
            config,
            state: RefCell::new(ChannelState {
                link: Link::Down { retry_at: None, why: String::new() },
                out: SendBuffer::new(),
                calls: Slab::new(),
                waiting: VecDeque::new(),
                waiting_ids: 0,
                failures: 0,
                server_shard: None,
                connection_id: None,
            }),
            local,
            released: Cell::new(false),
            jitter: Cell::new(seed | 1),
        };
        Ok(Self { handle: Rc::new(Handle(Rc::new(core))) })
    }

    /// A channel with the default configuration, connected.
    ///
    /// # Errors
    ///
    /// The address is none, or there is no connection.
    pub async fn connect(address: impl IntoAddress) -> Result<Self, ConnectError> {
        Self::connect_with(address, ChannelConfig::default()).await
    }

    /// A connected channel.
    ///
    /// # Errors
    ///
    /// The address is none, or there is no connection.
    pub async fn connect_with(
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        let address = address.into_address().map_err(ConnectError::Address)?;
        let channel = Self::new(address, config).map_err(ConnectError::NotConnected)?;
        channel.ready().await.map_err(ConnectError::NotConnected)?;
        Ok(channel)
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.core().address
    }

    /// Which of the server's shards answers, and how many it has; `None` before the first hello.
    #[must_use]
    pub fn server_shard(&self) -> Option<(u16, u16)> {
        self.core().state.borrow().server_shard
    }

    /// The connection's id in the server's process; `None` before the first hello.
    #[must_use]
    pub fn connection_id(&self) -> Option<u64> {
        self.core().state.borrow().connection_id
    }

    /// Connects now, if there is no connection, and waits for the server's hello.
    ///
    /// Dropping the future leaves the connect going.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub async fn ready(&self) -> Result<(), NotSent> {
        let mut ticket = Ticket { core: self.core(), id: None };
        poll_fn(|context| {
            let mut state = self.core().state.borrow_mut();
            if let Link::Up { proto, .. } = &state.link
                && proto.is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            match state.want_connection(self.core(), now) {
                Ok(()) => ticket.wait(&mut state, context, None).map(Err),
                Err(why) => Poll::Ready(Err(NotSent::NoConnection(why))),
            }
        })
        .await
    }

    /// Makes a call. `head.call` and `head.timeout_us` are filled in here; `encode` writes the body,
    /// once, when the request is put into the send buffer.
    ///
    /// Waits for the connection, and for a slot when as many calls are in flight as the server
    /// accepts. Dropping the future cancels the call on the server.
    ///
    /// # Errors
    ///
    /// Why there is no reply; a reply with any status is not an error here.
    pub async fn call<E: std::fmt::Display>(
        &self,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    ) -> Result<Reply, CallFailure> {
        let core = self.core();
        let deadline = timeout.and_then(|timeout| core.local.now().checked_add(timeout));
        let mut encode = Some(encode);
        let mut ticket = Ticket { core, id: None };
        let key = poll_fn(|context| {
            let state = &mut *core.state.borrow_mut();
            let waited = ticket.id.is_some();
            match state.try_begin(core, &mut ticket, deadline) {
                Begin::Slot(key) => {
                    // The closure is there: only this arm takes it, and it is reached once.
                    let Some(encode) = encode.take() else { return Poll::Pending };
                    // What was spent in the line is no longer the server's.
                    let left = match (waited, deadline) {
                        (true, Some(deadline)) => {
                            Some(deadline.saturating_duration_since(Instant::now()))
                        }
                        _ => timeout,
                    };
                    Poll::Ready(state.send(core, key, &mut head, left, encode).map(|()| key))
                }
                Begin::Wait => ticket
                    .wait(state, context, deadline)
                    .map(|failure| Err(CallFailure::NotSent(failure))),
                Begin::Failed(failure) => Poll::Ready(Err(failure)),
            }
        })
        .await?;
        let mut pending = PendingReply { core, key: Some(key) };
        poll_fn(|context| pending.poll(context)).await
    }

    fn core(&self) -> &Rc<ChannelCore> {
        &self.handle.0
    }
}

/// How an attempt to begin a call went.
enum Begin {
    Slot(usize),
    Wait,
    Failed(CallFailure),
}

impl ChannelState {
    /// Takes a slot if the connection is up and has one.
    fn try_begin(
        &mut self,
        core: &Rc<ChannelCore>,
        ticket: &mut Ticket<'_>,
        deadline: Option<Instant>,
    ) -> Begin {
        let first = ticket.id.is_none();
        if !first && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Begin::Failed(CallFailure::DeadlineExceeded { sent: false });
        }
        if let Link::Up { proto, .. } = &mut self.link {
            // Those who wait already come first, unless this is one of them and it was woken.
            let turn =
                if first { self.waiting.is_empty() } else { ticket.place(&self.waiting).is_none() };
            if turn && proto.has_slot() {
                let entry = self.calls.vacant_entry();
                let key = entry.key();
                if let Ok(call) = proto.begin_call(key, deadline) {
                    entry.insert(CallState { call, waker: None, outcome: None });
                    ticket.id = None;
                    return Begin::Slot(key);
                }
            }
            return Begin::Wait;
        }
        match self.want_connection(core, Instant::now()) {
            Ok(()) => Begin::Wait,
            Err(why) => Begin::Failed(CallFailure::NotSent(NotSent::NoConnection(why))),
        }
    }

    /// Asks the driver for a connection, unless a failed one is too recent.
    fn want_connection(&mut self, core: &Rc<ChannelCore>, now: Instant) -> Result<(), String> {
        if let Link::Down { retry_at, why } = &self.link {
            if let Some(retry_at) = retry_at.filter(|&at| at > now) {
                let wait = retry_at - now;
                return Err(format!(
                    "no connection to {}: {why}; the next try is in {wait:.0?}",
                    core.address
                ));
            }
            self.link = Link::Connecting;
            core.local.connect(Rc::clone(core));
        }
        Ok(())
    }

    /// Appends the request of a call that has its slot.
    fn send<E: std::fmt::Display>(
        &mut self,
        core: &Rc<ChannelCore>,
        key: usize,
        head: &mut RequestHead,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    ) -> Result<(), CallFailure> {
        let (Link::Up { token, proto }, Some(state)) = (&mut self.link, self.calls.get(key)) else {
            return Err(CallFailure::NotSent(NotSent::QueueFull));
        };
        head.call = state.call;
        head.timeout_us =
            timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
        let was_empty = self.out.is_empty();
        let mut frame = self.out.request(head, None);
        let failure = match encode(&mut frame) {
            Ok(()) => match frame.finish(proto.peer_frame_bytes_max()) {
                Ok(()) => {
                    if was_empty {
                        core.local.mark_dirty(*token);
                    }
                    return Ok(());
                }
                Err(error) => NotSent::TooLarge(error),
            },
            Err(error) => {
                drop(frame);
                NotSent::Encode(error.to_string())
            }
        };
        proto.unsend(head.call);
        self.calls.remove(key);
        Err(CallFailure::NotSent(failure))
    }

    /// The connection is there: calls may begin.
    pub(crate) fn handle_connected(&mut self, token: Token, proto: Box<ClientConnection<usize>>) {
        self.link = Link::Up { token, proto };
        self.wake_waiting(usize::MAX);
    }

    /// The server's hello is here.
    pub(crate) fn handle_ready(&mut self) {
        if let Link::Up { proto, .. } = &self.link {
            self.server_shard = proto.peer().shard;
            self.connection_id = proto.peer().connection_id;
        }
        self.failures = 0;
        self.wake_waiting(usize::MAX);
    }

    /// A call ended.
    #[inline]
    pub(crate) fn complete(&mut self, key: usize, outcome: Result<Reply, CallFailure>) {
        if let Some(state) = self.calls.get_mut(key) {
            state.outcome = Some(outcome);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// Lets up to `count` of those who wait try again.
    pub(crate) fn wake_waiting(&mut self, count: usize) {
        for _ in 0..count.min(self.waiting.len()) {
            if let Some(waiting) = self.waiting.pop_front() {
                waiting.waker.wake();
            }
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The earliest time at which somebody who waits for a slot stops waiting.
    pub(crate) fn waiting_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.deadline).min()
    }

    /// Wakes those whose time is over; they find out themselves.
    pub(crate) fn wake_expired(&mut self, now: Instant) {
        if self.waiting_deadline().is_some_and(|deadline| deadline <= now) {
            self.wake_waiting(usize::MAX);
        }
    }

    /// The connection ended, or could not be made. Calls in flight fail; the next call connects
    /// again, after the back-off if this one never worked.
    pub(crate) fn handle_down(&mut self, core: &ChannelCore, reason: CloseReason, now: Instant) {
        let link = core::mem::replace(&mut self.link, Link::Connecting);
        let mut worked = false;
        if let Link::Up { mut proto, .. } = link {
            worked = proto.is_ready();
            for failed in proto.fail_all() {
                let failure = match failed.may_have_run {
                    true => CallFailure::Unknown(reason),
                    false => CallFailure::Refused,
                };
                self.complete(failed.work, Err(failure));
            }
        }
        self.out.clear();
        let retry_at = if worked {
            None
        } else {
            self.failures = self.failures.saturating_add(1);
            Some(now + core.backoff(self.failures))
        };
        self.link = Link::Down { retry_at, why: reason.to_string() };
        self.wake_waiting(usize::MAX);
    }
}

impl ChannelCore {
    /// The wait after this many failures: exponential, capped, and drawn from its upper half so that
    /// clients that lost one server do not come back together.
    fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let wait =
            self.config.backoff_min.saturating_mul(1 << doublings).min(self.config.backoff_max);
        // Xorshift64 (Marsaglia 2003): good enough to spread clients, and needs no dependency.
        let mut x = self.jitter.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.jitter.set(x);
        let half = wait / 2;
        half + half.mul_f64(f64::from((x >> 40) as u32 & 0xff_ffff) / f64::from(1 << 24))
    }
}

/// A place in the line for a slot; leaving it unused passes the turn on.
struct Ticket<'a> {
    core: &'a Rc<ChannelCore>,
    id: Option<u64>,
}

impl Ticket<'_> {
    /// Where in the line this is; nowhere once it was woken. Ids ascend along the line.
    fn place(&self, line: &VecDeque<Waiting>) -> Option<usize> {
        line.binary_search_by_key(&self.id?, |waiting| waiting.id).ok()
    }

    /// Gets into the line, or stays in it; `Ready` when the line is full.
    fn wait(
        &mut self,
        state: &mut ChannelState,
        context: &Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<NotSent> {
        let place = self.place(&state.waiting);
        if let Some(place) = place.and_then(|place| state.waiting.get_mut(place)) {
            place.waker.clone_from(context.waker());
            return Poll::Pending;
        }
        if state.waiting.len() >= self.core.config.waiting_max {
            return Poll::Ready(NotSent::QueueFull);
        }
        state.waiting_ids += 1;
        let id = state.waiting_ids;
        self.id = Some(id);
        state.waiting.push_back(Waiting { id, waker: context.waker().clone(), deadline });
        if let (Link::Up { token, .. }, Some(_)) = (&state.link, deadline) {
            // The driver's timer must know the deadline.
            self.core.local.mark_dirty(*token);
        }
        Poll::Pending
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.id.is_none() {
            return;
        }
        let state = &mut *self.core.state.borrow_mut();
        match self.place(&state.waiting) {
            Some(place) => drop(state.waiting.remove(place)),
            // It was woken for a turn that it will not use.
            None => state.wake_waiting(1),
        }
    }
}

/// A call in flight; dropping it cancels the call.
struct PendingReply<'a> {
    core: &'a Rc<ChannelCore>,
    key: Option<usize>,
}

impl PendingReply<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Reply, CallFailure>> {
        let mut state = self.core.state.borrow_mut();
        // The entry stays until this future takes its outcome or is dropped.
        let Some((key, call)) = self.key.and_then(|key| Some((key, state.calls.get_mut(key)?)))
        else {
            return Poll::Pending;
        };
        match call.outcome.take() {
            Some(outcome) => {
                state.calls.remove(key);
                self.key = None;
                Poll::Ready(outcome)
            }
            None => {
                match &mut call.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for PendingReply<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let state = &mut *self.core.state.borrow_mut();
        let Some(call) = state.calls.try_remove(key) else { return };
        if let (None, Link::Up { token, proto }) = (&call.outcome, &mut state.link) {
            proto.abandon(call.call, CancelReason::Dropped, &mut state.out);
            self.core.local.mark_dirty(*token);
        }
    }
}
