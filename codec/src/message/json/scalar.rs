//! Scalars, texts and bytes in JSON.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::field::{JsonKey, JsonValue};
use super::write::Writer;

/// An integer type.
trait Integer: Sized + TryFrom<i128> + core::str::FromStr {
    const NAME: &'static str;
}

struct Whole<T>(PhantomData<T>);

impl<T: Integer> Whole<T> {
    /// Numbers with a fraction of zero and exponents are integers, too. Beyond 2^53 they are not exact.
    #[allow(clippy::cast_possible_truncation, reason = "checked before")]
    fn of_float(number: f64) -> Option<T> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if number.trunc() == number && number.abs() <= EXACT_MAX {
            T::try_from(number as i128).ok()
        } else {
            None
        }
    }
}

impl<T: Integer> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer that fits into {}", T::NAME)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(i128::from(number))
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(i128::from(number))
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        Self::of_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let whole = text.parse::<T>().ok();
        // `+1` and ` 1` are no numbers in JSON, and so not in a string either.
        let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let whole = whole.or_else(|| text.parse::<f64>().ok().and_then(Self::of_float));
        whole.filter(|_| is_number).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! integers {
    ($($scalar:ident $write:ident)*) => { $(
        impl Integer for $scalar {
            const NAME: &'static str = stringify!($scalar);
        }

        impl JsonValue for $scalar {
            fn write(&self, out: &mut Writer<'_>) {
                out.$write(self);
            }

            fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                input.deserialize_any(Whole(PhantomData))
            }
        }

        impl JsonKey for $scalar {
            fn write_key(&self, write: impl FnOnce(&str)) {
                write(&self.to_string());
            }

            fn parse_key(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )* };
}

integers! { u8 word u16 word u32 word u64 plain i8 word i16 word i32 word i64 plain }

struct Real;

impl Visitor<'_> for Real {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    #[allow(clippy::cast_precision_loss, reason = "a float is what is wanted")]
    fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    #[allow(clippy::cast_precision_loss, reason = "a float is what is wanted")]
    fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "NaN" => return Ok(f64::NAN),
            "Infinity" => return Ok(f64::INFINITY),
            "-Infinity" => return Ok(f64::NEG_INFINITY),
            _ => {}
        }
        let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let number = text.parse::<f64>().ok().filter(|it| is_number && it.is_finite());
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Writes a float. `{:?}` of it is the shortest text that gives it back.
fn write_float(number: f64, text: impl fmt::Debug, out: &mut Writer<'_>) {
    if number.is_nan() {
        out.plain("NaN");
    } else if number.is_infinite() {
        out.plain(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        out.word(format_args!("{text:?}"));
    }
}

impl JsonValue for f64 {
    fn write(&self, out: &mut Writer<'_>) {
        write_float(*self, self, out);
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Real)
    }
}

impl JsonValue for f32 {
    fn write(&self, out: &mut Writer<'_>) {
        write_float(f64::from(*self), self, out);
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let wide = input.deserialize_any(Real)?;
        #[allow(clippy::cast_possible_truncation, reason = "the nearest `f32` is wanted")]
        let narrow = wide as Self;
        if narrow.is_finite() || !wide.is_finite() {
            Ok(narrow)
        } else {
            Err(D::Error::invalid_value(Unexpected::Float(wide), &"a number that fits into f32"))
        }
    }
}

impl JsonValue for bool {
    fn write(&self, out: &mut Writer<'_>) {
        out.word(self);
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(input)
    }
}

impl JsonKey for bool {
    fn write_key(&self, write: impl FnOnce(&str)) {
        write(if *self { "true" } else { "false" });
    }

    fn parse_key(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl JsonValue for String {
    fn write(&self, out: &mut Writer<'_>) {
        out.text(self);
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(input)
    }
}

impl JsonKey for String {
    fn write_key(&self, write: impl FnOnce(&str)) {
        write(self);
    }

    fn parse_key(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// With or without padding, and with bits that are left over.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const READ: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const READ_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        let read = match text.contains(['-', '_']) {
            true => READ_URL_SAFE.decode(text),
            false => READ.decode(text),
        };
        read.map_err(|_| E::custom("a text is not base64"))
    }
}

impl JsonValue for Vec<u8> {
    fn write(&self, out: &mut Writer<'_>) {
        out.plain(STANDARD.encode(self));
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_str(Base64)
    }
}

impl JsonValue for Bytes {
    fn write(&self, out: &mut Writer<'_>) {
        out.plain(STANDARD.encode(self));
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_str(Base64).map(Self::from)
    }
}
