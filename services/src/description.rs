//! The names of a service and its methods, and what they take: data made by the macro.

#[cfg(feature = "shard")]
use corewire_codec::request_flags;
use corewire_codec::{CodecId, MethodId};

/// A service, as its trait says.
///
/// ```
/// use corewire::CallKind;
/// use corewire::echo::EchoClient;
///
/// let service = EchoClient::DESCRIPTION;
/// assert_eq!(service.name, "corewire.Echo");
/// assert_eq!(service.methods[0].name, "echo");
/// assert_eq!(service.methods[0].kind, CallKind::Unary);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDescription {
    /// Its name on the wire.
    pub name: &'static str,
    /// The trait's documentation.
    pub docs: &'static str,
    /// Its methods, in the order of the trait.
    pub methods: &'static [MethodDescription],
}

/// Who sends how many messages in a call.
///
/// ```
/// use corewire::{CallKind, echo::EchoClient};
///
/// let method = &EchoClient::<()>::DESCRIPTION.methods[0];
/// assert_eq!(method.kind, CallKind::Unary);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// One request, one reply.
    Unary,
    /// One request, and no reply.
    OneWay,
    /// A stream from the client, one reply.
    ClientStream,
    /// One request, a stream from the server.
    ServerStream,
    /// A stream from either side.
    Bidirectional,
}

impl CallKind {
    /// The bits of a request's flags that say so.
    #[cfg(feature = "shard")]
    #[inline]
    pub(crate) const fn request_flags(self) -> u8 {
        match self {
            Self::Unary => 0,
            Self::OneWay => request_flags::ONE_WAY,
            Self::ClientStream => request_flags::STREAM_IN,
            Self::ServerStream => request_flags::STREAM_OUT,
            Self::Bidirectional => request_flags::STREAM_IN | request_flags::STREAM_OUT,
        }
    }
}

/// One method.
///
/// ```
/// use corewire::{CodecId, echo::EchoClient};
///
/// let method = &EchoClient::<()>::DESCRIPTION.methods[0];
/// assert_eq!((method.service, method.name), ("corewire.Echo", "echo"));
/// assert_eq!(method.request_codec, CodecId::RAW);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodDescription {
    /// Its number on the wire, from its names.
    pub id: MethodId,
    /// Its service's name on the wire.
    pub service: &'static str,
    /// Its name on the wire.
    pub name: &'static str,
    /// The method's documentation.
    pub docs: &'static str,
    /// Who sends how many messages.
    pub kind: CallKind,
    /// What it takes, in order.
    pub arguments: &'static [ArgumentDescription],
    /// The name of the argument that is its key, if it has one: calls with equal keys belong to one shard.
    pub key: Option<&'static str>,
    /// The Rust type of a successful reply, as written; empty for a one-way method.
    pub reply: &'static str,
    /// How the arguments of requests are encoded, except for a stream.
    pub request_codec: CodecId,
    /// How replies are encoded, and each message of a stream of replies.
    pub reply_codec: CodecId,
}

/// One argument of a method.
///
/// ```
/// use corewire::echo::EchoClient;
///
/// let method = &EchoClient::<()>::DESCRIPTION.methods[0];
/// assert_eq!((method.arguments[0].name, method.arguments[0].type_name), ("body", "Bytes"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentDescription {
    /// Its name.
    pub name: &'static str,
    /// Its Rust type, as written.
    pub type_name: &'static str,
}
