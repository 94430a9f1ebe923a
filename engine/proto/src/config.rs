//! The settings that a connection gets when it is made.

use core::time::Duration;

use corewire_codec::{CodecId, HelloRecords, Limits, OutOfRange, Range, StreamCredit};

/// How long each kind of silence may last. All have the resolution of the caller's timer, and a range
/// that is checked when a server starts or a channel is made; [`Duration::MAX`], which is allowed for
/// each of them, means for ever.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::Timeouts;
/// use std::time::Duration;
///
/// let timeouts = Timeouts {
///     ping_after: Duration::from_secs(20),
///     age: Some(Duration::from_secs(3600)), // clients reconnect once an hour
///     ..Timeouts::default()
/// };
/// assert!(timeouts.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct Timeouts {
    /// From the connection's start to the peer's whole hello. Default 5 s, 10 ms to 24 h. At the limit the
    /// connection closes with rule 5.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub hello: Duration,
    /// From a frame's first byte to its last. Default 60 s, 10 ms to 24 h. It bounds how long a peer that sends a
    /// byte at a time can hold a partial frame; a 16 MiB frame needs 280 KB/s to make it. Rule 17.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub frame: Duration,
    /// Silence after which a ping asks whether the peer is there. Default 60 s, 10 ms to 24 h.
    #[doc(alias("keepalive", "heartbeat"))]
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub ping_after: Duration,
    /// How long the pong to a ping may take. Default 20 s, 10 ms to 24 h. Rule 32.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub ping: Duration,
    /// How long a connection may exist without any call in flight; `None` (the default) is for ever.
    /// 10 ms to 30 days. Rule 30.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::optional_time"))]
    pub idle: Option<Duration>,
    /// How long the peer may read nothing of what is waiting for it. Default 30 s, 10 ms to 24 h. Rule 31.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub write: Duration,
    /// How old a server lets a connection become; `None` (the default) is for ever.
    /// 10 ms to 365 days. Then it sends a
    /// go-away, once, and the calls in flight are finished, so that clients spread over the servers
    /// that there are now. Clients ignore this setting.
    #[doc(alias("max_connection_age"))]
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::optional_time"))]
    pub age: Option<Duration>,
    /// How long the calls of a connection that reached its age may take to finish. Default 30 s, 0 to 24 h. Then
    /// the connection closes with [`CloseReason::DrainDeadline`](crate::CloseReason).
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub age_grace: Duration,
    /// By how much, in percent (0 to 50; default 10), the times of `ping_after` and `age` are
    /// shortened at most, by a different amount for each connection, so that connections that were
    /// made together do not act together. The amounts follow from the seed and the connection's id.
    pub jitter_percent: u8,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(Timeouts, Timeouts::check);

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            frame: Duration::from_secs(60),
            ping_after: Duration::from_secs(60),
            ping: Duration::from_secs(20),
            idle: None,
            write: Duration::from_secs(30),
            age: None,
            age_grace: Duration::from_secs(30),
            jitter_percent: 10,
        }
    }
}

/// The least time of each kind: shorter ones would keep a core busy with pings, or close connections
/// to well-behaved peers.
const SHORT: Duration = Duration::from_millis(10);
const DAY: Duration = Duration::from_secs(24 * 3600);
const USUAL: Range<Duration> = Range::new(SHORT, DAY).or_never();
const IDLE: Range<Duration> = Range::new(SHORT, Duration::from_secs(30 * 24 * 3600)).or_never();
const AGE: Range<Duration> = Range::new(SHORT, Duration::from_secs(365 * 24 * 3600)).or_never();
const AGE_GRACE: Range<Duration> = Range::new(Duration::ZERO, DAY).or_never();
/// More than half, and pings would follow each other without a pause.
const JITTER: Range<usize> = Range::new(0, 50);

impl Timeouts {
    /// Checks the range of each.
    ///
    /// # Errors
    ///
    /// Which one is outside its range, what it is, and what is allowed.
    pub fn check(&self) -> Result<(), OutOfRange> {
        USUAL.check("timeouts.hello", self.hello)?;
        USUAL.check("timeouts.frame", self.frame)?;
        USUAL.check("timeouts.ping_after", self.ping_after)?;
        USUAL.check("timeouts.ping", self.ping)?;
        IDLE.check("timeouts.idle", self.idle.unwrap_or(Duration::MAX))?;
        USUAL.check("timeouts.write", self.write)?;
        AGE.check("timeouts.age", self.age.unwrap_or(Duration::MAX))?;
        AGE_GRACE.check("timeouts.age_grace", self.age_grace)?;
        JITTER.check("timeouts.jitter_percent", self.jitter_percent.into())
    }
}

/// What all connections of one server's shard have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// What this server accepts from each connection.
    pub limits: Limits,
    /// How long silence may last.
    pub timeouts: Timeouts,
    /// The shard that answers and the number of shards; goes into the hello.
    pub shard: u16,
    /// How many shards the server has, at least one.
    pub shards: u16,
    /// Whether requests may ask for streams. If not (the default), such a request is answered
    /// `Unimplemented`, and what its client streams is dropped.
    pub streams: bool,
    /// How many one-way calls of a connection may be pending at once (at most 32,768 take effect);
    /// one more is dropped. 0, the default, means that one-way calls are not offered and all are
    /// dropped.
    pub one_way_pending_max: u16,
    /// What the jitter of each connection is made from, together with its id.
    pub jitter_seed: u64,
}

/// What distinguishes one connection of a server from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The connection's id in this process; with a call id it names a call globally.
    pub connection_id: u64,
}

/// The settings of a client's connection.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::{ClientConfig, Timeouts};
/// use std::time::Duration;
///
/// let timeouts = Timeouts { ping_after: Duration::from_secs(5), ..Timeouts::default() };
/// let config = ClientConfig { timeouts, ..ClientConfig::default() };
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct ClientConfig {
    /// What this client accepts.
    pub limits: Limits,
    /// How long silence may last.
    pub timeouts: Timeouts,
    /// What the jitter of each connection is made from, together with its id.
    pub jitter_seed: u64,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(ClientConfig, |config| config.timeouts.check());

/// The records that both sides send: limits, and the codecs and the hash of keys of this crate.
pub(crate) fn records(limits: &Limits, timeouts: &Timeouts) -> HelloRecords {
    let mut limits = *limits;
    // A window is never outside the range of its limit: the connection's least is four times it.
    limits.stream_credit = StreamCredit::new(limits.stream_window()).unwrap_or_default();
    let records = HelloRecords {
        limits,
        idle_timeout_ms: timeouts
            .idle
            .map(|idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX)),
        key_routing: HelloRecords::KEY_ROUTING_XXH3,
        ..HelloRecords::default()
    };
    records.with_codec(CodecId::RAW).with_codec(CodecId::SPEEDY)
}
