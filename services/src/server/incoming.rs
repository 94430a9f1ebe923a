//! A call as it came to a server: what a generated server reads a handler's arguments from.

use bytes::Bytes;
use corewire_codec::{DecodeError, Extras, Payload, Status};
use corewire_engine::Incoming;
use std::marker::PhantomData;

use crate::context::Context;
use crate::encoding::Argument;

/// A call whose arguments have not been read yet.
#[derive(Debug)]
pub struct IncomingCall<'a, 'b> {
    pub(crate) incoming: &'a mut Incoming<'b>,
    /// What came along with a body that was taken out.
    pub(crate) extras: Option<Box<Extras>>,
}

impl IncomingCall<'_, '_> {
    /// The arguments, to be read in order.
    #[inline]
    pub fn arguments(&mut self) -> Arguments<'_> {
        Arguments::of(self.incoming)
    }

    /// What the handler may know about the call. It takes metadata and attachment with it, if there
    /// are any, so the arguments must have been read before.
    #[must_use]
    pub fn context(&mut self) -> Context {
        if self.incoming.request.has_extras() {
            drop(self.detach());
        }
        let extras = self.extras.take();
        Context::new(self.incoming, extras)
    }

    /// Takes the request out of the receive buffer: its body, if it was not taken before. What came
    /// with it is kept for the context.
    #[cold]
    fn detach(&mut self) -> Bytes {
        let Some(payload) = self.incoming.payload.take() else { return Bytes::new() };
        let (body, extras) = payload.into_parts();
        self.extras = Some(Box::new(extras));
        body
    }

    /// The body for a handler on another thread, where it may wait: a small one is copied, so that it does not keep a
    /// receive buffer alive.
    pub fn body_to_keep(&mut self) -> Bytes {
        /// Copying this much takes about as long as an allocation.
        const COPIED_BYTES_MAX: usize = 16 * 1024;
        let body = self.raw_body();
        if body.len() > COPIED_BYTES_MAX { body } else { Bytes::copy_from_slice(&body) }
    }

    /// The body as it came: a slice of what was received, not copied. It keeps one of the
    /// shard's receive buffers (132 KiB unless configured otherwise) alive: copy what is to be kept for long.
    #[inline]
    pub fn raw_body(&mut self) -> Bytes {
        if self.incoming.request.has_extras() {
            return self.detach();
        }
        self.incoming.payload.take().map(Payload::into_body).unwrap_or_default()
    }
}

/// How a method's calls give the hash of their key: it is read from the body, and nothing behind it. `None` if the body
/// does not hold it.
pub type KeyOf = fn(Arguments<'_>) -> Option<u64>;

/// The arguments of a call, speedy-encoded one after the other.
#[derive(Debug)]
pub struct Arguments<'a> {
    rest: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Those of a call whose body is still in place.
    #[inline]
    pub(crate) fn of(incoming: &'a Incoming<'_>) -> Self {
        Self { rest: incoming.payload.as_ref().map_or(&[], Payload::body) }
    }

    /// The bytes that were not read yet: the whole body of a call whose only argument is its body.
    #[inline]
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next argument.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the argument's name.
    #[inline]
    pub fn read<T, C>(&mut self, name: &str, _: PhantomData<C>) -> Result<T, Status>
    where
        C: Argument<T>,
    {
        C::read(&mut self.rest).map_err(|error| bad_argument(name, &error))
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when bytes are left: the caller's method takes other arguments.
    #[inline]
    pub fn finish(self) -> Result<(), Status> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(bad_argument("arguments", &DecodeError::left_over(left))),
        }
    }
}

#[cold]
fn bad_argument(name: &str, error: &DecodeError) -> Status {
    Status::invalid_argument(format!("argument `{name}`: {error}"))
}
