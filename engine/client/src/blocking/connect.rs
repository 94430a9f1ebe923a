//! How a blocking channel gets a connection that takes calls.
//!
//! A connect has a thread of its own, which ends with it. So it goes on when the call that began it has run
//! out of time, and the next call finds it where it is; so does the wait for the server's hello.

use corewire_proto::{CloseReason, TransportError};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::channel::{Client, is_over};
use super::link::{Link, Scratch, Stream};
use crate::address::Address;
use crate::failure::{CallFailure, NotSent};
use crate::resolver::Resolver;
use crate::session::Session;

/// A thread that connects.
#[derive(Debug)]
pub(super) struct Connecting {
    /// The socket, and when it was connected.
    outcome: Receiver<io::Result<(Stream, Instant)>>,
    /// When it has taken too long.
    by: Option<Instant>,
    /// Whether it has, and was told as a failure. It may go on: std cannot stop it.
    is_given_up: bool,
}

/// How a wait for a connect ended.
enum Waited {
    Connected(Stream, Instant),
    Failed(String),
    TooLong,
    /// The caller's time is over first.
    Deadline,
}

impl Connecting {
    fn begin(address: &Address, resolver: &Resolver, within: Duration) -> io::Result<Self> {
        let by = Instant::now().checked_add(within);
        let (sender, outcome) = sync_channel(1);
        let (address, resolver) = (address.clone(), resolver.clone());
        thread::Builder::new().name("corewire-connect".to_owned()).spawn(move || {
            let connected = Stream::connect(&address, &resolver, within);
            // It fails when the channel is gone, and the socket is closed then.
            drop(sender.send(connected.map(|stream| (stream, Instant::now()))));
        })?;
        Ok(Self { outcome, by, is_given_up: false })
    }

    fn wait(&self, deadline: Option<Instant>) -> Waited {
        let until = [self.by, deadline].into_iter().flatten().min();
        let received = match until {
            None => self.outcome.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.outcome.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(Ok((stream, at))) => Waited::Connected(stream, at),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Waited::TooLong,
            Ok(Err(error)) => Waited::Failed(describe(&error)),
            Err(RecvTimeoutError::Disconnected) => {
                Waited::Failed("the thread that connects has ended".to_owned())
            }
            Err(RecvTimeoutError::Timeout) if is_over(self.by) => Waited::TooLong,
            Err(RecvTimeoutError::Timeout) => Waited::Deadline,
        }
    }
}

impl Client {
    /// Makes sure that there is a connection that takes a call now: its server has said hello and is not
    /// overdue with an answer to a ping, and nothing older waits to be written.
    pub(super) fn ensure_connected(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(), CallFailure> {
        if self.apart.closed.get() {
            return Err(CallFailure::NotSent(NotSent::Closed));
        }
        self.drive(Link::catch_up);
        // A connection that was lost while nobody looked, and the next one.
        let mut connects_left = 2;
        loop {
            let Some(link) = &mut self.link else {
                if connects_left == 0 {
                    return Err(self.not_connected());
                }
                connects_left -= 1;
                self.connect(deadline)?;
                continue;
            };
            let session = &mut link.session;
            if session.is_draining() {
                if session.in_flight() != 0 {
                    return Err(self.going_away());
                }
                // When nothing is in flight, a server that goes away is left at once.
                session.close();
                self.handle_down(CloseReason::LocallyClosed);
                continue;
            }
            if session.is_ready() && !session.awaits_pong() && session.out.is_empty() {
                // Each slot may wait for the answer to a call that was given up.
                let full = CallFailure::NotSent(NotSent::QueueFull);
                return if session.has_slot() { Ok(()) } else { Err(full) };
            }
            if is_over(deadline) {
                return Err(CallFailure::DeadlineExceeded { sent: false });
            }
            self.drive(|link, scratch| link.step(deadline, scratch, &mut None));
        }
    }

    /// Works with the connection, if there is one, and leaves it if it is over.
    fn drive(&mut self, work: impl FnOnce(&mut Link, &mut Scratch) -> io::Result<()>) {
        let hello_within = self.config.connection.timeouts.hello;
        let is_stale = self
            .link
            .as_ref()
            .is_some_and(|link| !link.session.is_ready() && link.since.elapsed() >= hello_within);
        let ended = self.move_on(&mut None, |link, scratch, _| work(link, scratch));
        if is_stale && matches!(ended, Some(CloseReason::PeerLeft | CloseReason::Transport(_))) {
            // A server need not wait for longer until this thread comes back and says hello.
            self.retry_at = None;
        }
    }

    /// Connects, unless a failure is too recent, or waits for the connect that is under way.
    fn connect(&mut self, deadline: Option<Instant>) -> Result<(), CallFailure> {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return Err(self.not_connected());
        }
        if is_over(deadline) {
            return Err(CallFailure::DeadlineExceeded { sent: false });
        }
        let within = self.config.connect_timeout;
        loop {
            let connecting = match self.connecting.take() {
                // It was given up and goes on: it is waited for anew.
                Some(it) if it.is_given_up && is_over(it.by) => {
                    Connecting { by: Instant::now().checked_add(within), ..it }
                }
                Some(it) => it,
                None => Connecting::begin(&self.apart.address, &self.config.resolver, within)
                    .map_err(|error| self.fail(describe(&error)))?,
            };
            match connecting.wait(deadline) {
                Waited::Connected(stream, since) => {
                    tracing::debug!(server = %self.apart.address, "connected");
                    let session = Session::new(&self.connection, Instant::now());
                    self.links += 1;
                    self.link = Some(Box::new(Link::new(stream, session, since)));
                    return Ok(());
                }
                Waited::Failed(_) if connecting.is_given_up => {}
                Waited::Failed(why) => return Err(self.fail(why)),
                Waited::TooLong => {
                    self.connecting = Some(Connecting { is_given_up: true, ..connecting });
                    return Err(self.fail(CloseReason::ConnectTimeout.to_string()));
                }
                Waited::Deadline => {
                    self.connecting = Some(connecting);
                    return Err(CallFailure::DeadlineExceeded { sent: false });
                }
            }
        }
    }

    /// There is no connection, and none for a while.
    fn fail(&mut self, why: String) -> CallFailure {
        self.down(false, why);
        self.not_connected()
    }

    pub(super) fn not_connected(&self) -> CallFailure {
        let wait = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map_or_else(String::new, |wait| format!("; the next try is in {wait:.0?}"));
        let why = format!("no connection to {}: {}{wait}", self.apart.address, self.why);
        CallFailure::NotSent(NotSent::NoConnection(why))
    }
}

/// What the operating system said, with the remedy; or the error's own text.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => TransportError::from(error).to_string(),
        None => error.to_string(),
    }
}
