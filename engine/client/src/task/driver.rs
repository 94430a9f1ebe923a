//! The driver of a shared channel whose connections belong to one task.
//!
//! The task is one future, polled for whatever happened: the bell, readiness, the timer. Everything between two
//! polls is synchronous, as on a shard. What the channel does is decided in [`ClientCore`]; its sockets and its clock are
//! its [`Shell`]'s.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use corewire_proto::canary::{Bug, is_planted};

use super::late;
use super::shell::{Shell, Socket};
use crate::core::channel::ConnectionId;
use crate::core::session::RECEIVE_BYTES;
use crate::failure::connect_failure;
use crate::remote::command::{ClientCore, Connection, Control};
use crate::remote::mailbox::Inbox;

/// Receives of a connection before other connections, and other tasks of the runtime, have their turn.
const RECEIVES_PER_POLL: usize = 16;

/// The socket of one of the channel's connections.
struct Link<S> {
    connection: ConnectionId,
    socket: S,
    /// In how many turns in a row more may have arrived than was read.
    unread: u8,
}

/// What a channel has at its task. In the order in which it is dropped: whoever hears that a call has ended finds the
/// queue closed and the sockets gone.
pub(crate) struct Driver<S: Shell> {
    pub(crate) inbox: Inbox,
    shell: S,
    /// Whether the bell was rung since the queues were looked at.
    rung: bool,
    connecting: Option<S::Connecting>,
    links: Vec<Link<S::Socket>>,
    pub(crate) core: ClientCore,
}

impl<S: Shell> Driver<S> {
    pub(crate) fn new(inbox: Inbox, shell: S, core: ClientCore) -> Self {
        Self { inbox, shell, rung: true, connecting: None, links: Vec::new(), core }
    }

    /// One turn; `Ready` when nobody can call any more and nothing is in flight.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_last = self.poll_bell(context);
            let now = self.shell.now();
            self.take(now);
            let mut again = self.poll_connect(context, now);
            self.receive(context, now);
            let held = self.core.advance(now);
            let is_last = is_last && !self.inbox.has_news();
            if is_last {
                self.core.handle_released();
            }
            self.flush(context, now);
            again |= held && self.core.has_room();
            again |= self.end_connections(now);
            if again {
                continue;
            }
            if is_last && self.core.is_idle() {
                self.core.leave();
                self.flush(context, now);
                return Poll::Ready(());
            }
            // What is due waits until what arrived is read, for which this task was woken already.
            let unread = self.links.iter().any(|link| link.unread > 0);
            if unread || self.shell.poll_sleep(self.core.poll_timeout(), context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Nobody polls the task: ends the calls whose time is over, and leaves everything else as it is.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.take_calls(now);
        self.core.expire(now);
    }

    /// A lower bound on the first deadline of all calls.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.core.first_deadline()
    }

    /// Hears the bell; returns whether no handle is left.
    fn poll_bell(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match self.shell.poll_bell(context) {
                Poll::Ready(Some(())) => self.rung = true,
                Poll::Ready(None) => {
                    self.rung = true;
                    return true;
                }
                Poll::Pending => return false,
            }
        }
    }

    fn take(&mut self, now: Instant) {
        if !core::mem::take(&mut self.rung) {
            return;
        }
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                // If it fails, the calls that need it are told.
                Control::Connect(_) => drop(self.core.want_connection(now)),
                Control::Cancel { id, .. } => self.core.cancel(id),
                Control::Stream { id, .. } => self.core.settle_stream(id),
                Control::Spawn(future) => self.shell.spawn(future.0),
                Control::Close { hold, .. } => self.core.close(hold),
                // The mailbox has this channel alone.
                Control::Open { .. } | Control::Release(_) => {}
            }
        }
        self.take_calls(now);
    }

    fn take_calls(&mut self, now: Instant) {
        while let Ok(command) = self.inbox.calls.try_recv() {
            self.core.begin(command, now);
        }
    }

    /// Begins a connect that is wanted, drops one that is not, and looks at one that is under way. Returns whether
    /// there may be more to do.
    fn poll_connect(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        if self.core.takes_connect() {
            let connect = self.shell.connect(self.core.server(), self.core.config());
            self.connecting = Some(connect);
        } else if !self.core.is_connecting() {
            self.connecting = None;
        }
        let Some(connecting) = &mut self.connecting else { return false };
        let Poll::Ready(connected) = Pin::new(connecting).poll(context) else { return false };
        self.connecting = None;
        match connected {
            Ok(socket) => {
                let connection = self.core.handle_connected(now);
                self.links.push(Link { connection, socket, unread: 0 });
            }
            Err(error) => self.core.handle_connect_failed(connect_failure(&error), now),
        }
        true
    }

    /// Receives on every connection, and does what is due. The newest one is first, to which new calls go: the others
    /// may use up what the runtime lets a task do at once.
    fn receive(&mut self, context: &mut Context<'_>, now: Instant) {
        for link in self.links.iter_mut().rev() {
            if let Some(connection) = self.core.connection(link.connection) {
                link.receive(connection, context, now);
            }
        }
    }

    /// Writes what there is, first and without asking.
    fn flush(&mut self, context: &mut Context<'_>, now: Instant) {
        for link in &self.links {
            let Some(connection) = self.core.connection(link.connection) else { continue };
            if let Err(error) = link.write(connection, context, now) {
                connection.handle_write_error(&error, now);
            }
            let is_full = connection.unsent() > 0;
            if connection.has_ready_streams() || (is_full && is_planted(Bug::FullSocketTurns)) {
                // Other tasks of the runtime have their turn in between.
                context.waker().wake_by_ref();
            }
        }
    }

    /// Drops the sockets of connections that are over, and a connect that nobody wants any more. Returns whether there
    /// is something to go on with.
    fn end_connections(&mut self, now: Instant) -> bool {
        let before = self.links.len();
        if S::Socket::HEARS_ENDINGS {
            self.tell_endings();
        }
        while let Some(ended) = self.core.poll_ended(now) {
            self.links.retain(|link| link.connection != ended);
        }
        if !self.core.is_connecting() {
            self.connecting = None;
        }
        self.core.release_closed();
        // A connection that was retired makes room for the next one.
        self.links.len() < before || (self.core.is_connecting() && self.connecting.is_none())
    }

    /// Says why the connections end that are over by now.
    #[cold]
    fn tell_endings(&mut self) {
        for link in &self.links {
            let connection = self.core.connection(link.connection);
            if let Some(reason) = connection.and_then(|it| it.session.close_reason()) {
                link.socket.ending(reason);
            }
        }
    }
}

impl<S: Socket> Link<S> {
    /// Receives, and does what is due. The turns before this one may have left something unread.
    fn receive(&mut self, connection: &mut Connection, context: &mut Context<'_>, now: Instant) {
        let unread = core::mem::take(&mut self.unread);
        if is_planted(Bug::BlindClocks) {
            connection.handle_timeout(now, 0);
        }
        let is_read = self.read(connection, context, now);
        let is_late = is_read && connection.session.is_late(now);
        if !is_read || (is_late && !late::look(&self.socket, connection, now)) {
            context.waker().wake_by_ref();
            self.unread = unread.saturating_add(1);
        }
        connection.handle_timeout(now, self.unread);
        // Once for all that this turn brought.
        connection.wake_readers();
    }

    /// Reads what has arrived, up to the limit of a turn. Returns whether that was everything.
    fn read(&self, connection: &mut Connection, context: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..RECEIVES_PER_POLL {
            let ready = match self.socket.poll_read_ready(context) {
                Poll::Pending => return true,
                Poll::Ready(ready) => ready,
            };
            let recv = &mut connection.session.recv;
            let room = recv.room_wanted().max(RECEIVE_BYTES);
            match ready.and_then(|()| self.socket.try_read(recv.storage(room))) {
                Ok(0) => connection.session.handle_eof(),
                Ok(_) => connection.handle_received(now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => connection.session.handle_error(&error),
            }
            if connection.session.close_reason().is_some() {
                return true;
            }
        }
        false
    }

    /// Writes what the connection has to write, until the socket takes no more; the context is woken when it does.
    fn write(
        &self,
        connection: &mut Connection,
        context: &mut Context<'_>,
        now: Instant,
    ) -> io::Result<()> {
        if !connection.prepare_write(now) {
            return Ok(());
        }
        let session = &mut connection.session;
        while !session.out.is_empty() {
            match self.socket.try_write(&session.out) {
                Ok(count) => session.handle_write(count, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    session.handle_write(0, now);
                    match self.socket.poll_write_ready(context) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
