//! Times in JSON: `"1.5s"` and `"1970-01-01T00:00:00Z"`.

use core::fmt;
use core::time::Duration;
use serde::de::{Deserializer, Error, Visitor};
use std::time::SystemTime;

use super::field::JsonValue;
use super::write::Writer;
use crate::message::time::{
    BAD_DURATION, BAD_TIME, duration_of, duration_parts, time_of, time_parts,
};

const DAY_SECONDS: i64 = 86_400;

/// Nanoseconds as a fraction: none, or with 3, 6 or 9 digits.
struct Fraction(u32);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            nanos if nanos % 1_000_000 == 0 => write!(f, ".{:03}", nanos / 1_000_000),
            nanos if nanos % 1_000 == 0 => write!(f, ".{:06}", nanos / 1_000),
            nanos => write!(f, ".{nanos:09}"),
        }
    }
}

/// Nanoseconds of the digits of a fraction.
fn fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar. Years begin in March here, so that the day
/// of a leap year is the last.
#[allow(clippy::arithmetic_side_effects, reason = "days of the years 1 to 9999")]
const fn date_of(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let days = days + 719_468;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + next, month, day)
}

/// The day since 1970 of a date that exists.
#[allow(clippy::arithmetic_side_effects, reason = "four digits of years, two of months and days")]
fn day_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_of_year = (month + 9) % 12;
    let day_of_year = (153 * month_of_year + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Seconds and nanoseconds of `1970-01-01T00:00:00.5+01:00`.
#[allow(clippy::arithmetic_side_effects, reason = "numbers of at most four digits")]
fn parse_time(text: &str) -> Option<(i64, i64)> {
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let days = day_of(year, month, day)?;
    if date_of(days) != (year, month, day) {
        return None;
    }
    let zone_at = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (clock, nanos) = match clock.split_once('.') {
        Some((clock, digits)) => (clock, fraction(digits)?),
        None => (clock, 0),
    };
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let offset = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] = numbers(offset, ':', [2, 2])?;
            let ahead = hours * 3600 + minutes * 60;
            if hours > 23 || minutes > 59 {
                return None;
            }
            if sign == "-" { -ahead } else { ahead }
        }
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    Some((seconds, nanos))
}

/// Numbers of so many digits, with a character between them.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut read = [0; N];
    for (place, digits) in read.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|it| it.is_ascii_digit()) {
            return None;
        }
        *place = part.parse().ok()?;
    }
    parts.next().is_none().then_some(read)
}

struct TimeText;

impl Visitor<'_> for TimeText {
    type Value = SystemTime;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as \"1970-01-01T00:00:00Z\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SystemTime, E> {
        let time = parse_time(text).and_then(|(seconds, nanos)| time_of(seconds, nanos));
        time.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl JsonValue for SystemTime {
    #[allow(clippy::arithmetic_side_effects, reason = "seconds of a day")]
    fn write(&self, out: &mut Writer<'_>) {
        let Some((seconds, nanos)) = time_parts(*self) else { return out.fail(BAD_TIME) };
        let (year, month, day) = date_of(seconds.div_euclid(DAY_SECONDS));
        let second = seconds.rem_euclid(DAY_SECONDS);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let fraction = Fraction(nanos);
        out.plain(format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
        ));
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_str(TimeText)
    }
}

struct DurationText;

impl Visitor<'_> for DurationText {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"1.5s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        let parse = || {
            let text = text.strip_suffix('s')?;
            let (seconds, nanos) = match text.split_once('.') {
                Some((seconds, digits)) => (seconds, fraction(digits)?),
                None => (text, 0),
            };
            if !seconds.bytes().all(|it| it.is_ascii_digit()) {
                return None;
            }
            duration_of(seconds.parse().ok()?, nanos)
        };
        parse().ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl JsonValue for Duration {
    fn write(&self, out: &mut Writer<'_>) {
        match duration_parts(*self) {
            Some((seconds, nanos)) => out.plain(format_args!("{seconds}{}s", Fraction(nanos))),
            None => out.fail(BAD_DURATION),
        }
    }

    fn read<'de, D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_str(DurationText)
    }
}
