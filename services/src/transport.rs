//! What a channel of one's own is made of: for test doubles, and for channels around channels.
//!
//! Generated clients call over anything that is a [`Transport`]. Code that only looks at calls, or turns some away, is
//! simpler as a [`Layer`](crate::layer::Layer) in a [`LayeredChannel`](crate::layer::LayeredChannel), which also carries
//! streams. Calls that stream need a [`StreamTransport`](crate::StreamTransport), which only the channels of this crate
//! are: its parts have no public names.
//!
//! # Around another channel
//!
//! ```
//! # use corewire::{ClientShard, Placement, Server, block_on_shard, echo};
//! use corewire::transport::{BodyWriter, MethodName, Pending, RequestHead, Transport};
//! use corewire::{Bytes, Channel, Status};
//! use std::cell::RefCell;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! /// Notes which methods are called.
//! #[derive(Clone)]
//! struct Recorded<C> {
//!     channel: C,
//!     called: Rc<RefCell<Vec<String>>>,
//! }
//!
//! impl<C: Transport> Transport for Recorded<C> {
//!     fn call<E>(
//!         &self,
//!         head: RequestHead,
//!         timeout: Option<Duration>,
//!         encode: E,
//!     ) -> impl Pending + use<C, E>
//!     where
//!         E: FnOnce(&mut BodyWriter<'_>) -> Result<(), Status> + 'static,
//!     {
//!         self.channel.call(head, timeout, encode)
//!     }
//!
//!     fn call_named<E>(
//!         &self,
//!         name: MethodName,
//!         head: RequestHead,
//!         timeout: Option<Duration>,
//!         encode: E,
//!     ) -> impl Pending + use<C, E>
//!     where
//!         E: FnOnce(&mut BodyWriter<'_>) -> Result<(), Status> + 'static,
//!     {
//!         self.called.borrow_mut().push(name.to_string());
//!         self.channel.call_named(name, head, timeout, encode)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Server::builder()
//! #     .address("127.0.0.1:0")
//! #     .placement(Placement::Unpinned(1))
//! #     .service(|_| echo::EchoServer::new(echo::Echoer))
//! #     .start()?;
//! # let address = server.addresses()[0].clone();
//! # block_on_shard(ClientShard::default(), move || async move {
//! let channel = Channel::connect(&address).await?;
//! let recorded = Recorded { channel, called: Rc::default() };
//! let client = echo::EchoClient::new(recorded.clone());
//! assert_eq!(client.echo(Bytes::from_static(b"hi")).await?, "hi");
//! assert_eq!(*recorded.called.borrow(), ["corewire.Echo/echo"]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?
//! # }
//! ```
//!
//! # Without a server
//!
//! A call may be over when it is made: [`std::future::Ready`] is a [`Pending`].
//!
//! ```
//! use corewire::transport::{
//!     BodyWriter, CallFailure, Outcome, Pending, Reply, ReplyHead, RequestHead, Transport,
//! };
//! use corewire::{Bytes, CallError, NotSent, Status, echo};
//! use std::cell::Cell;
//! use std::future::{Ready, ready};
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! /// Fails the first call as if the server could not be reached, and answers the others itself.
//! #[derive(Clone, Default)]
//! struct Flaky(Rc<Cell<u32>>);
//!
//! impl Transport for Flaky {
//!     fn call<E>(&self, _: RequestHead, _: Option<Duration>, _: E) -> impl Pending + use<E>
//!     where
//!         E: FnOnce(&mut BodyWriter<'_>) -> Result<(), Status> + 'static,
//!     {
//!         self.0.set(self.0.get() + 1);
//!         let outcome: Outcome = match self.0.get() {
//!             1 => Err(CallFailure::NotSent(NotSent::NoConnection("it is down".into()))),
//!             // A body of raw bytes. Others say so: `head.encoding = Encoding::plain(CodecId::SPEEDY)`.
//!             _ => Ok(Reply {
//!                 head: ReplyHead::ok(0),
//!                 body: Bytes::from_static(b"well"),
//!                 extras: None,
//!             }),
//!         };
//!         ready(outcome)
//!     }
//! }
//!
//! # futures_lite::future::block_on(async {
//! let client = echo::EchoClient::new(Flaky::default());
//! let error = client.echo(Bytes::new()).await.unwrap_err();
//! assert!(matches!(error, CallError::NotSent(_)));
//! assert_eq!(client.echo(Bytes::new()).await?, "well");
//! # Ok::<_, CallError>(())
//! # })?;
//! # Ok::<_, CallError>(())
//! ```

pub use corewire_client::{CallFailure, MethodName, Outcome, Pending, Reply, Transport};
pub use corewire_codec::{
    Encoding, Extras, FrameWriter as BodyWriter, ReplyHead, RequestHead, reply_flags, request_flags,
};
