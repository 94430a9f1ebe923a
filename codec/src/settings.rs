//! Settings in files: times as people write them, and ranges that are checked when a file is read.

use core::fmt;
use core::time::Duration;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// What a time may end in, and its length in nanoseconds.
const UNITS: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("min", 60_000_000_000),
    ("days", 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("s", 1_000_000_000),
];

/// Reads `250 ms`, `5s`, `never` and the like.
fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{text}' is not a time; write a whole number and ns, us, ms, s, min, h or d, as in 250 ms, or never"
        )
    };
    if text == "never" {
        return Ok(Duration::MAX);
    }
    let unit = UNITS.iter().find_map(|(unit, nanos)| Some((text.strip_suffix(unit)?, *nanos)));
    let (number, nanos) = unit.ok_or_else(wrong)?;
    let number = number.trim_end().parse::<u64>().map_err(|_| wrong())?;
    let nanos = u128::from(number).saturating_mul(nanos.into());
    let secs = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
    // Less than a billion.
    Ok(Duration::new(secs, u32::try_from(nanos % 1_000_000_000).unwrap_or(0)))
}

/// The time in the largest unit of which it is a whole number.
fn show(time: Duration) -> String {
    if time == Duration::MAX {
        return "never".to_owned();
    }
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let fits = units.into_iter().find(|(_, nanos)| time.as_nanos().is_multiple_of(*nanos));
    let (unit, nanos) = fits.unwrap_or(("ns", 1));
    format!("{}{unit}", time.as_nanos().checked_div(nanos).unwrap_or(0))
}

struct Time;

impl Visitor<'_> for Time {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"250 ms\", or \"never\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// A time, for `#[serde(with = "…")]`.
pub mod time {
    use super::{Deserializer, Duration, Serializer, Time, show};

    /// Writes it as text.
    ///
    /// # Errors
    ///
    /// The serializer's.
    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show(*time))
    }

    /// Reads it from text.
    ///
    /// # Errors
    ///
    /// What a time looks like.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(Time)
    }
}

/// A time that may be absent, which is written `never`; for `#[serde(with = "…")]`.
pub mod optional_time {
    use super::{Deserializer, Duration, Serializer, time};

    /// Writes it as text.
    ///
    /// # Errors
    ///
    /// The serializer's.
    #[allow(clippy::ref_option, reason = "serde gives it so")]
    pub fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time::serialize(&time.unwrap_or(Duration::MAX), to)
    }

    /// Reads it from text.
    ///
    /// # Errors
    ///
    /// What a time looks like.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Some(time::deserialize(from)?).filter(|time| *time != Duration::MAX))
    }
}

/// Implements serde's traits for settings that derive them with `remote = "Self"`: what is read is checked.
#[macro_export]
macro_rules! checked_settings {
    ($name:ident, $check:expr) => {
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, to)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let settings = $name::deserialize(from)?;
                let check: fn(&Self) -> _ = $check;
                match check(&settings) {
                    Ok(()) => Ok(settings),
                    Err(wrong) => Err(::serde::de::Error::custom(wrong)),
                }
            }
        }
    };
}

/// Implements serde's traits for settings that are one word of text: written as their `Display`, read by `FromStr`. The
/// name stands in front of an error.
#[macro_export]
macro_rules! text_settings {
    ($($type:ty, $name:literal;)*) => { $(
        /// As text, like its `Display`.
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <::std::borrow::Cow<'de, str>>::deserialize(from)?;
                let wrong = |error| format!("{}: {error}", $name);
                text.parse().map_err(wrong).map_err(::serde::de::Error::custom)
            }
        }
    )* };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        let shown = [
            ("250ms", Duration::from_millis(250)),
            ("90s", Duration::from_secs(90)),
            ("0s", Duration::ZERO),
            ("1500us", Duration::from_micros(1500)),
            ("never", Duration::MAX),
        ];
        for (text, time) in shown {
            assert_eq!((parse(text), show(time).as_str()), (Ok(time), text));
        }
        assert_eq!(parse("5 min"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("2 days"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "5", "ms", "-1 s", "1.5 s", "18446744073709551615 d", "5 weeks"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
