//! What a generated client writes into a request's body.
//!
//! A closure has a type of its own, and whatever takes it is compiled again for it. So a client has no closures:
//! methods that take arguments of the same types have the same type of [`Values`], and share the code of a call.

use bytes::Bytes;
use corewire_codec::{FrameWriter, Status};
use std::marker::PhantomData;

use crate::description::MethodDescription;
use crate::encoding::Argument;

/// The arguments of a call, in order; the macro's code makes it.
#[derive(Clone, Copy, Debug)]
pub struct Values<L> {
    method: &'static MethodDescription,
    list: L,
}

/// Some arguments, and then the one which has the number `AT` in the method's description, with its codec.
#[derive(Clone, Copy, Debug)]
pub struct Listed<L, T, C, const AT: usize>(L, T, PhantomData<fn() -> C>);

/// Arguments that can be written.
pub trait WriteValues {
    /// Writes them.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with the name of the first that has no encoding.
    fn write(
        &self,
        method: &'static MethodDescription,
        body: &mut FrameWriter<'_>,
    ) -> Result<(), Status>;
}

impl Values<()> {
    /// No argument yet of a call of `method`.
    #[inline]
    #[must_use]
    pub fn of(method: &'static MethodDescription) -> Self {
        Self { method, list: () }
    }
}

impl<L> Values<L> {
    /// These and one more: the one with the number `AT` in the method's description.
    #[inline]
    pub fn and<const AT: usize, T, C>(
        self,
        value: T,
        _: PhantomData<C>,
    ) -> Values<Listed<L, T, C, AT>>
    where
        T: 'static,
        C: Argument<T>,
    {
        Values { method: self.method, list: Listed(self.list, value, PhantomData) }
    }

    /// Writes them into a request's body.
    #[inline]
    pub fn writer(self) -> impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + use<L>
    where
        L: WriteValues + 'static,
    {
        move |body: &mut FrameWriter<'_>| self.list.write(self.method, body)
    }
}

impl WriteValues for () {
    #[inline]
    fn write(&self, _: &'static MethodDescription, _: &mut FrameWriter<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl<L, T, C, const AT: usize> WriteValues for Listed<L, T, C, AT>
where
    L: WriteValues,
    C: Argument<T>,
{
    #[inline]
    fn write(
        &self,
        method: &'static MethodDescription,
        body: &mut FrameWriter<'_>,
    ) -> Result<(), Status> {
        self.0.write(method, body)?;
        let name = method.arguments.get(AT).map_or("", |argument| argument.name);
        C::write(name, &self.1, body)
    }
}

/// Writes the body of a call without arguments.
#[inline]
pub fn no_values() -> impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> {
    |_: &mut FrameWriter<'_>| Ok(())
}

/// Writes the body of a call whose only argument is its body.
#[inline]
pub fn raw_value(value: Bytes) -> impl FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> {
    move |body: &mut FrameWriter<'_>| {
        body.raw(value);
        Ok(())
    }
}
