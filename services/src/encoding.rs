//! What the types of a service's messages must have, in terms that an author can act on.
//!
//! Generated code asks for each type's encoding by one call, at a client and at a server alike, and gets a codec of which
//! no more is known than that it has one. So a type without encoding fails at these calls, in the same words, which
//! rustc prints once, and not at everything that is made of them.

use corewire_codec::{Decode, DecodeError, Encode, FrameWriter, Speedy, Status, read_argument};
use speedy::{LittleEndian, Readable, Writable};
use std::marker::PhantomData;

/// A codec that carries a `T` both ways, as a result or as the messages of a stream.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot cross the wire: it has no encoding in the codec `{Self}`",
    label = "has no encoding",
    note = "write `#[derive(speedy::Readable, speedy::Writable)]` above its definition; all that it contains needs the same"
)]
pub trait Carries<T>: Encode<T> + Decode<T> + 'static {}

#[diagnostic::do_not_recommend]
impl<C: Encode<T> + Decode<T> + 'static, T> Carries<T> for C {}

/// A codec that carries a `T` as one of a call's arguments.
#[diagnostic::on_unimplemented(
    message = "`{T}` cannot cross the wire: it has no encoding in the codec `{Self}`",
    label = "has no encoding",
    note = "write `#[derive(speedy::Readable, speedy::Writable)]` above its definition; all that it contains needs the same"
)]
pub trait Argument<T>: 'static {
    /// Appends the argument with this name to a request's body.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the name when the value has no encoding.
    fn write(name: &str, value: &T, body: &mut FrameWriter<'_>) -> Result<(), Status>;

    /// Reads the argument from the front of `rest`, and moves `rest` behind it.
    ///
    /// # Errors
    ///
    /// Why the bytes are no `T`.
    fn read(rest: &mut &[u8]) -> Result<T, DecodeError>;
}

#[diagnostic::do_not_recommend]
impl<T> Argument<T> for Speedy
where
    T: Writable<LittleEndian> + for<'a> Readable<'a, LittleEndian>,
{
    #[inline]
    fn write(name: &str, value: &T, body: &mut FrameWriter<'_>) -> Result<(), Status> {
        body.argument(name, value)
    }

    #[inline]
    fn read(rest: &mut &[u8]) -> Result<T, DecodeError> {
        read_argument(rest)
    }
}

/// The codec `C` as one that carries a `T`.
#[inline]
#[must_use]
pub fn carried<C: Carries<T>, T>() -> PhantomData<impl Encode<T> + Decode<T> + 'static> {
    PhantomData::<C>
}

/// The codec `C` as one that carries a `T` as an argument.
#[inline]
#[must_use]
pub fn argument<C: Argument<T>, T>() -> PhantomData<impl Argument<T>> {
    PhantomData::<C>
}
