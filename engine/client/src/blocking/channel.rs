//! A channel that its caller's thread drives, on std alone: no executor, and no other thread but a short one
//! for each connect.

use corewire_codec::{
    Encoding, FrameWriter, Payload, RequestHead, Status, StatusCode, request_flags,
};
use corewire_proto::{ClientConfig, CloseReason};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::address::{Address, IntoAddress};
use crate::config::{ChannelConfig, Reply};
use crate::failure::{CallFailure, ConnectError, NotSent};
use crate::reconnect::{Backoff, random_seed};
use crate::session::Events;
use crate::transport::{Outcome, Pending, Transport};

use super::connect::Connecting;
use super::link::{Link, Scratch};
use super::streams::Cell;

/// One connection that carries one call at a time, each on the thread that makes it, and beside it any
/// number of calls that stream.
///
/// Nothing moves but while this thread waits for something of the channel: for a reply, a message, or
/// for credit. Whatever it waits for, it takes in what comes for all calls. So a stream that nobody reads
/// holds up no other call: what came for it waits here, up to its window.
///
/// It connects when the first call needs it, and again after the connection was lost, with the same
/// back-off as the other channels. Clones share the connection and stay on their thread; a second
/// thread makes a channel of its own.
///
/// A call blocks whether it is awaited or waited for, until its deadline at the latest, whatever it waits
/// for: a connect, the server's hello, room in the socket, or the reply. A connect that is under way then
/// goes on, and the next call finds it.
///
/// Nobody answers the server's pings between calls, so a connection that idles for longer than the server
/// allows is found closed by the next call, which then connects anew. A connection on which nothing was
/// heard for longer than [`Timeouts::ping_after`](crate::Timeouts::ping_after) is pinged first, and the call
/// is sent when the answer is there. An idle connection holds some kilobytes.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(super) client: Rc<RefCell<Client>>,
    pub(super) apart: Rc<Apart>,
}

/// What an encoder may look at or set while its call has the client.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) address: Address,
    /// No call begins any more.
    pub(super) closed: std::cell::Cell<bool>,
}

impl Channel {
    /// A channel that will connect when it is first used.
    ///
    /// # Errors
    ///
    /// The address is none, or a setting is outside its range.
    pub fn new(address: impl IntoAddress, config: ChannelConfig) -> Result<Self, ConnectError> {
        config.check()?;
        let address = address.into_address().map_err(ConnectError::Address)?;
        let apart = Rc::new(Apart { address, closed: std::cell::Cell::new(false) });
        let client = Client {
            apart: Rc::clone(&apart),
            connection: Arc::new(config.connection),
            config,
            link: None,
            connecting: None,
            retry_at: None,
            why: String::new(),
            links: 0,
            backoff: Backoff::new(random_seed()),
            scratch: Scratch::default(),
        };
        Ok(Self { client: Rc::new(RefCell::new(client)), apart })
    }

    /// A channel with the default configuration, connected.
    ///
    /// # Errors
    ///
    /// The address is none, or there is no connection.
    pub fn connect(address: impl IntoAddress) -> Result<Self, ConnectError> {
        let channel = Self::new(address, ChannelConfig::default())?;
        // Without a deadline it ends by the time-outs of the connect and of the hello.
        let connected = channel.client.borrow_mut().ensure_connected(None);
        connected.map_err(|failure| {
            ConnectError::NotConnected(match failure {
                CallFailure::NotSent(why) => why,
                failure => NotSent::NoConnection(format!("no connection: {failure:?}")),
            })
        })?;
        Ok(channel)
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.apart.address.clone()
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
        let call = Call { client: Rc::clone(&self.client), head, timeout, encode };
        BlockingCall { call: Some(call), pinned: PhantomPinned }
    }
}

struct Call<E> {
    client: Rc<RefCell<Client>>,
    head: RequestHead,
    timeout: Option<Duration>,
    encode: E,
}

impl<E> Call<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    fn make(self) -> Outcome {
        if crate::wait::is_shard() {
            return Err(CallFailure::NotSent(NotSent::WouldBlock));
        }
        // An encoder that makes a call on the same channel finds it taken.
        let Ok(mut client) = self.client.try_borrow_mut() else {
            return Err(CallFailure::NotSent(NotSent::QueueFull));
        };
        let outcome = client.call(self.head, self.timeout, self.encode);
        client.close_if_told();
        client.rest();
        outcome
    }
}

pin_project! {
    /// A call that is made as a whole, when it is polled or waited for.
    struct BlockingCall<E> {
        call: Option<Call<E>>,
        #[pin]
        pinned: PhantomPinned,
    }
}

impl<E> BlockingCall<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    fn make(call: Option<Call<E>>) -> Outcome {
        call.map_or(Err(CallFailure::Reused), Call::make)
    }
}

impl<E> Future for BlockingCall<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(Self::make(self.project().call.take()))
    }
}

impl<E> Pending for BlockingCall<E>
where
    E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
{
    fn wait(self) -> Outcome {
        Self::make(self.call)
    }

    fn then(self, done: impl FnOnce(Outcome) + Send + 'static) {
        done(Self::make(self.call));
    }
}

/// What is kept for a call in flight.
#[derive(Debug)]
pub(super) enum Work {
    /// The one that this thread waits for.
    Unary,
    Stream(Rc<Cell>),
}

/// What a connection brings: the outcome of the unary call is put down, the rest goes into the streams'
/// cells.
pub(super) struct Deliver<'a>(pub(super) &'a mut Option<Outcome>);

impl Events<Work> for Deliver<'_> {
    fn done(&mut self, work: Work, outcome: Outcome) {
        match work {
            Work::Unary => *self.0 = Some(outcome),
            Work::Stream(cell) => cell.finish(outcome),
        }
    }

    fn opened(&mut self, work: &mut Work, payload: Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.open(payload);
        }
    }

    fn message(&mut self, work: &mut Work, encoding: Encoding, cost: u32, payload: Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.push(encoding, cost, payload);
        }
    }

    fn end(&mut self, work: Work, code: StatusCode, payload: &Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.end(code, payload);
        }
    }

    /// Senders ask for credit whenever something came.
    fn writable(&mut self, _: Option<u32>) {}
}

/// What the clones of a channel share.
pub(super) struct Client {
    pub(super) apart: Rc<Apart>,
    pub(super) config: ChannelConfig,
    pub(super) connection: Arc<ClientConfig>,
    pub(super) link: Option<Box<Link>>,
    /// A connect under way, which may outlive the call that began it.
    pub(super) connecting: Option<Connecting>,
    /// After a failure: not before then.
    pub(super) retry_at: Option<Instant>,
    pub(super) why: String,
    /// How many connections there were: a stream belongs to one of them.
    pub(super) links: u64,
    pub(super) backoff: Backoff,
    pub(super) scratch: Scratch,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("apart", &self.apart).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn call<E>(
        &mut self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Outcome
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.ensure_connected(deadline)?;
        let Some(link) = &mut self.link else { return Err(self.not_connected()) };
        let now = Instant::now();
        if head.flags & request_flags::ONE_WAY != 0 {
            let written = link.session.one_way(head, deadline, now, encode);
            return written.map_err(CallFailure::NotSent).and_then(|()| self.push(deadline));
        }
        if let Err((_, failure)) = link.session.request(head, deadline, now, Work::Unary, encode) {
            return Err(CallFailure::NotSent(failure));
        }
        self.run(deadline)
    }

    /// Writes a one-way call. If the socket takes only a part of it until the deadline, the rest goes in front of
    /// the next call.
    pub(super) fn push(&mut self, deadline: Option<Instant>) -> Outcome {
        while self.link.as_ref().is_some_and(|link| !link.session.out.is_empty()) {
            let ended = self.move_on(&mut None, |link, scratch, done| {
                link.push(deadline, scratch, done).map(drop)
            });
            if let Some(reason) = ended {
                return Err(CallFailure::Unknown(reason));
            }
            if is_over(deadline)
                && let Some(link) = self.link.as_mut().filter(|link| !link.session.out.is_empty())
            {
                let sent = !link.session.take_back_one_way();
                return Err(CallFailure::DeadlineExceeded { sent });
            }
        }
        Ok(Reply::written())
    }

    /// Drives the connection until the call in flight ends.
    pub(super) fn run(&mut self, deadline: Option<Instant>) -> Outcome {
        let mut done = None;
        while done.is_none() && self.link.is_some() {
            self.move_on(&mut done, |link, scratch, done| link.step(deadline, scratch, done));
        }
        done.unwrap_or(Err(CallFailure::Unknown(CloseReason::LocallyClosed)))
    }

    /// Works with the connection, if there is one. If it is over then, leaves it and returns why.
    pub(super) fn move_on(
        &mut self,
        done: &mut Option<Outcome>,
        work: impl FnOnce(&mut Link, &mut Scratch, &mut Option<Outcome>) -> io::Result<()>,
    ) -> Option<CloseReason> {
        let link = self.link.as_deref_mut()?;
        if let Err(error) = work(link, &mut self.scratch, done) {
            link.session.handle_error(&error);
        }
        let reason = link.session.close_reason()?;
        // A reply that came together with the end of the connection was taken above.
        self.handle_down_with(reason, done);
        Some(reason)
    }

    /// Gives back memory that only large calls need, unless others are in flight.
    pub(super) fn rest(&mut self) {
        if let Some(link) = &mut self.link {
            if link.session.in_flight() != 0 {
                return;
            }
            link.shrink();
        }
        self.scratch.shrink();
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
