//! The hello: the first bytes of each direction, with limits and offers as feature records.

use crate::wire::cursor::Reader;
use crate::wire::encoding::{CodecId, CompressionId};
use crate::wire::limits::{
    ConnectionCredit, FrameBytes, InFlight, LimitOutOfRange, Limits, MetadataBytes, StreamCredit,
};
use crate::wire::rule::Rule;

/// The first four bytes of every connection, in both directions (REQ-1). No protocol that may share
/// the port begins with `0xc7`.
pub const MAGIC: [u8; 4] = [0xc7, b'W', b'R', b'E'];

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// Size of the hello's fixed part, in bytes.
pub const PREAMBLE_BYTES: usize = 8;

/// The most that the records of a hello may take, in bytes (REQ-3).
const RECORDS_BYTES_MAX: u16 = 4096;

/// Which side says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The side that connected.
    Client = 0,
    /// The side that was connected to.
    Server = 1,
}

/// The numbers of the feature records (REQ-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Feature {
    /// Largest frame payload that the sender accepts: `u32`.
    FrameBytes = 1,
    /// Calls in flight that the sender accepts: `u32`.
    InFlight = 2,
    /// Initial credit of each stream: `u32`.
    StreamCredit = 3,
    /// Initial credit of the connection: `u32`.
    ConnectionCredit = 4,
    /// Largest metadata block that the sender accepts: `u32`.
    MetadataBytes = 5,
    /// Codecs that the sender reads and writes: a bit set, `u16`.
    Codecs = 6,
    /// Compressions that the sender reads and writes: a bit set, `u16`.
    Compressions = 7,
    /// Servers only: the shard that answers and how many there are, `u16` each.
    Shard = 8,
    /// Servers only: the connection's id in that process, `u64`.
    ConnectionId = 9,
    /// How long the sender lets a connection idle, in ms: `u32`.
    IdleTimeout = 10,
    /// Which hash of keys the sender knows: `u16`.
    KeyRouting = 11,
}

/// What one side says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version that the sender speaks; [`VERSION`] in every hello that was read.
    pub version: u8,
    /// Which side the sender is.
    pub role: Role,
    /// The rest.
    pub records: HelloRecords,
}

/// The known feature records of a hello. A record that is absent has its [`Limits::EARLY`] value,
/// or is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloRecords {
    /// What the sender accepts.
    pub limits: Limits,
    /// Bit `n` is set when the sender knows codec `n`.
    pub codecs: u16,
    /// Bit `n` is set when the sender knows compression `n`.
    pub compressions: u16,
    /// The answering shard and the number of shards.
    pub shard: Option<(u16, u16)>,
    /// The connection's id in the server's process.
    pub connection_id: Option<u64>,
    /// How long the sender lets the connection idle, in ms.
    pub idle_timeout_ms: Option<u32>,
    /// The number of the hash of keys that the sender knows; 0 is none, and absent on the wire (REQ-98).
    pub key_routing: u16,
}

impl Default for HelloRecords {
    fn default() -> Self {
        Self {
            limits: Limits::EARLY,
            codecs: 0,
            compressions: 0,
            shard: None,
            connection_id: None,
            idle_timeout_ms: None,
            key_routing: 0,
        }
    }
}

impl HelloRecords {
    /// The number of the one hash of keys that there is: XXH3 of 64 bits (REQ-96).
    pub const KEY_ROUTING_XXH3: u16 = 1;

    /// Whether the sender hashes keys as this side does.
    #[must_use]
    #[inline]
    pub const fn routes_keys(&self) -> bool {
        self.key_routing == Self::KEY_ROUTING_XXH3
    }

    /// Whether the sender knows a codec.
    #[must_use]
    pub const fn has_codec(&self, codec: CodecId) -> bool {
        self.codecs & bit(codec.number()) != 0
    }

    /// Whether the sender knows a compression; everybody knows "no compression".
    #[must_use]
    pub const fn has_compression(&self, compression: CompressionId) -> bool {
        compression.number() == 0 || self.compressions & bit(compression.number()) != 0
    }

    /// Adds a codec to those that the sender knows.
    #[must_use]
    pub const fn with_codec(mut self, codec: CodecId) -> Self {
        self.codecs |= bit(codec.number());
        self
    }
}

const fn bit(number: u8) -> u16 {
    1u16.wrapping_shl(number as u32)
}

impl Hello {
    /// Reads a hello at the front of `bytes`; returns it with its whole length, or `None` when more
    /// bytes are needed. The fields are checked in the order in which they come, each as soon as it
    /// is there: magic, version, role, length, records.
    ///
    /// # Errors
    ///
    /// The rule that is broken. After an unknown version nothing more is read: the role and the records
    /// may mean anything there.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Rule> {
        if bytes.iter().zip(MAGIC).any(|(&byte, magic)| byte != magic) {
            return Err(Rule::NotCorewire);
        }
        if bytes.get(MAGIC.len()).is_some_and(|&version| version != VERSION) {
            return Err(Rule::UnknownVersion);
        }
        let role = match bytes.get(5) {
            None | Some(0) => Role::Client,
            Some(1) => Role::Server,
            Some(_) => return Err(Rule::BrokenHello),
        };
        let Some(&[.., l0, l1]) = bytes.first_chunk::<PREAMBLE_BYTES>() else { return Ok(None) };
        let records_bytes = u16::from_le_bytes([l0, l1]);
        if records_bytes > RECORDS_BYTES_MAX {
            return Err(Rule::BrokenHello);
        }
        let total = PREAMBLE_BYTES.saturating_add(usize::from(records_bytes));
        let Some(records) = bytes.get(PREAMBLE_BYTES..total) else {
            return Ok(None);
        };
        let records = HelloRecords::decode(records)?;
        Ok(Some((Self { version: VERSION, role, records }, total)))
    }

    /// Appends the hello's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut records = Vec::with_capacity(96);
        self.records.encode(&mut records);
        out.extend_from_slice(&MAGIC);
        out.push(self.version);
        out.push(self.role as u8);
        // The known records take less than a hundred bytes.
        let bytes = u16::try_from(records.len()).unwrap_or(RECORDS_BYTES_MAX);
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(&records);
    }
}

impl HelloRecords {
    fn decode(bytes: &[u8]) -> Result<Self, Rule> {
        let mut records = Self::default();
        let mut reader = Reader::new(bytes);
        let mut last = 0;
        while !reader.is_empty() {
            let number = reader.u16().ok_or(Rule::BrokenHello)?;
            let length = reader.u16().ok_or(Rule::BrokenHello)?;
            let data = reader.bytes(usize::from(length)).ok_or(Rule::BrokenHello)?;
            // Ascending numbers make "at most once" a comparison.
            if number <= last {
                return Err(Rule::BrokenHello);
            }
            last = number;
            records.take(number, data)?;
        }
        Ok(records)
    }

    fn take(&mut self, number: u16, data: &[u8]) -> Result<(), Rule> {
        fn limit<T>(
            data: &[u8],
            make: impl Fn(u32) -> Result<T, LimitOutOfRange>,
        ) -> Result<T, Rule> {
            make(int32(data)?).map_err(|_| Rule::HelloLimit)
        }
        match number {
            1 => self.limits.frame_bytes = limit(data, FrameBytes::new)?,
            2 => self.limits.in_flight = limit(data, InFlight::new)?,
            3 => self.limits.stream_credit = limit(data, StreamCredit::new)?,
            4 => self.limits.connection_credit = limit(data, ConnectionCredit::new)?,
            5 => self.limits.metadata_bytes = limit(data, MetadataBytes::new)?,
            6 => self.codecs = int16(data)?,
            7 => self.compressions = int16(data)?,
            8 => {
                let value = int32(data)?;
                // Both halves of a u32 fit their u16.
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "the halves are taken on purpose"
                )]
                let (shard, count) = (value as u16, (value >> 16) as u16);
                if shard >= count {
                    return Err(Rule::BrokenHello);
                }
                self.shard = Some((shard, count));
            }
            9 => {
                let bytes = data.try_into().map_err(|_| Rule::BrokenHello)?;
                self.connection_id = Some(u64::from_le_bytes(bytes));
            }
            10 => self.idle_timeout_ms = Some(int32(data)?),
            11 => self.key_routing = int16(data)?,
            // Unknown features are ignored: that is how the protocol grows.
            _ => {}
        }
        Ok(())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |feature: Feature, data: &[u8]| {
            out.extend_from_slice(&(feature as u16).to_le_bytes());
            let length = u16::try_from(data.len()).unwrap_or(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(data);
        };
        let limits = &self.limits;
        put(Feature::FrameBytes, &limits.frame_bytes.get().to_le_bytes());
        put(Feature::InFlight, &limits.in_flight.get().to_le_bytes());
        put(Feature::StreamCredit, &limits.stream_credit.get().to_le_bytes());
        put(Feature::ConnectionCredit, &limits.connection_credit.get().to_le_bytes());
        put(Feature::MetadataBytes, &limits.metadata_bytes.get().to_le_bytes());
        put(Feature::Codecs, &self.codecs.to_le_bytes());
        put(Feature::Compressions, &self.compressions.to_le_bytes());
        if let Some((shard, count)) = self.shard {
            let [s0, s1] = shard.to_le_bytes();
            let [c0, c1] = count.to_le_bytes();
            put(Feature::Shard, &[s0, s1, c0, c1]);
        }
        if let Some(id) = self.connection_id {
            put(Feature::ConnectionId, &id.to_le_bytes());
        }
        if let Some(ms) = self.idle_timeout_ms {
            put(Feature::IdleTimeout, &ms.to_le_bytes());
        }
        if self.key_routing != 0 {
            put(Feature::KeyRouting, &self.key_routing.to_le_bytes());
        }
    }
}

fn int32(data: &[u8]) -> Result<u32, Rule> {
    data.try_into().map(u32::from_le_bytes).map_err(|_| Rule::BrokenHello)
}

fn int16(data: &[u8]) -> Result<u16, Rule> {
    data.try_into().map(u16::from_le_bytes).map_err(|_| Rule::BrokenHello)
}
