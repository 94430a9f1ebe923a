//! How a channel is made whose connections belong to a task of a tokio runtime, and what that task has of tokio.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::bell::TaskBell;
use super::socket::Socket;
use super::watch::{self, Drive};
use crate::address::{Address, IntoAddress};
use crate::config::ChannelConfig;
use crate::failure::{ConnectError, NotSent};
use crate::remote::SharedChannel;
use crate::remote::command::ClientCore;
use crate::remote::mailbox::Mailbox;
use crate::task::Driver;
use crate::task::shell::Shell;

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
        let opener = TokioOpener::here(address, config)?;
        Ok(opener.open())
    }
}

/// Makes channels to one address that a runtime of tokio drives, on whatever thread it is asked.
#[derive(Clone, Debug)]
pub struct TokioOpener {
    runtime: tokio::runtime::Handle,
    address: Address,
    config: ChannelConfig,
}

impl TokioOpener {
    /// One for the runtime of this thread.
    ///
    /// # Errors
    ///
    /// The address is invalid, a setting is outside its range, or there is no runtime here.
    pub fn here(address: impl IntoAddress, config: ChannelConfig) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ConnectError::NotConnected(NotSent::NoRuntime))?;
        Ok(Self { runtime, address, config })
    }

    /// Another channel, which connects when it is first used.
    #[must_use]
    pub fn open(&self) -> SharedChannel {
        let Self { runtime, address, config } = self.clone();
        let (bell, rings) = mpsc::channel(1);
        let heard = bell.downgrade();
        let (mailbox, inbox) = Mailbox::new(TaskBell(bell));
        let channel = SharedChannel::new(Arc::new(mailbox), 0, address.clone(), &config);
        let core = ClientCore::new(address, config).telling(channel.server_side());
        let driver = Driver::new(inbox, Runtime { rings, timer: None }, core);
        runtime.spawn(watch::watched(driver, heard));
        channel
    }
}

impl Drive for Driver<Runtime> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll(context)
    }

    fn expire(&mut self, now: Instant) {
        self.expire(now);
    }

    fn first_deadline(&self) -> Option<Instant> {
        self.first_deadline()
    }
}

/// What the task of a channel has of tokio.
struct Runtime {
    rings: mpsc::Receiver<()>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Shell for Runtime {
    type Socket = Socket;
    type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.rings.poll_recv(context)
    }

    fn connect(&mut self, server: &Address, config: &ChannelConfig) -> Self::Connecting {
        let (resolver, within) = (config.resolver.clone(), config.connect_timeout);
        Box::pin(Socket::connect(server.clone(), resolver, within))
    }

    fn poll_sleep(&mut self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = until else {
            self.timer = None;
            return Poll::Pending;
        };
        let at = tokio::time::Instant::from_std(until);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(context));
        self.timer = None;
        Poll::Ready(())
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(tokio::spawn(future));
    }
}
