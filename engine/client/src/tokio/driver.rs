//! A shared channel whose connection is a task of a tokio runtime.
//!
//! The task is one future, polled for whatever happened: the bell, readiness, the timer. Everything
//! between two polls is synchronous, as on a shard.

use corewire_proto::{ClientConfig, CloseReason};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use corewire_codec::{SendBuffer, request_flags};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::streams::{Deliver, Streams};
use super::{late, watch};
use crate::address::{Address, IntoAddress};
use crate::config::{ChannelConfig, Reply};
use crate::failure::{CallFailure, ConnectError, NotSent, connect_failure};
use crate::log_limit::{Topic, admit_here};
use crate::reconnect::{Backoff, random_seed};
use crate::remote::SharedChannel;
use crate::remote::command::{Command, Completion, Control, Hold};
use crate::remote::mailbox::{Inbox, Mailbox};
use crate::resolver::Resolver;
use crate::session::{RECEIVE_BYTES, SEND_BYTES_MAX, SLICES_MAX, Session};
use crate::tokio::bell::TaskBell;
use crate::wait_queue::Line;

/// How long a connection that takes nothing more may go on to bring something: what the server said
/// before it left tells which calls it has not run.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Receives before other tasks of the runtime have their turn.
pub(super) const RECEIVES_PER_POLL: usize = 16;

impl SharedChannel {
    /// A channel to `address` whose connection is a task of the tokio runtime that this is called
    /// in. It connects when it is first used; the task ends with the last handle and the last call.
    ///
    /// # Errors
    ///
    /// The address is none, a setting is outside its range, or there is no runtime here.
    pub fn on_tokio(
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ConnectError::NotConnected(NotSent::NoRuntime))?;
        let (bell, rings) = mpsc::channel(1);
        let heard = bell.downgrade();
        let (mailbox, inbox) = Mailbox::new(TaskBell(bell));
        let driver = Driver {
            address: address.clone(),
            inbox,
            rings,
            rung: true,
            link: Link::Down { retry_at: None, why: String::new() },
            backoff: Backoff::new(random_seed()),
            write_failed: None,
            waiting: Line::default(),
            calls: HashMap::new(),
            streams: Streams::default(),
            retired: Vec::new(),
            is_retired: false,
            is_closed: false,
            closing: Vec::new(),
            timer: None,
            unread: 0,
            connection: Arc::new(config.connection),
            config,
        };
        let channel = Self::new(Arc::new(mailbox), 0, address, &driver.config);
        runtime.spawn(watch::watched(driver, heard));
        Ok(channel)
    }
}

/// A stream of either family.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn connect(address: Address, resolver: Resolver, within: Duration) -> io::Result<Self> {
        match address {
            Address::Name { host, port } => {
                let dialing = crate::remote::dial(&resolver, &host, port, within)?;
                // The sender is gone without a word only if a resolver panicked.
                let lost = |_| io::Error::other("the lookup of the server's name panicked");
                let stream = dialing.await.map_err(lost)??;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                TcpStream::from_std(stream).map(Self::Tcp)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                crate::self_connect::refuse(stream.local_addr().ok(), stream.peer_addr().ok())?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, into: &mut bytes::BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(into),
            Self::Unix(stream) => stream.try_read_buf(into),
        }
    }

    fn try_write(&self, from: &SendBuffer) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = from.chunks(&mut slices, SEND_BYTES_MAX);
        let slices = slices.get(..filled).unwrap_or(&[]);
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

pub(super) enum Link {
    /// None, and none is wanted. After a failure, not before `retry_at`.
    Down {
        retry_at: Option<Instant>,
        why: String,
    },
    Connecting(Connecting),
    Up {
        stream: Stream,
        session: Box<Session<InFlight>>,
    },
}

/// What is kept for a call in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) done: Completion,
}

/// The connection, if there is one.
fn session(link: &mut Link) -> Option<&mut Session<InFlight>> {
    match link {
        Link::Up { session, .. } => Some(session),
        Link::Down { .. } | Link::Connecting(_) => None,
    }
}

pub(super) struct Driver {
    pub(super) address: Address,
    pub(super) config: ChannelConfig,
    pub(super) connection: Arc<ClientConfig>,
    pub(super) inbox: Inbox,
    pub(super) rings: mpsc::Receiver<()>,
    /// Whether the bell was rung since the queues were looked at.
    pub(super) rung: bool,
    pub(super) link: Link,
    pub(super) backoff: Backoff,
    /// How a write failed, and until when the connection is still received from.
    pub(super) write_failed: Option<(io::Error, Instant)>,
    /// Calls that wait for a slot or for the connection.
    pub(super) waiting: Line,
    /// The ids on the wire of calls in flight, by their names.
    pub(super) calls: HashMap<u64, u32>,
    /// The calls that stream, also those that are over and not read to their end.
    pub(super) streams: Streams,
    /// Tells the tasks that finish the calls of connections whose servers went away.
    pub(super) retired: Vec<Mailbox>,
    /// Whether this is such a task: it makes no connection of its own.
    pub(super) is_retired: bool,
    /// No call begins any more.
    pub(super) is_closed: bool,
    /// Those who wait until the connections are gone.
    pub(super) closing: Vec<Hold>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// In how many turns in a row more may have arrived than was read.
    pub(super) unread: u8,
}

impl Driver {
    /// One turn; `Ready` when nobody can call any more and nothing is in flight.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_last = self.poll_bell(context);
            let now = Instant::now();
            self.take(now);
            let mut again = self.poll_link(context, now);
            self.waiting.expire(now);
            let held = self.begin_waiting(now);
            self.close_if_told();
            self.serve_streams();
            self.flush(context, now);
            if self.streams.has_ready(self.unsent()) {
                // Other tasks of the runtime have their turn in between.
                context.waker().wake_by_ref();
            }
            again |= held && self.unsent() <= self.config.unsent_max;
            again |= self.end_if_over(now);
            if again {
                continue;
            }
            if is_last && self.is_over() {
                self.leave(context, now);
                return Poll::Ready(());
            }
            if self.is_retired && matches!(self.link, Link::Down { .. }) {
                return Poll::Ready(());
            }
            // What is due waits until what arrived is read, for which this task was woken already.
            if self.unread > 0 || self.poll_timer(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Hears the bell; answers whether no handle is left.
    pub(super) fn poll_bell(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match self.rings.poll_recv(context) {
                Poll::Ready(Some(())) => self.rung = true,
                Poll::Ready(None) => {
                    self.rung = true;
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty()
            && self.calls.is_empty()
            && self.streams.is_empty()
            && !self.inbox.has_news()
            && self.unsent() == 0
    }

    pub(super) fn take(&mut self, now: Instant) {
        if !core::mem::take(&mut self.rung) {
            return;
        }
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                Control::Cancel(id) => self.cancel(id),
                Control::Stream(id) if self.streams.has(id) => {
                    self.streams.settle(id, session(&mut self.link));
                }
                Control::Stream(id) => {
                    self.retired.iter().for_each(|retired| retired.control(Control::Stream(id)));
                }
                Control::Spawn(future) => drop(tokio::spawn(future.0)),
                Control::Open { .. } | Control::Release(_) => {}
                Control::Close { hold, .. } => self.tell_of_close(hold),
            }
        }
        self.take_calls(now);
    }

    pub(super) fn take_calls(&mut self, now: Instant) {
        while let Ok(command) = self.inbox.calls.try_recv() {
            if command.done.is_abandoned() {
                continue;
            }
            if self.is_closed {
                command.done.complete(Err(CallFailure::NotSent(NotSent::Closed)));
                continue;
            }
            if self.waiting.len() >= self.config.waiting_max {
                self.begin_waiting(now);
            }
            if self.waiting.len() >= self.config.waiting_max {
                command.done.complete(Err(CallFailure::NotSent(NotSent::QueueFull)));
                continue;
            }
            if let Err(why) = self.want_connection(now) {
                let failure = NotSent::NoConnection(why);
                command.done.complete(Err(CallFailure::NotSent(failure)));
                continue;
            }
            self.waiting.push(command);
        }
    }

    /// Nobody polls the runtime: ends the calls whose time is over, and leaves everything else as it is.
    pub(super) fn expire(&mut self, now: Instant) {
        self.take_calls(now);
        if let Link::Up { session, .. } = &mut self.link {
            let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
            session.expire(now, &mut events);
        }
        self.streams.wake_readers();
        self.waiting.expire(now);
    }

    /// A time no later than that at which the first of the calls is over.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Up { session, .. } => session.earliest_deadline(),
            Link::Down { .. } | Link::Connecting(_) => None,
        };
        [link, self.waiting.deadline()].into_iter().flatten().min()
    }

    pub(super) fn cancel(&mut self, id: u64) {
        self.streams.forget(id, session(&mut self.link));
        if let Some(call) = self.calls.remove(&id) {
            if let Link::Up { session, .. } = &mut self.link {
                drop(session.cancel(call));
            }
        } else {
            self.waiting.handle_cancel();
            self.retired.iter().for_each(|retired| retired.control(Control::Cancel(id)));
        }
    }

    /// Begins to connect, unless a failure is too recent.
    pub(super) fn want_connection(&mut self, now: Instant) -> Result<(), String> {
        match &self.link {
            Link::Down { retry_at: Some(retry_at), why } if *retry_at > now => {
                let wait = *retry_at - now;
                Err(format!(
                    "no connection to {}: {why}; the next try is in {wait:.0?}",
                    self.address
                ))
            }
            Link::Down { .. } => {
                let limit = self.config.connect_timeout;
                let resolver = self.config.resolver.clone();
                let connect = Stream::connect(self.address.clone(), resolver, limit);
                self.link = Link::Connecting(Box::pin(async move {
                    let elapsed = |_| io::Error::from(io::ErrorKind::TimedOut);
                    tokio::time::timeout(limit, connect).await.map_err(elapsed)?
                }));
                Ok(())
            }
            Link::Up { session, .. } if session.is_draining() => Err(format!(
                "the server at {} is shutting down; its calls are finished first",
                self.address
            )),
            Link::Connecting(_) | Link::Up { .. } => Ok(()),
        }
    }

    /// Connects or receives; answers whether there may be more to do.
    pub(super) fn poll_link(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let unread = core::mem::take(&mut self.unread);
        match &mut self.link {
            Link::Down { .. } => false,
            Link::Connecting(connecting) => match connecting.as_mut().poll(context) {
                Poll::Pending => false,
                Poll::Ready(Ok(stream)) => {
                    let session = Box::new(Session::new(&self.connection, now));
                    self.link = Link::Up { stream, session };
                    tracing::debug!(server = %self.address, "connected");
                    true
                }
                Poll::Ready(Err(error)) => {
                    self.handle_down(connect_failure(&error), false, now);
                    true
                }
            },
            Link::Up { .. } => {
                self.receive(context, now, unread);
                false
            }
        }
    }

    /// Receives, and does what is due. The turns before this one have left something unread.
    pub(super) fn receive(&mut self, context: &mut Context<'_>, now: Instant, turns: u8) {
        let Link::Up { stream, session } = &mut self.link else { return };
        let mut events = Deliver { calls: &mut self.calls, streams: &mut self.streams };
        for round in 0.. {
            if round == RECEIVES_PER_POLL {
                context.waker().wake_by_ref();
                self.unread = turns.saturating_add(1);
                break;
            }
            let ready = match stream.poll_read_ready(context) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready,
            };
            let room = session.recv.room_wanted().max(RECEIVE_BYTES);
            let received = ready.and_then(|()| stream.try_read(session.recv.storage(room)));
            match received {
                Ok(0) => session.handle_eof(),
                Ok(_) => session.handle_received(now, &mut events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => session.handle_error(&error),
            }
            if session.close_reason().is_some() {
                break;
            }
        }
        let is_late = self.unread == 0 && session.is_late(now);
        if is_late && !late::look(stream, session, &mut events, now) {
            context.waker().wake_by_ref();
            self.unread = turns.saturating_add(1);
        }
        session.handle_timeout(now, self.unread, &mut events);
        // Once for all that this turn brought.
        self.streams.wake_readers();
    }

    /// Bytes that wait for the socket.
    pub(super) fn unsent(&self) -> usize {
        match &self.link {
            Link::Up { session, .. } => session.out.len(),
            Link::Down { .. } | Link::Connecting(_) => 0,
        }
    }

    /// Sends the calls that wait, as many as there are slots; answers whether some are left because
    /// too much waits for the socket.
    pub(super) fn begin_waiting(&mut self, now: Instant) -> bool {
        let Link::Up { session, .. } = &mut self.link else { return false };
        // Only the server's hello says how large a request may be.
        while session.is_ready() && session.has_slot() && self.write_failed.is_none() {
            if session.out.len() > self.config.unsent_max {
                return !self.waiting.is_empty();
            }
            let Some(command) = self.waiting.pop() else { break };
            let Command { id, head, deadline, body, mut done, .. } = command;
            done.begun = true;
            let encode = |frame: &mut corewire_codec::FrameWriter<'_>| {
                body.write_to(frame);
                Ok(())
            };
            if head.flags & request_flags::ONE_WAY != 0 {
                let written = session.one_way(head, deadline, now, encode);
                let outcome = written.map(|()| Reply::written()).map_err(CallFailure::NotSent);
                done.complete(outcome);
                continue;
            }
            let port = done.port().cloned();
            match session.request(head, deadline, now, InFlight { id, done }, encode) {
                Ok(call) => {
                    self.calls.insert(id, call);
                    if let Some(port) = port {
                        let (own, peer) = session.limits();
                        port.begin(own, peer.in_flight.get());
                        self.streams.open(id, call, port);
                    }
                }
                Err((Some(call), failure)) => {
                    call.done.complete(Err(CallFailure::NotSent(failure)))
                }
                Err((None, _)) => {}
            }
        }
        false
    }

    pub(super) fn serve_streams(&mut self) {
        if let Link::Up { session, .. } = &mut self.link
            && self.write_failed.is_none()
        {
            self.streams.serve(session);
        }
    }

    /// Writes what there is, first and without asking.
    pub(super) fn flush(&mut self, context: &mut Context<'_>, now: Instant) {
        let Link::Up { stream, session } = &mut self.link else { return };
        if let Some((error, until)) = &self.write_failed {
            session.out.clear();
            if *until <= now {
                session.handle_error(error);
            }
            return;
        }
        session.prepare_write(now);
        while !session.out.is_empty() {
            let failed = match stream.try_write(&session.out) {
                Ok(count) => {
                    session.handle_write(count, now);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    session.handle_write(0, now);
                    match stream.poll_write_ready(context) {
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(error)) => error,
                        Poll::Pending => return,
                    }
                }
                Err(error) => error,
            };
            self.write_failed = Some((failed, now + LAST_WORDS));
            return;
        }
    }

    /// Ends a connection that is over; calls that wait for it have their turn on the next one.
    pub(super) fn end_if_over(&mut self, now: Instant) -> bool {
        let Link::Up { session, .. } = &mut self.link else { return false };
        let Some(reason) = session.close_reason() else {
            return session.is_draining() && !self.is_closed && self.retire(now);
        };
        let proven = session.is_proven();
        self.handle_down(reason, proven, now);
        true
    }

    pub(super) fn handle_down(&mut self, reason: CloseReason, proven: bool, now: Instant) {
        let retry_at = self.backoff.handle_end(proven, &self.config, now);
        let down = Link::Down { retry_at, why: reason.to_string() };
        let link = core::mem::replace(&mut self.link, down);
        self.write_failed = None;
        let server = &self.address;
        if Topic::of_server(reason).is_some_and(|topic| admit_here(topic, now)) {
            tracing::warn!(%server, %reason, "connection lost");
        } else {
            tracing::debug!(%server, %reason, "connection closed");
        }
        if let Link::Up { mut session, .. } = link {
            let events = &mut Deliver { calls: &mut self.calls, streams: &mut self.streams };
            session.fail_all(reason, events);
            self.streams.handle_down();
            self.calls.clear();
        }
        if self.waiting.is_empty() {
            return;
        }
        if let Err(why) = self.want_connection(now) {
            self.fail_waiting(&why);
        }
    }

    pub(super) fn fail_waiting(&mut self, why: &str) {
        let failure = NotSent::NoConnection(why.to_owned());
        self.waiting.fail(&CallFailure::NotSent(failure));
    }

    /// Waits for the next time that something is due; `Ready` when it is now.
    pub(super) fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let link = match &self.link {
            Link::Up { session, .. } => session.poll_timeout(),
            _ => None,
        };
        let last_words = self.write_failed.as_ref().map(|(_, until)| *until);
        let Some(at) = [link, self.waiting.deadline(), last_words].into_iter().flatten().min()
        else {
            self.timer = None;
            return Poll::Pending;
        };
        let at = tokio::time::Instant::from_std(at);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(context));
        self.timer = None;
        Poll::Ready(())
    }
}
