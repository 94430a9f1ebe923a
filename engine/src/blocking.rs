//! A channel that its caller's thread drives, on std alone: no other thread, no executor.

mod ending;
mod stream;

use corewire_codec::{
    Encoding, FrameWriter, Payload, RequestHead, Status, StatusCode, request_flags,
};
use corewire_proto::{ClientConfig, CloseReason, TransportError};
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::marker::PhantomPinned;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::address::{Address, IntoAddress};
use crate::backoff::{Backoff, random_seed};
use crate::config::{ChannelConfig, Reply};
use crate::dial;
use crate::failure::{CallFailure, ConnectError, NotSent};
use crate::resolver::Resolver;
use crate::session::{Events, RECEIVE_BYTES, SEND_BYTES_MAX, SLICES_MAX, Session};
use crate::transport::{Outcome, Pending, Transport};

use self::stream::Cell;
pub use self::stream::{StreamCall, StreamReader, StreamWriter};

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
/// A call blocks whether it is awaited or waited for, until its deadline at the latest (a wait for a
/// Unix socket whose server accepts nobody is not bounded: std has no means). Nobody answers the
/// server's pings between calls, so a connection that idles for longer than the server allows is
/// found closed by the next call, which then connects anew.
#[derive(Clone, Debug)]
pub struct Channel {
    client: Rc<RefCell<Client>>,
    apart: Rc<Apart>,
}

/// What an encoder may look at or set while its call has the client.
#[derive(Debug)]
struct Apart {
    address: Address,
    /// No call begins any more.
    closed: std::cell::Cell<bool>,
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
            retry_at: None,
            why: String::new(),
            links: 0,
            backoff: Backoff::new(random_seed()),
            scratch: Vec::new(),
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
        let by = Instant::now().checked_add(channel.client.borrow().config.connect_timeout);
        let connected = channel.client.borrow_mut().ensure_connected(by);
        connected.map_err(|failure| {
            ConnectError::NotConnected(match failure {
                CallFailure::NotSent(why) => why,
                _ => NotSent::NoConnection("no hello came in time".to_owned()),
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
        let over = || {
            let why = "the call has ended already".to_owned();
            Err(CallFailure::NotSent(NotSent::NoConnection(why)))
        };
        call.map_or_else(over, Call::make)
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

/// A stream of either family.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &Address, resolver: &Resolver, within: Duration) -> io::Result<Self> {
        match address {
            Address::Name { host, port } => {
                let stream = dial::connect(resolver, host, *port, within)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, within)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(from),
            Self::Unix(stream) => stream.write_vectored(from),
        }
    }

    fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        }
    }

    fn set_timeouts(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

/// What is kept for a call in flight.
#[derive(Debug)]
enum Work {
    /// The one that this thread waits for.
    Unary,
    Stream(Rc<Cell>),
}

/// What a connection brings: the outcome of the unary call is put down, the rest goes into the streams'
/// cells.
struct Deliver<'a>(&'a mut Option<Outcome>);

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

/// A connection and the time-out that its socket has.
#[derive(Debug)]
struct Link {
    stream: Stream,
    session: Session<Work>,
    /// `None` before the first is set.
    timeout: Option<Option<Duration>>,
}

impl Link {
    /// Makes the socket give up at `at`. In whole milliseconds, rounded up, so that calls with equal
    /// timeouts seldom set it anew.
    fn set_deadline(&mut self, at: Option<Instant>) -> io::Result<()> {
        let timeout = at.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            let millis = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
            Duration::from_millis(millis.max(1))
        });
        if self.timeout != Some(timeout) {
            self.stream.set_timeouts(timeout)?;
            self.timeout = Some(timeout);
        }
        Ok(())
    }

    /// Receives once and handles what came; what ended goes to `done`.
    fn receive(&mut self, scratch: &mut [u8], done: &mut Option<Outcome>) -> io::Result<()> {
        match self.stream.read(scratch) {
            Ok(0) => self.session.handle_eof(),
            Ok(count) => {
                self.session.recv.extend_from_slice(scratch.get(..count).unwrap_or(&[]));
                self.session.handle_received(Instant::now(), &mut Deliver(done));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks at what came since the last call, without waiting: pings, a go-away, the end.
    fn look(&mut self, scratch: &mut [u8], done: &mut Option<Outcome>) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let mut looked = Ok(());
        while looked.is_ok() && self.session.close_reason().is_none() {
            looked = self.receive(scratch, done);
        }
        self.stream.set_nonblocking(false)?;
        match looked {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes until everything is gone or the socket gives up.
    fn flush(&mut self) -> io::Result<()> {
        while !self.session.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = self.session.out.chunks(&mut slices, SEND_BYTES_MAX);
            match self.stream.write(slices.get(..filled).unwrap_or(&[])) {
                Ok(count) => self.session.handle_write(count, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What the clones of a channel share.
struct Client {
    apart: Rc<Apart>,
    config: ChannelConfig,
    connection: Arc<ClientConfig>,
    link: Option<Box<Link>>,
    /// After a failure: not before then.
    retry_at: Option<Instant>,
    why: String,
    /// How many connections there were: a stream belongs to one of them.
    links: u64,
    backoff: Backoff,
    /// What is received into.
    scratch: Vec<u8>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("apart", &self.apart).finish_non_exhaustive()
    }
}

impl Client {
    fn call<E>(&mut self, head: RequestHead, timeout: Option<Duration>, encode: E) -> Outcome
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        let now = Instant::now();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
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

    /// Writes a one-way call. What the socket does not take until the deadline goes with the next call.
    fn push(&mut self, deadline: Option<Instant>) -> Outcome {
        let Some(link) = &mut self.link else { return Err(self.not_connected()) };
        match link.set_deadline(deadline).and_then(|()| link.flush()) {
            Ok(()) => Ok(Reply::written()),
            Err(error) if is_timeout(&error) => Err(CallFailure::DeadlineExceeded { sent: true }),
            Err(error) => {
                link.session.handle_error(&error);
                let reason = CloseReason::Transport((&error).into());
                self.handle_down(reason);
                Err(CallFailure::Unknown(reason))
            }
        }
    }

    /// Drives the connection until the call in flight ends.
    fn run(&mut self, deadline: Option<Instant>) -> Outcome {
        let mut done = None;
        while done.is_none() {
            let Some(link) = &mut self.link else { return Err(self.not_connected()) };
            let step = Self::step(link, deadline, &mut self.scratch, &mut done);
            if let Err(error) = step {
                link.session.handle_error(&error);
            }
            if let Some(reason) = link.session.close_reason() {
                self.handle_down_with(reason, &mut done);
                // A reply that came together with the end of the connection was taken above.
                return done.unwrap_or(Err(CallFailure::Unknown(reason)));
            }
        }
        done.unwrap_or(Err(CallFailure::Unknown(CloseReason::LocallyClosed)))
    }

    /// Writes, receives once, and does what is due. A socket that gave up is no error.
    fn step(
        link: &mut Link,
        deadline: Option<Instant>,
        scratch: &mut [u8],
        done: &mut Option<Outcome>,
    ) -> io::Result<()> {
        let due = [deadline, link.session.poll_timeout()].into_iter().flatten().min();
        link.set_deadline(due)?;
        let moved = match link.flush() {
            Ok(()) => link.receive(scratch, done),
            Err(error) if is_timeout(&error) => {
                link.session.handle_write(0, Instant::now());
                Ok(())
            }
            // What the server said before it left tells whether it has run the call.
            Err(error) => link.look(scratch, done).and(Err(error)),
        };
        link.session.handle_timeout(Instant::now(), &mut Deliver(done));
        match moved {
            Err(error) if is_timeout(&error) => Ok(()),
            moved => moved,
        }
    }

    /// Makes sure that there is a connection whose server has said hello.
    fn ensure_connected(&mut self, deadline: Option<Instant>) -> Result<(), CallFailure> {
        if self.apart.closed.get() {
            return Err(CallFailure::NotSent(NotSent::Closed));
        }
        self.scratch.resize(RECEIVE_BYTES, 0);
        if let Some(link) = &mut self.link {
            if let Err(error) = link.look(&mut self.scratch, &mut None) {
                link.session.handle_error(&error);
            }
            // When nothing is in flight, a server that goes away is left at once.
            if link.session.is_draining() && link.session.in_flight() == 0 {
                link.session.close();
            }
            match link.session.close_reason() {
                Some(reason) => self.handle_down(reason),
                None if link.session.has_slot() => return Ok(()),
                None if link.session.is_draining() => return Err(self.going_away()),
                // Each slot waits for the answer to a call that was given up.
                None => return Err(CallFailure::NotSent(NotSent::QueueFull)),
            }
        }
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at > now) {
            return Err(self.not_connected());
        }
        let connect_by = now.checked_add(self.config.connect_timeout);
        let by = [connect_by, deadline].into_iter().flatten().min();
        let within = by.map_or(Duration::MAX, |by| by.saturating_duration_since(now));
        if within.is_zero() {
            return Err(CallFailure::DeadlineExceeded { sent: false });
        }
        let outcome = Stream::connect(&self.apart.address, &self.config.resolver, within).and_then(
            |stream| {
                let session = Session::new(&self.connection, Instant::now());
                let mut link = Box::new(Link { stream, session, timeout: None });
                self.say_hello(&mut link, by)?;
                Ok(link)
            },
        );
        match outcome {
            Ok(link) => {
                tracing::debug!(server = %self.apart.address, "connected");
                self.links += 1;
                self.link = Some(link);
                Ok(())
            }
            Err(_) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                Err(CallFailure::DeadlineExceeded { sent: false })
            }
            Err(error) => {
                self.down(false, describe(&error));
                Err(self.not_connected())
            }
        }
    }

    /// Exchanges hellos: only the server's says how large a request may be.
    fn say_hello(&mut self, link: &mut Link, by: Option<Instant>) -> io::Result<()> {
        while !link.session.is_ready() {
            Self::step(link, by, &mut self.scratch, &mut None)?;
            if let Some(reason) = link.session.close_reason() {
                return Err(io::Error::other(reason.to_string()));
            }
            if by.is_some_and(|by| by <= Instant::now()) && !link.session.is_ready() {
                return Err(io::Error::other(CloseReason::ConnectTimeout.to_string()));
            }
        }
        Ok(())
    }

    fn not_connected(&self) -> CallFailure {
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

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
