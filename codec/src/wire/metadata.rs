//! Metadata: small named values sent along with a body (REQ-20, REQ-21).
//!
//! A block is a sequence of entries: one byte of key length, the key, two bytes of value length, the
//! value. Keys are lower-case ASCII; a key that ends in `-bin` has a binary value, all others
//! printable ASCII.

use core::fmt;

use crate::wire::cursor::Reader;
use crate::wire::status::Status;

/// One entry of a [`Metadata`] block.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use corewire::MetadataBuilder;
///
/// let mut metadata = MetadataBuilder::new();
/// metadata.insert("tenant", b"blue")?;
/// for entry in metadata.view().iter() {
///     assert_eq!((entry.key, entry.value), ("tenant", &b"blue"[..]));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataEntry<'a> {
    /// 1 to 255 bytes of `a-z 0-9 - _ .`.
    pub key: &'a str,
    /// At most 65,535 bytes; printable ASCII unless the key ends in `-bin`.
    pub value: &'a [u8],
}

/// A checked metadata block, read in place.
///
/// ```
/// # use corewire_codec as corewire;
/// use corewire::MetadataBuilder;
///
/// let mut builder = MetadataBuilder::new();
/// builder.insert("tenant", b"blue")?;
/// builder.insert("hash-bin", &[0xff])?;
/// let metadata = builder.view();
/// assert_eq!(metadata.text("tenant"), Some("blue"));
/// assert_eq!(metadata.value("hash-bin"), Some(&[0xff][..]));
/// # Ok::<(), corewire_codec::MetadataError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    block: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// Checks a whole block, so that reading it afterwards cannot fail.
    #[must_use]
    pub fn parse(block: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            next_entry(&mut reader)?;
        }
        Some(Self { block })
    }

    /// The entries, in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = MetadataEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.block);
        core::iter::from_fn(move || next_entry(&mut reader))
    }

    /// The first value with this key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a [u8]> {
        self.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// The first value with this key, if it is ASCII text; `None` also for a key that ends in `-bin`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let value = self.value(key).filter(|_| !key.ends_with("-bin"))?;
        core::str::from_utf8(value).ok()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// A copy in memory of its own.
    #[must_use]
    pub fn to_builder(&self) -> MetadataBuilder {
        MetadataBuilder { block: self.block.to_vec(), bytes_max: None }
    }
}

fn next_entry<'a>(reader: &mut Reader<'a>) -> Option<MetadataEntry<'a>> {
    let key_bytes = reader.u8()?;
    let key = reader.bytes(usize::from(key_bytes))?;
    let value_bytes = reader.u16()?;
    let value = reader.bytes(usize::from(value_bytes))?;
    let key = core::str::from_utf8(key).ok()?;
    (is_key(key) && is_value(key, value)).then_some(MetadataEntry { key, value })
}

fn is_key(key: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    !key.is_empty() && key.bytes().all(allowed)
}

fn is_value(key: &str, value: &[u8]) -> bool {
    key.ends_with("-bin") || value.iter().all(|b| matches!(b, 0x20..=0x7e))
}

/// Why an entry was not taken by a [`MetadataBuilder`].
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::{MetadataBuilder, MetadataError};
///
/// let refused = MetadataBuilder::new().insert("No Key", b"");
/// assert!(matches!(refused, Err(MetadataError::Key)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is empty, longer than 255 bytes, or has a character outside `a-z 0-9 - _ .`.
    Key,
    /// The value is longer than 65,535 bytes, or not printable ASCII under a key without `-bin`.
    Value,
    /// The block would grow past what its builder was made for, or past 65,535 bytes.
    Full,
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a metadata key must be 1 to 255 bytes of a-z 0-9 - _ .",
            Self::Value => {
                "a metadata value must be at most 65535 bytes of printable ASCII, or its key must end in -bin"
            }
            Self::Full => {
                "a metadata block holds as many bytes as its receiver accepts, and at most 65535"
            }
        })
    }
}

crate::debug_is_display!(MetadataError);

impl core::error::Error for MetadataError {}

/// For handlers: a wrong entry is the handler's fault, a full block exhausts a resource.
impl From<MetadataError> for Status {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Full => Self::resource_exhausted(error.to_string()),
            MetadataError::Key | MetadataError::Value => Self::internal(error.to_string()),
        }
    }
}

/// Makes a block that [`Metadata::parse`] accepts.
///
/// ```
/// # use corewire_codec as corewire;
/// use corewire::{MetadataBuilder, MetadataError};
///
/// let mut builder = MetadataBuilder::new();
/// assert_eq!(builder.insert("Upper Case", b""), Err(MetadataError::Key));
/// builder.insert("tenant", b"blue")?;
/// # Ok::<(), MetadataError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MetadataBuilder {
    block: Vec<u8>,
    /// A limit below that of the wire.
    bytes_max: Option<u16>,
}

/// By their entries: the limit is not a part of the block.
impl PartialEq for MetadataBuilder {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Eq for MetadataBuilder {}

impl MetadataBuilder {
    /// An empty block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty block that takes at most `bytes_max` bytes, which may be what its receiver accepts. An
    /// entry takes its key, its value and three bytes.
    #[must_use]
    pub fn bounded(bytes_max: u16) -> Self {
        Self { block: Vec::new(), bytes_max: Some(bytes_max) }
    }

    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// What is wrong with the key or the value, or that the block is full; the block stays as it was.
    pub fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), MetadataError> {
        if !is_key(key) {
            return Err(MetadataError::Key);
        }
        let key_bytes = u8::try_from(key.len()).map_err(|_| MetadataError::Key)?;
        let value_bytes = u16::try_from(value.len()).map_err(|_| MetadataError::Value)?;
        if !is_value(key, value) {
            return Err(MetadataError::Value);
        }
        let grown = self.block.len().saturating_add(key.len()).saturating_add(value.len());
        if grown.saturating_add(3) > usize::from(self.bytes_max.unwrap_or(u16::MAX)) {
            return Err(MetadataError::Full);
        }
        self.block.push(key_bytes);
        self.block.extend_from_slice(key.as_bytes());
        self.block.extend_from_slice(&value_bytes.to_le_bytes());
        self.block.extend_from_slice(value);
        Ok(())
    }

    /// The entries, to be read.
    #[must_use]
    pub fn view(&self) -> Metadata<'_> {
        // What `insert` and `Metadata::parse` let in is well formed.
        Metadata { block: &self.block }
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The finished block.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.block
    }
}
