//! `Duration` and `SystemTime` as protobuf's well-known types: seconds and nanoseconds.

use core::time::Duration;
use speedy::{Context, Reader, Writer};
use std::time::{SystemTime, UNIX_EPOCH};

use super::schema::{Schema, Type};
use super::value::{Value, fault};

/// The longest duration, in seconds: 10,000 years.
pub const DURATION_SECONDS_MAX: u64 = 315_576_000_000;
/// The beginning of the year 1, in seconds of the Unix epoch.
pub const TIME_SECONDS_MIN: i64 = -62_135_596_800;
/// The last second of the year 9999.
pub const TIME_SECONDS_MAX: i64 = 253_402_300_799;

/// Seconds and nanoseconds of a time, the latter from 0 on also before 1970. `None` outside of the years 1 to 9999.
#[must_use]
pub fn time_parts(time: SystemTime) -> Option<(i64, u32)> {
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).ok()?.checked_neg()?;
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.checked_sub(1)?, 1_000_000_000_u32.checked_sub(nanos)?),
            }
        }
    };
    (TIME_SECONDS_MIN..=TIME_SECONDS_MAX).contains(&seconds).then_some((seconds, nanos))
}

/// The time of these parts. `None` outside of the years 1 to 9999, or with a whole second of nanoseconds.
#[must_use]
pub fn time_of(seconds: i64, nanos: i64) -> Option<SystemTime> {
    if !(TIME_SECONDS_MIN..=TIME_SECONDS_MAX).contains(&seconds) {
        return None;
    }
    let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)?
    } else {
        UNIX_EPOCH.checked_add(distance)?
    };
    whole.checked_add(Duration::from_nanos(u64::from(nanos)))
}

/// Seconds and nanoseconds of a duration. `None` above 10,000 years.
#[must_use]
pub fn duration_parts(duration: Duration) -> Option<(u64, u32)> {
    let seconds = duration.as_secs();
    (seconds <= DURATION_SECONDS_MAX).then_some((seconds, duration.subsec_nanos()))
}

/// The duration of these parts. `None` if it is negative, too long, or has a whole second of nanoseconds.
#[must_use]
pub fn duration_of(seconds: i64, nanos: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|&it| it <= DURATION_SECONDS_MAX)?;
    let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

pub(crate) const BAD_DURATION: &str = "a duration is not between 0 and 10,000 years";
pub(crate) const BAD_TIME: &str = "a time is not between the years 1 and 9999";

impl Value for Duration {
    const LEAST_BYTES: usize = 12;

    fn describe(_: &mut Schema) -> Type {
        Type::Duration
    }

    fn absent(_: u32) -> Option<Self> {
        Some(Self::ZERO)
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        let (seconds, nanos) = duration_parts(*self).ok_or_else(|| fault(BAD_DURATION))?;
        out.write_u64(seconds)?;
        out.write_u32(nanos)
    }

    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        let seconds = i64::try_from(input.read_u64()?).unwrap_or(i64::MAX);
        let nanos = i64::from(input.read_u32()?);
        duration_of(seconds, nanos).ok_or_else(|| fault(BAD_DURATION).into())
    }
}

impl Value for SystemTime {
    const LEAST_BYTES: usize = 12;

    fn describe(_: &mut Schema) -> Type {
        Type::Timestamp
    }

    fn absent(_: u32) -> Option<Self> {
        Some(UNIX_EPOCH)
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn write_speedy<C: Context, W: ?Sized + Writer<C>>(&self, out: &mut W) -> Result<(), C::Error> {
        let (seconds, nanos) = time_parts(*self).ok_or_else(|| fault(BAD_TIME))?;
        out.write_i64(seconds)?;
        out.write_u32(nanos)
    }

    fn read_speedy<'a, C: Context, R: Reader<'a, C>>(input: &mut R) -> Result<Self, C::Error> {
        let seconds = input.read_i64()?;
        let nanos = i64::from(input.read_u32()?);
        time_of(seconds, nanos).ok_or_else(|| fault(BAD_TIME).into())
    }
}

#[cfg(test)]
mod tests {
    use super::{TIME_SECONDS_MAX, TIME_SECONDS_MIN, duration_of, time_of, time_parts};

    #[test]
    fn times_on_both_sides_of_the_epoch_come_back() {
        for seconds in [TIME_SECONDS_MIN, -2, -1, 0, 1, TIME_SECONDS_MAX] {
            for nanos in [0, 1, 999_999_999] {
                let time = time_of(seconds, i64::from(nanos)).expect("in range");
                assert_eq!(time_parts(time), Some((seconds, nanos)));
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert_eq!(time_of(TIME_SECONDS_MIN - 1, 0), None);
        assert_eq!(time_of(TIME_SECONDS_MAX + 1, 0), None);
        assert_eq!(time_of(i64::MIN, 0), None);
        assert_eq!(time_of(0, 1_000_000_000), None);
        assert_eq!(time_of(0, -1), None);
        assert_eq!(duration_of(-1, 0), None);
        assert_eq!(duration_of(0, -1), None);
        assert_eq!(duration_of(i64::MAX, 0), None);
    }
}
