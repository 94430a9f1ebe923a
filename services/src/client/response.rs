//! A reply with all that came with it.

use bytes::Bytes;
use corewire_client::{Opening, Outcome, Pending, Reply};
use corewire_codec::{Decode, Extras, Forwarded, Metadata};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::client::outcome::{CallError, read_named, read_outcome};
use crate::description::MethodDescription;

/// A successful call's value, with what its handler sent along with it.
///
/// ```
/// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .address("127.0.0.1:0")
/// #     .placement(Placement::Unpinned(1))
/// #     .service(|_| echo::EchoServer::new(echo::Echoer))
/// #     .start()?;
/// # let address = server.addresses()[0].clone();
/// use corewire::{Bytes, blocking};
///
/// let client = echo::EchoClient::new(blocking::Channel::connect(address)?);
/// let response = client.echo(Bytes::from_static(b"hi")).with_response().wait()?; // or `.await`
/// assert_eq!(response.value, "hi");
/// assert!(response.metadata().is_empty() && response.attachment().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Response<R> {
    /// What the method returned.
    pub value: R,
    extras: Option<Box<Extras>>,
    told: Told,
}

/// What the reply's head says.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    handler_us: u32,
    forwarded: Option<Forwarded>,
}

impl<R> Response<R> {
    /// The small named values that came with the reply.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        self.extras.as_ref().map_or_else(Metadata::default, |extras| extras.metadata.view())
    }

    /// The raw bytes that came with the reply's body; empty when there are none. They are a slice
    /// of the receive buffer and keep it alive.
    #[must_use]
    pub fn attachment(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.extras.as_ref().map_or(&NONE, |extras| &extras.attachment)
    }

    /// How long the handler took, in whole µs; `None` when the server did not measure it. It
    /// measures handlers that were pending, and all of a service that has a
    /// [`CallTimer`](crate::layer::CallTimer) layer.
    #[must_use]
    pub fn handler_time(&self) -> Option<Duration> {
        (self.told.handler_us != 0).then(|| Duration::from_micros(self.told.handler_us.into()))
    }

    /// Where the call was run, if the server handed it to another shard than that of the connection, because that
    /// shard owns the call's key. `None` also of a server that does not say.
    #[must_use]
    pub fn forwarded(&self) -> Option<Forwarded> {
        self.told.forwarded
    }

    /// What came with the opening of a server's stream.
    pub(crate) fn opened(value: R, opening: Opening) -> Self {
        let Some(opened) = opening else {
            return Self { value, extras: None, told: Told::default() };
        };
        let extras = Some(Box::new(opened.extras)).filter(|extras| !extras.is_empty());
        Self { value, extras, told: Told { handler_us: 0, forwarded: opened.forwarded } }
    }

    pub(crate) fn read<D: Decode<R>>(mut outcome: Outcome) -> Result<Self, CallError> {
        let (extras, told) = take_told(&mut outcome);
        read_outcome::<D, R>(outcome).map(|value| Self { value, extras, told })
    }

    /// The same, with the method's name in an error that needs it.
    fn read_named<D: Decode<R>>(
        mut outcome: Outcome,
        method: &MethodDescription,
    ) -> Result<Self, CallError> {
        let (extras, told) = take_told(&mut outcome);
        read_named::<D, R>(outcome, method).map(|value| Self { value, extras, told })
    }
}

/// What came with a reply's value.
fn take_told(outcome: &mut Outcome) -> (Option<Box<Extras>>, Told) {
    match outcome {
        Ok(Reply { head, extras, .. }) => {
            (extras.take(), Told { handler_us: head.handler_us, forwarded: head.forwarded })
        }
        Err(_) => (None, Told::default()),
    }
}

pin_project! {
    /// A call whose outcome is a whole [`Response`]. Dropping it cancels the call, as dropping a
    /// [`Call`](crate::Call) does.
    ///
    /// ```
    /// # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder()
    /// #     .address("127.0.0.1:0")
    /// #     .placement(Placement::Unpinned(1))
    /// #     .service(|_| echo::EchoServer::new(echo::Echoer))
    /// #     .start()?;
    /// # let address = server.addresses()[0].clone();
    /// use corewire::{Bytes, blocking};
    ///
    /// let client = echo::EchoClient::new(blocking::Channel::connect(address)?);
    /// let response = client.echo(Bytes::from_static(b"hi")).with_response().wait()?; // or `.await`
    /// assert_eq!(response.value, "hi");
    /// assert!(response.metadata().is_empty() && response.attachment().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a call does nothing unless it is awaited or waited for"]
    pub struct ResponseCall<P, D, R> {
        #[pin]
        pending: P,
        method: &'static MethodDescription,
        types: PhantomData<fn() -> (D, R)>,
    }
}

impl<P, D, R> ResponseCall<P, D, R> {
    pub(crate) fn new(pending: P, method: &'static MethodDescription) -> Self {
        Self { pending, method, types: PhantomData }
    }
}

impl<P, D, R> fmt::Debug for ResponseCall<P, D, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCall").finish_non_exhaustive()
    }
}

impl<P: Pending, D: Decode<R>, R> ResponseCall<P, D, R> {
    /// Blocks this thread until the call ends; see [`Call::wait`](crate::Call::wait).
    ///
    /// # Errors
    ///
    /// Why there is no value; see [`CallError`].
    pub fn wait(self) -> Result<Response<R>, CallError> {
        Response::read_named::<D>(self.pending.wait(), self.method)
    }
}

impl<P: Pending, D: Decode<R>, R> Future for ResponseCall<P, D, R> {
    type Output = Result<Response<R>, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Response::read_named::<D>(ready!(this.pending.poll(context)), this.method))
    }
}
