//! How a client's channel behaves, whatever drives it, and the replies to its calls.

use bytes::Bytes;
use corewire_codec::{Extras, ReplyHead};
use corewire_codec::{OutOfRange, Payload, Range};
use corewire_proto::ClientConfig;
use std::time::Duration;

use crate::resolver::Resolver;

use crate::failure::ConnectError;

/// How a channel behaves. Each setting has a range, which is checked when a channel is made.
///
/// ```
/// # mod corewire { pub use corewire_client::*; pub use corewire_proto::{ClientConfig, Timeouts}; }
/// use corewire::{ChannelConfig, ClientConfig, Timeouts};
/// use std::time::Duration;
///
/// let config = ChannelConfig {
///     connect_timeout: Duration::from_secs(1),
///     backoff_max: Duration::from_secs(2),
///     connection: ClientConfig {
///         timeouts: Timeouts { ping_after: Duration::from_secs(20), ..Timeouts::default() },
///         ..ClientConfig::default()
///     },
///     ..ChannelConfig::default()
/// };
/// config.check()?;
///
/// let config = ChannelConfig { backoff_min: Duration::ZERO, ..ChannelConfig::default() };
/// let error = config.check().unwrap_err().to_string();
/// assert!(error.starts_with("backoff_min is "), "{error}");
/// # Ok::<(), corewire::ConnectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct ChannelConfig {
    /// Limits and timeouts of each connection.
    pub connection: ClientConfig,
    /// From the start of a connect to its end. Default 3 s, 1 ms to 24 h.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub connect_timeout: Duration,
    /// The wait after the first failed connect; it doubles with each further one. Default 50 ms,
    /// 1 ms to 1 h.
    #[doc(alias("retry", "reconnect"))]
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub backoff_min: Duration,
    /// The longest wait. Default 5 s; at least `backoff_min` and 50 ms, at most 1 h. Each wait is drawn
    /// between half of it and all of it.
    #[doc(alias("retry", "reconnect"))]
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub backoff_max: Duration,
    /// What looks up the server's name, if its address is one. Default [`Resolver::system`].
    #[cfg_attr(feature = "serde", serde(skip))]
    pub resolver: Resolver,
    /// Calls that may wait for a slot, for room or for the connection. Default 65,536, 1 to
    /// 16,777,216; one more fails at once. On a shard each of them holds its encoded request instead of its arguments.
    pub waiting_max: usize,
    /// Unsent bytes of a connection above which no further call is written: it waits for its turn as if it
    /// had no slot. Default 1 MiB, 0 to 1 GiB. One request may be larger.
    /// 0 writes one request at a time.
    #[doc(alias("backpressure"))]
    pub unsent_max: usize,
    /// Bytes of requests that a `SharedChannel` holds for its driver, encoded and not written yet. Default
    /// 32 MiB, 0 to 1 GiB; one more request fails at once with [`NotSent::QueueFull`](crate::NotSent), unless it is the
    /// only one. Requests of less than 256 bytes do not count: `waiting_max` bounds them.
    #[doc(alias("backpressure"))]
    pub queued_max: usize,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(ChannelConfig, ChannelConfig::check);

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connection: ClientConfig::default(),
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            resolver: Resolver::system(),
            waiting_max: 65_536,
            unsent_max: 1024 * 1024,
            queued_max: 32 * 1024 * 1024,
        }
    }
}

impl ChannelConfig {
    /// Checks the range of each setting.
    ///
    /// # Errors
    ///
    /// The first setting that is outside its range, with what is allowed.
    pub fn check(&self) -> Result<(), ConnectError> {
        self.in_range().map_err(|error| ConnectError::Setting(error.to_string()))
    }

    fn in_range(&self) -> Result<(), OutOfRange> {
        self.connection.timeouts.check()?;
        CONNECT_TIMEOUT.check("connect_timeout", self.connect_timeout)?;
        BACKOFF_MIN.check("backoff_min", self.backoff_min)?;
        let least = self.backoff_min.max(BACKOFF_MAX_LEAST);
        Range::new(least, BACKOFF_LONGEST).check("backoff_max", self.backoff_max)?;
        Range::new(1, WAITING_MAX).check("waiting_max", self.waiting_max)?;
        Range::new(0, BYTES_MAX).check("unsent_max", self.unsent_max)?;
        Range::new(0, BYTES_MAX).check("queued_max", self.queued_max)
    }
}

mod ranges {
    use super::{Duration, Range};

    pub(super) const CONNECT_TIMEOUT: Range<Duration> =
        Range::new(Duration::from_millis(1), Duration::from_secs(24 * 3600));
    pub(super) const BACKOFF_LONGEST: Duration = Duration::from_secs(3600);
    pub(super) const BACKOFF_MIN: Range<Duration> =
        Range::new(Duration::from_millis(1), BACKOFF_LONGEST);
    /// In the long run a channel waits at least half of this between failed connects: no setting makes it
    /// dial more than 40 times a second.
    pub(super) const BACKOFF_MAX_LEAST: Duration = Duration::from_millis(50);
    pub(super) const WAITING_MAX: usize = 1 << 24;
    pub(super) const BYTES_MAX: usize = 1 << 30;
}
use ranges::{
    BACKOFF_LONGEST, BACKOFF_MAX_LEAST, BACKOFF_MIN, BYTES_MAX, CONNECT_TIMEOUT, WAITING_MAX,
};

/// How many turns in a row deadlines are put off while what arrived is not read to the end, because replies
/// may be in it. A server that never stops sending cannot put them off for longer.
pub const DEADLINE_TURNS: u8 = 64;

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

impl Reply {
    /// A reply as it came.
    #[inline]
    pub fn new(head: ReplyHead, payload: Payload<'_>) -> Self {
        if head.has_extras() {
            let (body, extras) = payload.into_parts();
            return Self { head, body, extras: Some(Box::new(extras)) };
        }
        Self { head, body: payload.into_body(), extras: None }
    }
}

impl Reply {
    /// What a one-way call returns when it has been written: there is no other reply.
    pub fn written() -> Self {
        Self { head: ReplyHead::ok(0), body: Bytes::new(), extras: None }
    }
}
