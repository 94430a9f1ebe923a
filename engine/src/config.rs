//! How a client's channel behaves, whoever drives it, and what its calls bring.

use bytes::Bytes;
#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
use corewire_codec::Payload;
use corewire_codec::{Extras, ReplyHead};
use corewire_proto::ClientConfig;
use std::time::Duration;

/// How a channel behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Limits and timeouts of each connection.
    pub connection: ClientConfig,
    /// From the start of a connect to its end. Default 3 s.
    pub connect_timeout: Duration,
    /// The wait after the first failed connect; it doubles with each further one. Default 50 ms.
    pub backoff_min: Duration,
    /// The longest wait. Default 5 s. Each wait is drawn between half of it and all of it.
    pub backoff_max: Duration,
    /// Calls that may wait for a slot or for the connection. Default 65,536; one more fails at once.
    pub waiting_max: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connection: ClientConfig::default(),
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            waiting_max: 65_536,
        }
    }
}

/// Unsent bytes of a connection above which one-way calls wait: nothing else holds them up.
#[cfg(any(feature = "shard", feature = "tokio"))]
pub(crate) const ONE_WAY_UNSENT_MAX: usize = 1024 * 1024;

/// A reply, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its fields.
    pub head: ReplyHead,
    /// Its body: a slice of what was received.
    pub body: Bytes,
    /// Its metadata and attachment; most replies have neither.
    pub extras: Option<Box<Extras>>,
}

#[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
impl Reply {
    /// A reply as it came.
    #[inline]
    pub(crate) fn new(head: ReplyHead, payload: Payload<'_>) -> Self {
        if head.has_extras() {
            let (body, extras) = payload.into_parts();
            return Self { head, body, extras: Some(Box::new(extras)) };
        }
        Self { head, body: payload.into_body(), extras: None }
    }
}

impl Reply {
    /// What a one-way call answers that was written: there is no other reply.
    #[cfg(any(feature = "shard", feature = "tokio", feature = "blocking"))]
    pub(crate) fn written() -> Self {
        Self { head: ReplyHead::ok(0), body: Bytes::new(), extras: None }
    }
}
