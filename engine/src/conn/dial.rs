//! A shard's connect to a server that is given by name. The lookup and the race of its addresses happen on
//! other threads; the shard waits here, keeps the deadlines of the waiting calls, and takes over the
//! socket that won.

use corewire_proto::CloseReason;
use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Instant;

use crate::channel::ChannelCore;
use crate::conn::client::ClientConn;
use crate::conn::turn::TurnContext;
use crate::net::io::{Io, Token};
use crate::shard::context::ShardContext;
use crate::shard::tasks::Task;
use corewire_client::failure::connect_failure;
use corewire_client::log_limit::Topic;
use corewire_client::remote::dial;

/// A connect that is under way. It has a place among the driver's connections, which the connection takes over.
pub(crate) struct ClientDial {
    channel: Rc<ChannelCore>,
    token: Token,
    outcome: Rc<Cell<Option<io::Result<TcpStream>>>>,
    by: Option<Instant>,
    /// Waits for the other thread; dropping it abandons the connect.
    _waiter: Task<()>,
}

/// Where a connect by name is.
pub(crate) enum Dialed<S> {
    /// Under way; it wants a turn at this time at the latest.
    Waiting(Option<Instant>),
    /// There is a socket.
    Connected(Box<ClientConn<S>>),
    /// It failed, and the channel knows why.
    Failed,
}

impl ClientDial {
    pub(crate) fn start(
        channel: Rc<ChannelCore>,
        (host, port): (&str, u16),
        token: Token,
        local: &Rc<ShardContext>,
        now: Instant,
    ) -> io::Result<Self> {
        let limit = channel.config.connect_timeout;
        let dialing = dial(&channel.config.resolver, host, port, limit)?;
        let outcome = Rc::new(Cell::new(None));
        let (put, mailbox) = (Rc::clone(&outcome), Rc::clone(local));
        let waiter = local.spawn(async move {
            // The sender is gone without a message only if a resolver panicked.
            let lost = |_| Err(io::Error::other("the lookup of the server's name panicked"));
            put.set(Some(dialing.await.unwrap_or_else(lost)));
            mailbox.mark_dirty(token);
        });
        Ok(Self { channel, token, outcome, by: now.checked_add(limit), _waiter: waiter })
    }

    /// The shard ends, and nobody waits here any more.
    pub(crate) fn end(&self, now: Instant) {
        let state = &mut *self.channel.state.borrow_mut();
        state.handle_end(&self.channel, self.token, CloseReason::LocallyClosed, now);
    }

    pub(crate) fn turn<I: Io>(&self, shared: &mut TurnContext<I>) -> Dialed<I::Socket> {
        let reason = match self.outcome.take() {
            Some(Ok(stream)) => {
                let adopted = shared.io.adopt(stream).and_then(|socket| {
                    shared.io.watch(&socket, self.token)?;
                    Ok(socket)
                });
                match adopted {
                    Ok(socket) => {
                        let channel = Rc::clone(&self.channel);
                        let conn = ClientConn::new(socket, self.token, channel, shared.now);
                        return Dialed::Connected(Box::new(conn));
                    }
                    Err(error) => connect_failure(&error),
                }
            }
            Some(Err(error)) => connect_failure(&error),
            None if self.by.is_some_and(|by| by <= shared.now) => CloseReason::ConnectTimeout,
            None => {
                let state = &mut *self.channel.state.borrow_mut();
                if !self.channel.is_unwanted(state) {
                    state.wake_expired(shared.now);
                    let timer = [self.by, state.waiting_deadline()].into_iter().flatten().min();
                    return Dialed::Waiting(timer);
                }
                CloseReason::LocallyClosed
            }
        };
        let server = &self.channel.address;
        let log = &shared.calls.local().log;
        if reason.is_fault() && log.admit(Topic::CONNECT, shared.now) {
            tracing::warn!(%server, %reason, "cannot connect");
        }
        let state = &mut *self.channel.state.borrow_mut();
        state.handle_end(&self.channel, self.token, reason, shared.now);
        Dialed::Failed
    }
}
