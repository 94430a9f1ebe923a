//! How much a connection may do at a time, and how much it and its shard may hold.
//!
//! Each setting's range is stated where it is documented and checked when a server starts: the error names the
//! setting, its value, and what is allowed. All bounds are per connection, unless a row says that they are the
//! shard's.
//!
//! | bound | default | what happens there |
//! |---|---|---|
//! | frames handled in a turn | 128 | to the end of the run queue |
//! | receives in a turn | 4 of 132 KiB | to the end of the run queue |
//! | bytes sent in a turn | 528 KiB | to the end of the run queue |
//! | receives and bytes sent, while others wait | a share, at least 1 and 132 KiB | to the end of the run queue |
//! | bytes received and sent in a turn of the shard | 528 KiB | the others wait; the shard polls for readiness |
//! | frames handled in a turn of the shard | 512 | the same |
//! | unsent bytes | 1 MiB, and one reply | nothing more is read until they leave |
//! | frame | 16 MiB | go-away, rule 12; memory grows with what arrived, not with what was announced |
//! | calls in flight | 4,096 | go-away, rule 21 |
//! | one-way calls that pend | 1,024 | one more is dropped and counted |
//! | credit of a stream | 256 KiB | its sender waits; a message past it is rule 24 |
//! | credit of all streams | 16 MiB | all senders wait; calls and ends do not |
//! | metadata | 16 KiB | go-away, rule 15 |
//! | connections accepted in a turn | 64 | the rest in the next turn |
//! | hello | 5 s | go-away, rule 5 |
//! | partial frame | 60 s | go-away, rule 17 |
//! | silence | ping after 60 s, pong within 20 s | go-away, rule 32 |
//! | unread replies | 30 s without progress | go-away, rule 31; what the peer's kernel acknowledged is progress |
//! | held by pending calls | 32 MiB | not read from for 20 ms, then its requests are refused |
//! | held of a shard by one | as much as is free | the same; its streams wait; what comes for them ends calls |
//! | held of a shard by one address | four times as much as is free | each of its connections has the reserve alone |
//! | held of a shard by all | 256 MiB, an eighth of it in reserve | over three quarters, cutting off: rule 33 |
//! | calls that pend on a shard | 65,536, shared out in the same way | the same, if the reserve is in use |
//! | connections of a shard | by descriptors | accepting pauses |
//! | held of a key's owner by calls of other shards' connections | each connection as one of its own | refused there, at once |
//!
//! What counts as held, and why in this order: `docs/decisions/0009-budgets-and-shedding.md`. Shares are computed
//! in `shard/account.rs`, waiting for room is in `conn/server/admission.rs`, cutting off in `driver/relieve.rs`.
//! Calls by key that other shards hand over are admitted in `calls/guests.rs`; what comes back is charged to their connection.
//! With a `queue_delay`, requests that waited too long are shed (`calls/queue_delay.rs`). With or without it, a
//! call whose time passed in the receive buffer is not run.
//!
//! `ShardCounters` has what is held (`held_bytes`, `calls_pending`), how often reading stopped (`reads_paused`),
//! who was cut off (`connections_cut_off`), and what was refused (`calls_refused`), shed (`calls_shed`) or late
//! (`calls_expired`).

use corewire_codec::{OutOfRange, Range};
use std::time::Duration;

/// How much one connection may do before another has its turn, and how much it and its shard may hold.
///
/// What is held is counted in bytes by a formula, not by asking the allocator:
///
/// - a call whose handler pends: [`call_bytes`](Self::call_bytes) and the bytes of its request, until
///   its handler is dropped or done. A handler that is ready at once holds nothing;
/// - a request of more than [`receive_bytes`](Self::receive_bytes): all its bytes, from when its length is
///   known until it is handled;
/// - messages of streams that have arrived and that nobody has taken out;
/// - what is written and not sent;
/// - replies and messages of calls by key that another shard has run, from their arrival at the connection's shard, and a client's
///   messages until that shard has taken them;
///
/// - a partial frame from an eighth of [`receive_bytes`](Self::receive_bytes) up: the whole buffer.
///
/// What a shard may hold is shared out: a connection may hold as much as is free of seven eighths of the
/// shard's limit, so one alone gets half of them, ten get an eleventh each, and each share shrinks as the
/// shard fills. The last eighth is for connections that hold little: each may have a sixty-fourth of what
/// is free. If the connections of one address (IPv6: of one /64) together hold more than four times what is
/// free, they have only the last eighth.
///
/// A connection that reaches its limit or its share is not read from for up to [`refuse_after`](Self::refuse_after),
/// counted again whenever it gives something back: its own socket slows its client down (back-pressure). If
/// that is not enough, its requests are read and refused with `ResourceExhausted`, as not run and with a hint
/// when to try again, until there is room. If it is streams that hold the share, the next message for a stream
/// ends its call in the same way. What its own streams send waits. While a shard holds more than three
/// quarters of its bytes, connections that keep most of it and give nothing back for
/// [`stalled_for`](Self::stalled_for) are cut off with rule 33, and the log names them. So a limit is exceeded
/// by at most one request and by what running handlers still reply. All of it is counted; see
/// [`ShardCounters`](crate::ShardCounters).
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{Budgets, QueueDelay};
///
/// let budgets = Budgets {
///     shard_bytes_max: 128 * 1024 * 1024,
///     connection_bytes_max: 8 * 1024 * 1024,
///     queue_delay: Some(QueueDelay::default()), // shed what waited too long
///     ..Budgets::default()
/// };
/// # let _ = budgets;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct Budgets {
    /// Frames handled per connection and turn. Default 128, 1 to 65,536.
    pub frames_per_turn: usize,
    /// Receive operations per connection and turn. Default 4, 1 to 65,536.
    pub receives_per_turn: usize,
    /// The most bytes that one receive takes, and the size of the shard's shared receive buffers.
    /// Default 132 KiB: bodies of 64 and 128 KiB are usual, and two of 64 KiB or one of 128 KiB fit
    /// with their headers. 4 KiB to 16 MiB.
    pub receive_bytes: usize,
    /// Above this many unsent bytes, nothing more is read from a connection. Default 1 MiB, 0 to 1 GiB. One
    /// reply more than this may be held, since a reply is written whole.
    pub unsent_bytes_max: usize,
    /// Bytes sent per connection and turn. Default 528 KiB, as much as may be received; 4 KiB to
    /// 1 GiB.
    pub send_bytes_per_turn: usize,
    /// Bytes received and sent per turn of the shard, by all its connections together. Default 528 KiB; 4 KiB
    /// to 1 GiB. When they are used up, the shard polls for new readiness before connections with much to do
    /// go on; connections with little to do go first.
    pub shard_bytes_per_turn: usize,
    /// Frames handled per turn of the shard, for all its connections together, counted in steps of
    /// sixteen. Default 512, 1 to 65,536.
    pub shard_frames_per_turn: usize,
    /// Connections accepted per turn. Default 64, 1 to 65,536.
    pub accepts_per_turn: usize,
    /// What a call whose handler pends is charged, in addition to the bytes of its request.
    /// Default 1 KiB, 0 to 1 MiB.
    pub call_bytes: usize,
    /// Bytes that the pending calls of one connection may hold. Default 32 MiB, 1 byte to 1 TiB.
    pub connection_bytes_max: usize,
    /// Bytes that all connections of a shard may hold together. Default 256 MiB; from the size of the
    /// largest frame that the server accepts to 1 TiB.
    pub shard_bytes_max: usize,
    /// Calls that may pend on a shard at once. Default 65,536, 1 to 16,777,216.
    pub shard_calls_max: usize,
    /// How long a connection is not read from before its requests are refused. Default 20 ms, 0 to 10 s.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub refuse_after: Duration,
    /// How long a connection may hold much of a shard whose memory is short without giving any of it back,
    /// before it is cut off. Default 5 s; 10 ms to 5 min.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub stalled_for: Duration,
    /// When to turn requests away because they waited too long for their shard. Default `None`: never.
    pub queue_delay: Option<QueueDelay>,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(Budgets, |budgets| budgets.check(1));

impl Default for Budgets {
    fn default() -> Self {
        Self {
            frames_per_turn: 128,
            receives_per_turn: 4,
            receive_bytes: 132 * 1024,
            unsent_bytes_max: 1024 * 1024,
            send_bytes_per_turn: 4 * 132 * 1024,
            shard_bytes_per_turn: 4 * 132 * 1024,
            shard_frames_per_turn: 512,
            accepts_per_turn: 64,
            call_bytes: 1024,
            connection_bytes_max: 32 * 1024 * 1024,
            shard_bytes_max: 256 * 1024 * 1024,
            shard_calls_max: 65_536,
            refuse_after: Duration::from_millis(20),
            stalled_for: Duration::from_secs(5),
            queue_delay: None,
        }
    }
}

/// When a shard sheds load: how long requests may wait, and for how long they may wait longer than that.
///
/// A request of usual priority (3) that waited for more than `target` is refused with
/// `ResourceExhausted`, as not run, if for the length of `interval` every turn of the shard had such a
/// wait. A burst is served, however long its last request waits; a standing queue is cut down to what can
/// be answered in time. Each priority below the usual one halves the target, each above doubles it: as
/// the queue grows, the lowest are turned away first, and once that keeps the queue short the higher ones
/// are not touched at all.
///
/// The wait is counted from when the shard saw that the connection had something to read. Earlier
/// waits, in the network or behind a connection's limit, are not known here.
///
/// The rule is that of *controlled delay* (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue
/// 2012) in the form that suits servers: a request that waited too long is turned away at once, since
/// its caller, unlike a flow of packets, does not slow down for the loss of one in many.
///
/// Handlers that take longer than the target themselves keep others waiting longer than it: choose a
/// target that is many times as long as they are.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{Budgets, QueueDelay};
/// use std::time::Duration;
///
/// let delay = QueueDelay { target: Duration::from_millis(10), ..QueueDelay::default() };
/// let budgets = Budgets { queue_delay: Some(delay), ..Budgets::default() };
/// # let _ = budgets;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct QueueDelay {
    /// How long a request of usual priority may wait. Default 5 ms; 100 µs to 10 s.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub target: Duration,
    /// How long the queue must have stood. Default 100 ms; at least the target, at most 60 s.
    #[cfg_attr(feature = "serde", serde(with = "corewire_codec::settings::time"))]
    pub interval: Duration,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(QueueDelay, QueueDelay::check);

impl Default for QueueDelay {
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100) }
    }
}

impl Budgets {
    /// What is wrong with them, if anything; `frame_bytes` is the largest frame that is accepted.
    pub(crate) fn check(&self, frame_bytes: usize) -> Result<(), OutOfRange> {
        let sizes = [
            ("frames_per_turn", self.frames_per_turn, COUNTS),
            ("receives_per_turn", self.receives_per_turn, COUNTS),
            ("receive_bytes", self.receive_bytes, RECEIVE_BYTES),
            ("unsent_bytes_max", self.unsent_bytes_max, Range::new(0, GIB)),
            ("send_bytes_per_turn", self.send_bytes_per_turn, SEND_BYTES),
            ("shard_bytes_per_turn", self.shard_bytes_per_turn, SEND_BYTES),
            ("shard_frames_per_turn", self.shard_frames_per_turn, COUNTS),
            ("accepts_per_turn", self.accepts_per_turn, COUNTS),
            ("call_bytes", self.call_bytes, Range::new(0, MIB)),
            ("connection_bytes_max", self.connection_bytes_max, Range::new(1, HELD_MAX)),
            ("shard_bytes_max", self.shard_bytes_max, Range::new(frame_bytes, HELD_MAX)),
            ("shard_calls_max", self.shard_calls_max, SHARD_CALLS),
        ];
        for (name, value, range) in sizes {
            range.check(format_args!("budgets.{name}"), value)?;
        }
        REFUSE_AFTER.check("budgets.refuse_after", self.refuse_after)?;
        STALLED.check("budgets.stalled_for", self.stalled_for)?;
        self.queue_delay.map_or(Ok(()), |delay| delay.check())
    }
}

impl QueueDelay {
    fn check(&self) -> Result<(), OutOfRange> {
        let Self { target, interval } = *self;
        TARGET.check("budgets.queue_delay.target", target)?;
        let intervals = Range::new(target, Duration::from_secs(60));
        intervals.check("budgets.queue_delay.interval", interval)
    }
}

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// More than any machine has for one shard.
const HELD_MAX: usize = 1 << 40;
const COUNTS: Range<usize> = Range::new(1, 65_536);
const RECEIVE_BYTES: Range<usize> = Range::new(4096, 16 * MIB);
const SEND_BYTES: Range<usize> = Range::new(4096, GIB);
const SHARD_CALLS: Range<usize> = Range::new(1, 1 << 24);
const STALLED: Range<Duration> = Range::new(Duration::from_millis(10), Duration::from_secs(300));
const REFUSE_AFTER: Range<Duration> = Range::new(Duration::ZERO, Duration::from_secs(10));
const TARGET: Range<Duration> = Range::new(Duration::from_micros(100), Duration::from_secs(10));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named_with_its_range() {
        let frame = 16 << 20;
        assert_eq!(Budgets::default().check(frame), Ok(()));
        let shedding = |target, interval| Budgets {
            queue_delay: Some(QueueDelay { target, interval }),
            ..Budgets::default()
        };
        let ms = Duration::from_millis;
        let wrong = [
            ("frames_per_turn", Budgets { frames_per_turn: 0, ..Budgets::default() }),
            ("receive_bytes", Budgets { receive_bytes: 4095, ..Budgets::default() }),
            ("connection_bytes_max", Budgets { connection_bytes_max: 0, ..Budgets::default() }),
            ("shard_bytes_max", Budgets { shard_bytes_max: frame - 1, ..Budgets::default() }),
            ("shard_calls_max", Budgets { shard_calls_max: 0, ..Budgets::default() }),
            ("send_bytes_per_turn", Budgets { send_bytes_per_turn: 1, ..Budgets::default() }),
            ("unsent_bytes_max", Budgets { unsent_bytes_max: usize::MAX, ..Budgets::default() }),
            ("call_bytes", Budgets { call_bytes: usize::MAX, ..Budgets::default() }),
            (
                "refuse_after",
                Budgets { refuse_after: Duration::from_secs(11), ..Budgets::default() },
            ),
            ("stalled_for", Budgets { stalled_for: ms(1), ..Budgets::default() }),
            ("shard_bytes_per_turn", Budgets { shard_bytes_per_turn: 1, ..Budgets::default() }),
            ("queue_delay.target", shedding(Duration::ZERO, ms(100))),
            ("queue_delay.interval", shedding(ms(5), ms(4))),
        ];
        for (name, budgets) in wrong {
            let text = budgets.check(frame).expect_err(name).to_string();
            assert!(text.starts_with(&format!("budgets.{name} is ")), "{text}");
        }
    }
}
