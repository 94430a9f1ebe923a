//! Trace context as people and other protocols write it: the `traceparent` header of W3C Trace Context.

use core::fmt;
use core::str::FromStr;

use crate::wire::frame::TraceContext;

/// The length of a `traceparent` of version 0, in bytes.
const TEXT_BYTES: usize = 55;

impl TraceContext {
    /// Whether both ids are set: neither may be all zeroes.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }

    /// Whether the caller records this trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The same trace, seen from another span.
    #[must_use]
    pub const fn with_span(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }
}

/// Why a text is not a `traceparent`.
///
/// ```
/// # mod corewire {
/// #     pub use bytes::Bytes;
/// #     pub use corewire_codec::*;
/// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
/// # }
/// use corewire::{TraceContext, TraceParentError};
///
/// let read = "nothing of the kind".parse::<TraceContext>();
/// assert!(matches!(read, Err(TraceParentError::Layout)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceParentError {
    /// It is not `version-trace-span-flags` of 2, 32, 16 and 2 lower-case hexadecimal digits.
    Layout,
    /// Its version is `ff`, which is never valid.
    Version,
    /// Its trace or its span is all zeroes.
    Zero,
}

impl fmt::Display for TraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layout => {
                "a traceparent is version-trace-span-flags, of 2, 32, 16 and 2 lower-case hexadecimal digits"
            }
            Self::Version => "a traceparent cannot have the version ff",
            Self::Zero => "a traceparent's trace and span must not be all zeroes",
        })
    }
}

crate::debug_is_display!(TraceParentError);

impl core::error::Error for TraceParentError {}

/// Reads a `traceparent`. In versions after 0, anything that follows the four known fields is ignored.
impl FromStr for TraceContext {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let (fields, rest) = text.split_at_checked(TEXT_BYTES).ok_or(TraceParentError::Layout)?;
        let mut parts = fields.split('-');
        let mut next = || parts.next().unwrap_or("");
        let [version] = hex::<1>(next())?;
        let context =
            Self { trace_id: hex(next())?, span_id: hex(next())?, flags: hex::<1>(next())?[0] };
        let ends = rest.is_empty() || (version > 0 && rest.starts_with('-'));
        if parts.next().is_some() || !ends {
            return Err(TraceParentError::Layout);
        }
        match version {
            0xff => Err(TraceParentError::Version),
            _ if !context.is_valid() => Err(TraceParentError::Zero),
            _ => Ok(context),
        }
    }
}

/// The `traceparent` of version 0.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Exactly `N` bytes, from lower-case hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Result<[u8; N], TraceParentError> {
    let mut bytes = [0; N];
    let mut digits = text.bytes().map(|digit| match digit {
        b'0'..=b'9' | b'a'..=b'f' => char::from(digit).to_digit(16),
        _ => None,
    });
    for byte in &mut bytes {
        let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
            return Err(TraceParentError::Layout);
        };
        *byte = u8::try_from(high << 4 | low).map_err(|_| TraceParentError::Layout)?;
    }
    match digits.next() {
        None => Ok(bytes),
        Some(_) => Err(TraceParentError::Layout),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_comes_back_as_it_was_written() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert_eq!(context.trace_id.first_chunk(), Some(&[0x4b, 0xf9, 0x2f, 0x35]));
        assert_eq!(context.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), TEXT);
        assert_eq!(
            context.with_span([1; 8]).to_string(),
            TEXT.replace("00f067aa0ba902b7", "0101010101010101")
        );
    }

    #[test]
    fn later_versions_may_say_more() {
        let later = format!("{}-more", TEXT.replacen("00", "cc", 1));
        assert_eq!(later.parse::<TraceContext>(), TEXT.parse());
        assert_eq!(format!("{TEXT}-more").parse::<TraceContext>(), Err(TraceParentError::Layout));
        let glued = format!("{}x", TEXT.replacen("00", "cc", 1));
        assert_eq!(glued.parse::<TraceContext>(), Err(TraceParentError::Layout));
    }

    #[test]
    fn what_is_none_is_refused() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let cases = [
            ("", TraceParentError::Layout),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", TraceParentError::Layout),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", TraceParentError::Layout),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", TraceParentError::Layout),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", TraceParentError::Layout),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é", TraceParentError::Layout),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceParentError::Version),
            (zero_trace, TraceParentError::Zero),
            (zero_span, TraceParentError::Zero),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<TraceContext>(), Err(error), "{text:?}");
        }
    }
}
