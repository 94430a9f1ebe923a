//! What the two ends of a stream do: how much they send, how they end it, how they read.

use corewire_proto::StreamKind;

use crate::core::Core;
use crate::plan::message::sum;

/// How the sending end of a stream ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Finish {
    /// With its last message.
    #[default]
    Whole,
    /// With a status, `Aborted`.
    Fails,
    /// It is dropped.
    Dropped,
    /// By a panic; a server only.
    Panics,
    /// Not at all.
    Never,
}

/// How the receiving end of a stream reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    /// To its end.
    #[default]
    Whole,
    /// Some messages; then it drops the stream.
    Stops,
    /// Nothing, while it holds the stream; a server only.
    Ignores,
    /// Nothing, until the simulation lets stalled streams go on.
    Holds,
}

const FINISHES: [Finish; 5] =
    [Finish::Whole, Finish::Fails, Finish::Dropped, Finish::Panics, Finish::Never];
const READINGS: [Reading; 4] = [Reading::Whole, Reading::Stops, Reading::Ignores, Reading::Holds];

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lane {
    /// How many messages its sender sends.
    pub(crate) count: u16,
    /// The most bytes of one message, in addition to those that tell whose it is.
    pub(crate) bytes: u32,
    /// The sender's wait after each message, in µs.
    pub(crate) send_us: u32,
    /// The reader's wait after each message, in µs.
    pub(crate) read_us: u32,
    pub(crate) finish: Finish,
    pub(crate) reading: Reading,
    /// After how many messages a reader that stops does so.
    pub(crate) stop_at: u16,
}

const LANE_BYTES: usize = 18;
pub(crate) const SCRIPT_BYTES: usize = 2 * LANE_BYTES;

impl Lane {
    fn bytes(&self) -> [u8; LANE_BYTES] {
        let mut bytes = [0; LANE_BYTES];
        bytes[..2].copy_from_slice(&self.count.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[6..10].copy_from_slice(&self.send_us.to_le_bytes());
        bytes[10..14].copy_from_slice(&self.read_us.to_le_bytes());
        let finish = FINISHES.iter().position(|other| *other == self.finish).unwrap_or(0);
        let reading = READINGS.iter().position(|other| *other == self.reading).unwrap_or(0);
        bytes[14] = u8::try_from(finish).unwrap_or(0);
        bytes[15] = u8::try_from(reading).unwrap_or(0);
        bytes[16..].copy_from_slice(&self.stop_at.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            count: u16::from_le_bytes(*bytes.first_chunk()?),
            bytes: word(2)?,
            send_us: word(6)?,
            read_us: word(10)?,
            finish: *FINISHES.get(usize::from(*bytes.get(14)?))?,
            reading: *READINGS.get(usize::from(*bytes.get(15)?))?,
            stop_at: u16::from_le_bytes(*bytes.get(16..)?.first_chunk()?),
        })
    }

    /// How many bytes the message with this number carries in addition to those that tell whose it is.
    pub(crate) fn message_bytes(&self, id: u64, number: u32) -> usize {
        let mixed = sum(&[id.to_le_bytes(), u64::from(number).to_le_bytes()].concat());
        usize::try_from(mixed % (u64::from(self.bytes) + 1)).unwrap_or(0)
    }

    fn draw(core: &Core, server_sends: bool) -> Self {
        let (dice, habits) = (&core.dice, &core.plan.habits);
        let large = dice.chance(habits.large);
        let short = |least, most| u32::try_from(dice.spread(least, most)).unwrap_or(1);
        let pace = |rate| if dice.chance(rate) { short(1, 20_000) } else { 0 };
        let count = dice.spread(1, 60) - dice.between(0, 1);
        let troubled = dice.chance(habits.troubled);
        let finish = match dice.below(5) {
            _ if !troubled => Finish::Whole,
            0 => Finish::Fails,
            1 => Finish::Dropped,
            2 if server_sends => Finish::Panics,
            3 => Finish::Never,
            _ => Finish::Whole,
        };
        let reading = match dice.below(6) {
            0 => Reading::Stops,
            1 if !server_sends => Reading::Ignores,
            _ => Reading::Whole,
        };
        Self {
            count: u16::try_from(count).unwrap_or(1),
            bytes: if large { short(1, 40_000) } else { short(1, 1_500) },
            send_us: pace(300_000),
            read_us: pace(300_000),
            finish,
            reading,
            stop_at: u16::try_from(dice.between(0, count)).unwrap_or(0),
        }
    }
}

/// Both directions of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// From the client to the server.
    pub(crate) up: Lane,
    /// From the server to the client.
    pub(crate) down: Lane,
}

impl Script {
    pub(crate) fn bytes(&self) -> [u8; SCRIPT_BYTES] {
        let mut bytes = [0; SCRIPT_BYTES];
        bytes[..LANE_BYTES].copy_from_slice(&self.up.bytes());
        bytes[LANE_BYTES..].copy_from_slice(&self.down.bytes());
        bytes
    }

    pub(crate) fn read(bytes: &[u8; SCRIPT_BYTES]) -> Option<Self> {
        let (up, down) = bytes.split_at(LANE_BYTES);
        Some(Self { up: Lane::read(up)?, down: Lane::read(down)? })
    }

    pub(crate) fn draw(core: &Core) -> Self {
        Self { up: Lane::draw(core, false), down: Lane::draw(core, true) }
    }

    /// Much data in one direction, of which nothing is read until stalled streams may go on.
    pub(crate) fn held(kind: StreamKind) -> Self {
        let lane = Lane { count: 300, bytes: 1_000, reading: Reading::Holds, ..Lane::default() };
        match kind {
            StreamKind::Client => Self { up: lane, down: Lane::default() },
            _ => Self { up: Lane::default(), down: lane },
        }
    }

    pub(crate) fn lane(&self, up: bool) -> &Lane {
        if up { &self.up } else { &self.down }
    }

    /// Whether a call with this script may never end by itself.
    pub(crate) fn is_endless(&self, kind: StreamKind) -> bool {
        // A client's stream is answered when it was read to its end, a server's ends with its own.
        match kind {
            StreamKind::Client => {
                self.up.finish == Finish::Never
                    && matches!(self.up.reading, Reading::Whole | Reading::Stops)
            }
            _ => self.down.finish == Finish::Never,
        }
    }
}
