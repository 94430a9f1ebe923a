//! A channel that its caller's thread drives, on std alone: no executor, and no other thread than a
//! short-lived one for each connect.

use corewire_codec::{FrameWriter, RequestHead, Status};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::client::{ChannelInfo, Client};
use super::system::{Std, System};
use crate::address::{Address, IntoAddress};
use crate::config::ChannelConfig;
use crate::failure::{CallFailure, ConnectError, NotSent};
use crate::transport::{Outcome, Pending, Transport};

/// One connection that carries one unary call at a time, on the thread that makes it, and any number of
/// streaming calls in addition.
///
/// The connection makes progress only while this thread waits for something on the channel: a reply, a
/// message, or credit. Whatever it waits for, it receives for all calls. So a stream that nobody reads
/// holds up no other call: its messages wait here, up to its window.
///
/// It connects when the first call needs it, and again after the connection was lost, with the same
/// back-off as the other channels. Clones share the connection and stay on their thread; a second
/// thread makes a channel of its own.
///
/// A call blocks whether it is awaited or waited for. It returns at its deadline at the latest, whatever it
/// is waiting for: a connect, the server's hello, room in the socket, or the reply. A connect that is under
/// way then goes on, and the next call uses it.
///
/// Nobody answers the server's pings between calls. So if a connection idles for longer than the server
/// allows, the next call finds it closed and connects again. A connection on which nothing was heard for
/// longer than [`Timeouts::ping_after`](corewire_proto::Timeouts::ping_after) is pinged first, and the call is sent
/// once the pong is there. An idle connection holds some kilobytes.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(super) client: Rc<RefCell<Client>>,
    pub(super) info: Rc<ChannelInfo>,
}

impl Channel {
    /// A channel that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// The address is invalid, or a setting is outside its range.
    pub fn new(address: impl IntoAddress, config: ChannelConfig) -> Result<Self, ConnectError> {
        Self::on(Box::new(Std), address, config)
    }

    /// A channel over sockets of this system.
    pub(super) fn on(
        system: Box<dyn System>,
        address: impl IntoAddress,
        config: ChannelConfig,
    ) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        Ok(Self::with_system(system, address, config))
    }

    /// The same with settings that were checked.
    pub(crate) fn with_system(
        system: Box<dyn System>,
        address: Address,
        config: ChannelConfig,
    ) -> Self {
        let info =
            Rc::new(ChannelInfo { address, server_side: Arc::default(), closed: Cell::new(false) });
        let client = Client::new(Rc::clone(&info), config, system);
        Self { client: Rc::new(RefCell::new(client)), info }
    }

    /// A channel with the default configuration, connected.
    ///
    /// # Errors
    ///
    /// The address is invalid, or no connection could be made.
    pub fn connect(address: impl IntoAddress) -> Result<Self, ConnectError> {
        let channel = Self::new(address, ChannelConfig::default())?;
        let connected = channel.client.borrow_mut().ensure_connected();
        connected.map_err(|failure| {
            ConnectError::NotConnected(match failure {
                CallFailure::NotSent(why) => why,
                failure => NotSent::NoConnection(format!("no connection: {failure}")),
            })
        })?;
        Ok(channel)
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.info.address.clone()
    }

    /// The index of the server shard at the other end, and how many shards the server has; `None`
    /// before the first hello.
    #[must_use]
    pub fn server_shard(&self) -> Option<(u16, u16)> {
        self.info.server_side.shard()
    }

    /// The connection's id in the server's process; `None` before the first hello.
    #[must_use]
    pub fn connection_id(&self) -> Option<u64> {
        self.info.server_side.connection_id()
    }

    /// Closes the channel for all its clones: tells the server that no more calls come, and lets those in
    /// flight finish. The connection is closed when they have. Calls that are made from now on fail with
    /// [`NotSent::Closed`]. Closing the channel again is no error; it checks again whether the connection can
    /// be closed.
    ///
    /// Only streams can be in flight here, and only this thread reads and fills them, so this does not wait
    /// for them. They go on as before, and the connection is closed when the last one is found to have ended.
    /// Without streams it is closed when this returns.
    ///
    /// This blocks until the server has taken what is unsent, which one-way calls and streams may have left:
    /// a system call or two if the server reads, and at most the write timeout (see
    /// [`Timeouts`](corewire_proto::Timeouts)) after it last took something.
    ///
    /// Dropping the last handle of a channel tells the server the same, if the socket takes it at once.
    #[doc(alias("shutdown", "graceful", "disconnect"))]
    pub fn close(&self) {
        self.info.closed.set(true);
        // An encoder may close its own call's channel: that request is sent first.
        if let Ok(mut client) = self.client.try_borrow_mut() {
            client.close();
        }
    }
}

impl Channel {
    /// Runs `work` on what the clones share.
    pub(super) fn with_client<R>(
        client: &RefCell<Client>,
        work: impl FnOnce(&mut Client) -> Result<R, CallFailure>,
    ) -> Result<R, CallFailure> {
        if crate::wait::is_shard() {
            return Err(CallFailure::NotSent(NotSent::WouldBlock));
        }
        // If an encoder makes a call on the same channel, the client is already borrowed.
        let Ok(mut client) = client.try_borrow_mut() else {
            return Err(CallFailure::NotSent(NotSent::QueueFull));
        };
        let worked = work(&mut client);
        client.close_if_told();
        client.rest();
        worked
    }
}

impl Transport for Channel {
    fn call<E>(
        &self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> impl Pending + use<E>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let client = Rc::clone(&self.client);
        let call = move || Self::with_client(&client, |client| client.call(head, timeout, encode));
        BlockingCall { call: Some(call), pinned: PhantomPinned }
    }
}

pin_project! {
    /// A call that runs from start to end when it is polled or waited for.
    struct BlockingCall<C> {
        call: Option<C>,
        #[pin]
        pinned: PhantomPinned,
    }
}

fn make(call: Option<impl FnOnce() -> Outcome>) -> Outcome {
    call.map_or(Err(CallFailure::Reused), |call| call())
}

impl<C: FnOnce() -> Outcome> Future for BlockingCall<C> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(make(self.project().call.take()))
    }
}

impl<C: FnOnce() -> Outcome + 'static> Pending for BlockingCall<C> {
    fn wait(self) -> Outcome {
        make(self.call)
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        done(make(self.call));
    }
}
