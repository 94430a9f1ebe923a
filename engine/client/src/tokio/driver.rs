//! A shared channel whose connections belong to a task of a tokio runtime.
//!
//! The task is one future, polled for whatever happened: the bell, readiness, the timer. Everything between two
//! polls is synchronous, as on a shard. What the channel does is decided in [`ClientCore`]; here are its sockets and
//! its clock.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::bell::TaskBell;
use super::late;
use super::socket::Socket;
use super::watch::{self, Drive};
use crate::address::IntoAddress;
use crate::config::ChannelConfig;
use crate::core::channel::ConnectionId;
use crate::core::session::RECEIVE_BYTES;
use crate::failure::{ConnectError, NotSent, connect_failure};
use crate::remote::SharedChannel;
use crate::remote::command::{ClientCore, Connection, Control};
use crate::remote::mailbox::{Inbox, Mailbox};

/// Receives of a connection before other connections, and other tasks of the runtime, have their turn.
const RECEIVES_PER_POLL: usize = 16;

impl SharedChannel {
    /// A channel to `address` whose connection is a task of the tokio runtime that this is called
    /// in. It connects when it is first used; the task ends with the last handle and the last call.
    ///
    /// ```
    /// # use corewire_client as corewire;
    /// use corewire::{ChannelConfig, ConnectError, NotSent, SharedChannel};
    ///
    /// // Outside of a runtime there is nobody to drive the connection.
    /// let outside = SharedChannel::on_tokio("127.0.0.1:7000", ChannelConfig::default());
    /// assert!(matches!(outside, Err(ConnectError::NotConnected(NotSent::NoRuntime))));
    ///
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// runtime.block_on(async {
    ///     let channel = SharedChannel::on_tokio("127.0.0.1:7000", ChannelConfig::default())?;
    ///     assert_eq!(channel.address().to_string(), "127.0.0.1:7000");
    ///     // NotesClient::new(channel) …
    /// #   Ok::<(), ConnectError>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or there is no runtime here.
    #[doc(alias("async", "runtime"))]
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
        let channel = Self::new(Arc::new(mailbox), 0, address.clone(), &config);
        let driver = Driver {
            inbox,
            rings,
            rung: true,
            connecting: None,
            links: Vec::new(),
            timer: None,
            core: ClientCore::new(address, config),
        };
        runtime.spawn(watch::watched(driver, heard));
        Ok(channel)
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

/// The socket of one of the channel's connections.
struct Link {
    connection: ConnectionId,
    socket: Socket,
    /// In how many turns in a row more may have arrived than was read.
    unread: u8,
}

/// What a channel has at tokio. In the order in which it is dropped: whoever hears that a call has ended finds the
/// queue closed and the sockets gone.
struct Driver {
    inbox: Inbox,
    rings: mpsc::Receiver<()>,
    /// Whether the bell was rung since the queues were looked at.
    rung: bool,
    connecting: Option<Connecting>,
    links: Vec<Link>,
    timer: Option<Pin<Box<Sleep>>>,
    core: ClientCore,
}

impl Drive for Driver {
    /// One turn; `Ready` when nobody can call any more and nothing is in flight.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_last = self.poll_bell(context);
            let now = Instant::now();
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
            if unread || self.poll_timer(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        self.take_calls(now);
        self.core.expire(now);
    }

    fn first_deadline(&self) -> Option<Instant> {
        self.core.first_deadline()
    }
}

impl Driver {
    /// Hears the bell; returns whether no handle is left.
    fn poll_bell(&mut self, context: &mut Context<'_>) -> bool {
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

    fn take(&mut self, now: Instant) {
        if !core::mem::take(&mut self.rung) {
            return;
        }
        while let Ok(control) = self.inbox.control.try_recv() {
            match control {
                Control::Cancel { id, .. } => self.core.cancel(id),
                Control::Stream { id, .. } => self.core.settle_stream(id),
                Control::Spawn(future) => drop(tokio::spawn(future.0)),
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
            let (server, config) = (self.core.server().clone(), self.core.config());
            let connect = Socket::connect(server, config.resolver.clone(), config.connect_timeout);
            self.connecting = Some(Box::pin(connect));
        } else if !self.core.is_connecting() {
            self.connecting = None;
        }
        let Some(connecting) = &mut self.connecting else { return false };
        let Poll::Ready(connected) = connecting.as_mut().poll(context) else { return false };
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
            if let Err(error) = link.socket.write(connection, context, now) {
                connection.handle_write_error(&error, now);
            }
            if connection.has_ready_streams() {
                // Other tasks of the runtime have their turn in between.
                context.waker().wake_by_ref();
            }
        }
    }

    /// Drops the sockets of connections that are over, and a connect that nobody wants any more. Returns whether there
    /// is something to go on with.
    fn end_connections(&mut self, now: Instant) -> bool {
        let before = self.links.len();
        while let Some(ended) = self.core.poll_ended(now) {
            self.links.retain(|link| link.connection != ended);
        }
        if !self.core.is_connecting() {
            self.connecting = None;
        }
        self.core.release_closed();
        // A connection that was retired makes room for the next one.
        self.links.len() < before || self.core.wants_connect()
    }

    /// Waits for the next time that something is due; `Ready` when it is now.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.core.poll_timeout() else {
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

impl Link {
    /// Receives, and does what is due. The turns before this one may have left something unread.
    fn receive(&mut self, connection: &mut Connection, context: &mut Context<'_>, now: Instant) {
        let unread = core::mem::take(&mut self.unread);
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
}
