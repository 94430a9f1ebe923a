//! One-way calls: written, and then forgotten by both sides.

use bytes::Bytes;
use corewire_client::{MethodName, Pending, Transport};
use corewire_codec::{
    Codec, CodecId, Decode, DecodeError, Encode, EncodeError, FrameWriter, Status, request_flags,
};

use crate::client::caller::{Call, Prepare};
use crate::description::MethodDescription;

/// The codec of the reply that a one-way call does not have.
///
/// ```
/// use corewire::codec::{Codec, NoReply};
///
/// assert_eq!(NoReply::ID, corewire::CodecId::RAW);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoReply;

impl Codec for NoReply {
    const ID: CodecId = CodecId::RAW;
}

impl Encode<()> for NoReply {
    fn encode((): (), _: &mut FrameWriter<'_>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Decode<()> for NoReply {
    fn decode(_: Bytes) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl<C: Transport> Prepare<'_, C> {
    /// Prepares a one-way call. `Ok` says that it was written into the connection, and nothing more: it
    /// may be lost with the connection, dropped by a server that has too many, or fail in its handler, and
    /// no error is reported. The timeout is sent along: a server drops a call that is late.
    pub fn one_way<E>(
        &self,
        method: &'static MethodDescription,
        arguments: E,
    ) -> Call<impl Pending + use<C, E>, NoReply, ()>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status> + 'static,
    {
        let (mut head, timeout, encode) = self.head(method, self.timeout(), arguments);
        head.flags |= request_flags::ONE_WAY;
        let name = MethodName { service: method.service, method: method.name };
        Call::new(self.caller.channel().call_named(name, head, timeout, encode), method)
    }
}
