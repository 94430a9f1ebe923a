//! How a client's connections begin. For an address that is a non-blocking connect. For a name, the lookup and the
//! race of its addresses happen on other threads; the shard waits here, keeps the deadlines of the waiting calls,
//! and takes over the socket that won.

use corewire_proto::CloseReason;
use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

use crate::conn::turn::TurnContext;
use crate::net::io::{Io, Token};
use crate::shard::context::ShardContext;
use crate::shard::tasks::Task;
use corewire_client::address::Address;
use corewire_client::config::ChannelConfig;
use corewire_client::failure::connect_failure;
use corewire_client::remote::dial;

/// A connect that was begun.
pub(crate) enum Begun<S> {
    /// The socket becomes writable when the connect has succeeded or failed.
    Socket(S),
    /// Other threads connect.
    Dial(Dial),
}

/// Begins to connect for the connection with this token.
pub(crate) fn begin<I: Io>(
    shared: &mut TurnContext<I>,
    address: &Address,
    config: &ChannelConfig,
    token: Token,
) -> io::Result<Begun<I::Socket>> {
    if let Address::Name { host, port } = address
        && !I::CONNECTS_BY_NAME
    {
        let local = Rc::clone(shared.calls.local());
        return Dial::start(config, (host, *port), token, &local).map(Begun::Dial);
    }
    let socket = shared.io.connect(address)?;
    shared.io.watch(&socket, token)?;
    Ok(Begun::Socket(socket))
}

/// A connect by name that is under way on other threads.
pub(crate) struct Dial {
    token: Token,
    outcome: Rc<Cell<Option<io::Result<TcpStream>>>>,
    /// Waits for the other thread; dropping it abandons the connect.
    _waiter: Task<()>,
}

impl Dial {
    fn start(
        config: &ChannelConfig,
        (host, port): (&str, u16),
        token: Token,
        local: &Rc<ShardContext>,
    ) -> io::Result<Self> {
        let dialing = dial(&config.resolver, host, port, config.connect_timeout)?;
        let outcome = Rc::new(Cell::new(None));
        let (put, mailbox) = (Rc::clone(&outcome), Rc::clone(local));
        let waiter = local.spawn(async move {
            // The sender is gone without a message only if a resolver panicked.
            let lost = |_| Err(io::Error::other("the lookup of the server's name panicked"));
            put.set(Some(dialing.await.unwrap_or_else(lost)));
            mailbox.mark_dirty(token);
        });
        Ok(Self { token, outcome, _waiter: waiter })
    }

    /// The socket, once there is one; it becomes writable at once. `None` while the connect is under way.
    pub(crate) fn take<I: Io>(
        &self,
        shared: &mut TurnContext<I>,
    ) -> Option<Result<I::Socket, CloseReason>> {
        let adopted = self.outcome.take()?.and_then(|stream| {
            let socket = shared.io.adopt(stream)?;
            shared.io.watch(&socket, self.token)?;
            Ok(socket)
        });
        Some(adopted.map_err(|error| connect_failure(&error)))
    }
}
