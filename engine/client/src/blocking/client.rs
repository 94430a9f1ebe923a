//! What the clones of a blocking channel share: the core of the channel with its socket, and how calls are made.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire_codec::{FrameWriter, RequestHead, Status, request_flags};
use corewire_proto::{CloseReason, StreamKind, TransportError};

use super::link::{Link, Scratch, Turn};
use super::system::{Connect, System};
use super::waiter::{Caller, StreamCell};
use crate::address::Address;
use crate::config::{ChannelConfig, Reply};
use crate::core::channel::{ClientCore, PendingCall, ServerSide};
use crate::failure::{CallFailure, connect_failure};
use crate::streams::Event;
use crate::transport::Outcome;

/// What an encoder may read or set while its call has borrowed the client.
#[derive(Debug)]
pub(super) struct ChannelInfo {
    pub(super) address: Address,
    pub(super) server_side: Arc<ServerSide>,
    /// No call begins any more.
    pub(super) closed: Cell<bool>,
}

/// A connect under way, which may outlive the call that began it.
#[derive(Debug)]
struct Connecting {
    attempt: Box<dyn Connect>,
    /// When it times out.
    by: Option<Instant>,
    /// Whether it has timed out and was reported as a failure. It may go on: std cannot stop it.
    is_given_up: bool,
}

/// What the clones of a channel share.
pub(super) struct Client {
    info: Rc<ChannelInfo>,
    system: Box<dyn System>,
    pub(super) core: ClientCore<Caller>,
    /// The socket of the core's connection.
    link: Option<Link>,
    connecting: Option<Connecting>,
    /// How the call ended that this thread waits for.
    outcome: Rc<Cell<Option<Outcome>>>,
    streams: u64,
    scratch: Scratch,
    /// See [`Turn::now`].
    now: Instant,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Calls.
impl Client {
    pub(super) fn new(
        info: Rc<ChannelInfo>,
        config: ChannelConfig,
        system: Box<dyn System>,
    ) -> Self {
        // What is older goes out first: a call is written when nothing waits for the socket.
        let config = ChannelConfig { unsent_max: 0, ..config };
        let core = ClientCore::with_jitter(info.address.clone(), config, system.jitter());
        Self {
            core: core.telling(Arc::clone(&info.server_side)),
            info,
            now: system.now(),
            system,
            link: None,
            connecting: None,
            outcome: Rc::default(),
            streams: 0,
            scratch: Scratch::default(),
        }
    }

    pub(super) fn call<E>(
        &mut self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Outcome
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let deadline = self.deadline(timeout);
        let waiter = Caller::Call(Rc::clone(&self.outcome));
        self.begin(PendingCall { id: None, head, deadline, body: encode, waiter });
        // Whoever ends a call drops its share of the cell.
        while Rc::strong_count(&self.outcome) > 1 {
            self.step(deadline);
        }
        let reply =
            self.outcome.take().unwrap_or(Err(CallFailure::Unknown(CloseReason::LocallyClosed)))?;
        match head.flags & request_flags::ONE_WAY {
            0 => Ok(reply),
            _ => self.push_one_way(deadline),
        }
    }

    fn read_clock(&mut self) -> Instant {
        self.now = self.system.now();
        self.now
    }

    /// The deadline of a call that begins now.
    fn deadline(&mut self, timeout: Option<Duration>) -> Option<Instant> {
        let now = self.read_clock();
        timeout.and_then(|timeout| now.checked_add(timeout))
    }

    /// Hears what arrived since the last call, and makes this one: now, or as soon as the connection takes it.
    fn begin<E>(&mut self, call: PendingCall<Caller, E>)
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        self.drive(|turn| turn.catch_up());
        self.core.begin_with(call, |encode| Box::new(encode), self.now);
        if self.core.has_waiting() {
            self.settle();
        }
    }

    /// Writes a one-way call. If the socket takes only part of it before the deadline, the rest is sent before
    /// the next call.
    fn push_one_way(&mut self, deadline: Option<Instant>) -> Outcome {
        while self.has_unsent() {
            let mut late = None;
            let ended = self.drive(|turn| {
                // When it is due, the connection takes back what was not written, and says nothing of it.
                let pushed = turn.push_and(deadline, |turn| {
                    if deadline.is_some_and(|deadline| deadline <= *turn.now)
                        && turn.connection.unsent() > 0
                    {
                        let sent = !turn.connection.session.take_back_one_way();
                        late = Some(CallFailure::DeadlineExceeded { sent });
                    }
                });
                pushed.map(drop)
            });
            if let Some(failure) = late.or_else(|| ended.map(CallFailure::Unknown)) {
                return Err(failure);
            }
        }
        Ok(Reply::written())
    }

    /// Begins a streaming call. Returns its name and its cell when its request is written.
    pub(super) fn begin_stream<E>(
        &mut self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Result<(u64, Rc<StreamCell>), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let deadline = self.deadline(timeout);
        self.streams += 1;
        let (id, cell) = (self.streams, Rc::new(StreamCell::default()));
        cell.closed.set(!kind.client_sends());
        let waiter = Caller::Stream(Rc::clone(&cell));
        self.begin(PendingCall { id: Some(id), head, deadline, body: encode, waiter });
        while !cell.begun.get() && Rc::strong_count(&cell) > 1 {
            self.step(deadline);
        }
        if cell.begun.get() {
            self.with_stream(id, |turn| turn.push_now());
            return Ok((id, cell));
        }
        match cell.events.borrow_mut().pop_front() {
            Some(Event::Outcome(Err(failure))) => Err(failure),
            _ => Err(CallFailure::Unknown(CloseReason::LocallyClosed)),
        }
    }
}

/// Moving on.
impl Client {
    /// The connection with all that moves it, if there is one.
    fn current(&mut self) -> Option<Turn<'_>> {
        let Self { link, core, scratch, system, now, .. } = self;
        let link = link.as_mut()?;
        let connection = core.connection(link.connection)?;
        Some(Turn { link, connection, scratch, system: &**system, now })
    }

    /// Runs `work` on the connection that has the stream with this name.
    pub(super) fn with_stream<R>(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut Turn<'_>) -> R,
    ) -> Option<R> {
        let mut turn = self.current().filter(|turn| turn.connection.has_stream(id))?;
        Some(work(&mut turn))
    }

    fn has_unsent(&mut self) -> bool {
        self.current().is_some_and(|turn| turn.connection.unsent() > 0)
    }

    /// One turn of what the channel waits for: a connect, or what its connection brings. Returns at `until` at the
    /// latest, and earlier when something is due.
    fn step(&mut self, until: Option<Instant>) {
        if self.core.is_connecting() {
            self.connect(until);
            self.settle();
        } else if self.core.has_waiting() && self.has_unsent() {
            // What is written makes room for a call that waits, which is begun before the thread sleeps.
            self.drive(|turn| turn.push(until).map(drop));
        } else {
            self.drive(|turn| turn.step(until));
        }
    }

    /// Runs `work` on the connection, if there is one, and goes on with what that brought. Returns why the connection
    /// is over, if it is.
    fn drive(&mut self, work: impl FnOnce(&mut Turn<'_>) -> io::Result<()>) -> Option<CloseReason> {
        let hello_within = self.core.config().connection.timeouts.hello;
        let mut turn = self.current()?;
        if !turn.connection.session.is_ready()
            && turn.now.saturating_duration_since(turn.link.since) >= hello_within
        {
            turn.connection.handle_left_alone();
        }
        if let Err(error) = work(&mut turn) {
            turn.connection.session.handle_error(&error);
        }
        self.settle()
    }

    /// Lets the core go on with what happened: calls that wait are written or fail, and a connection that is over is
    /// dropped. Returns why it is over.
    fn settle(&mut self) -> Option<CloseReason> {
        if self.core.is_steady() {
            return None;
        }
        self.core.advance(self.now);
        let mut reason = None;
        if let Some(mut turn) = self.current() {
            reason = turn.connection.session.close_reason();
            if let Some(reason) = reason {
                turn.push_last();
                turn.link.socket.ending(reason);
            }
        }
        while let Some(ended) = self.core.poll_ended(self.now) {
            self.link.take_if(|link| link.connection == ended);
        }
        self.core.release_closed();
        reason
    }

    /// Waits for the connect that is under way or wanted, until this time.
    fn connect(&mut self, until: Option<Instant>) {
        let now = self.now;
        let within = self.core.config().connect_timeout;
        if self.core.takes_connect() {
            // One that was given up and still runs is waited for again.
            match &mut self.connecting {
                Some(it) if it.by.is_none_or(|by| by > now) => {}
                Some(it) => it.by = now.checked_add(within),
                None => return self.begin_connect(now),
            }
        }
        let Some(it) = &mut self.connecting else { return self.begin_connect(now) };
        let waited = it.attempt.wait([it.by, until].into_iter().flatten().min());
        let now = self.system.now();
        self.now = now;
        match waited {
            Some(Ok((socket, since))) => {
                self.connecting = None;
                let connection = self.core.handle_connected(now);
                self.link = Some(Link { connection, socket, since, unread: 0 });
            }
            // It was reported as a failure already.
            Some(Err(_)) if it.is_given_up => self.connecting = None,
            Some(Err(error)) => {
                self.connecting = None;
                self.fail_connect(&error, now);
            }
            None if it.by.is_some_and(|by| by <= now) => {
                it.is_given_up = true;
                self.core.handle_connect_failed(CloseReason::ConnectTimeout, now);
            }
            None => {}
        }
    }

    fn begin_connect(&mut self, now: Instant) {
        let config = self.core.config();
        let within = config.connect_timeout;
        match self.system.connect(&self.info.address, &config.resolver, within) {
            Ok(attempt) => {
                let by = now.checked_add(within);
                self.connecting = Some(Connecting { attempt, by, is_given_up: false });
            }
            Err(error) => self.fail_connect(&error, now),
        }
    }

    /// A connect failed: callers are told the operating system's error with its remedy, or the error's own text.
    fn fail_connect(&mut self, error: &io::Error, now: Instant) {
        let reason = connect_failure(error);
        let why = match error.kind() {
            _ if error.raw_os_error().is_some() => TransportError::from(error).to_string(),
            io::ErrorKind::TimedOut => reason.to_string(),
            _ => error.to_string(),
        };
        self.core.handle_connect_failed_because(reason, why, now);
    }

    /// Connects, and waits for the server's hello. The timeouts of both bound this.
    pub(super) fn ensure_connected(&mut self) -> Result<(), CallFailure> {
        self.read_clock();
        while !self.core.is_connected() {
            self.core.want_connection(self.now).map_err(CallFailure::NotSent)?;
            self.step(None);
        }
        Ok(())
    }

    /// See [`Channel::turn`](super::Channel::turn).
    pub(super) fn turn(&mut self) {
        self.read_clock();
        // What was received is looked at before this thread sleeps for more.
        self.drive(|turn| match turn.connection.unsent() {
            0 => turn.step(None),
            _ => turn.push(None).map(drop),
        });
    }

    /// Nobody reads the stream with this name any more: gives its call up, unless it is over. What is unsent is then
    /// written, for at most `within`.
    pub(super) fn abandon(&mut self, id: u64, over: bool, within: Duration) {
        let Some(mut turn) = self.current() else { return };
        if over {
            turn.connection.cancel(id);
            return turn.push_now();
        }
        turn.connection.cancel(id);
        let by = self.read_clock() + within;
        while self.has_unsent() && self.now < by {
            self.drive(|turn| turn.push(None).map(drop));
        }
        self.rest();
    }

    /// Gives back memory that only large calls need, unless other calls are in flight.
    pub(super) fn rest(&mut self) {
        if let Some(mut turn) = self.current() {
            if turn.connection.session.in_flight() != 0 {
                return;
            }
            turn.shrink();
        }
        self.scratch.shrink();
    }
}

/// Closing.
impl Client {
    /// Catches up on the close if an encoder closed the channel while it wrote its request.
    pub(super) fn close_if_told(&mut self) {
        if self.info.closed.get() {
            self.close();
        }
    }

    pub(super) fn close(&mut self) {
        self.read_clock();
        self.core.close(());
        self.connecting = None;
        self.settle();
        while self.has_unsent() {
            self.drive(|turn| turn.push(None).map(drop));
        }
    }
}

/// Nobody can call any more, and nothing is in flight.
impl Drop for Client {
    fn drop(&mut self) {
        self.core.leave();
        if let Some(mut turn) = self.current() {
            turn.push_last();
        }
    }
}
