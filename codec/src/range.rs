//! The ranges of settings: one check and one sentence for all of them.

use core::fmt;
use core::time::Duration;

/// The values that a setting may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    min: T,
    max: T,
    /// Whether [`Duration::MAX`] is allowed in addition to these, and means that the time never comes.
    never: bool,
}

/// A setting whose value is outside its range. It shows as one sentence: which setting, what was given,
/// and what is allowed.
///
/// ```
/// # // A setting of a crate above this one.
/// # use std::time::Duration;
/// # use corewire_codec::Range;
/// const WAIT: Range<Duration> = Range::new(Duration::ZERO, Duration::from_secs(60));
///
/// let refused = WAIT.check("wait", Duration::from_secs(61)).unwrap_err();
/// assert!(refused.to_string().contains("wait"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OutOfRange(Box<str>);

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::debug_is_display!(OutOfRange);

impl core::error::Error for OutOfRange {}

impl From<OutOfRange> for String {
    fn from(error: OutOfRange) -> Self {
        error.0.into()
    }
}

/// What a range can be of.
pub trait Setting: Copy + PartialOrd {
    /// The value as people write it.
    fn show(self) -> String;

    /// Whether it is the value that means "never".
    fn is_never(self) -> bool {
        false
    }
}

impl Setting for Duration {
    fn show(self) -> String {
        let (secs, nanos) = (self.as_secs(), self.subsec_nanos());
        match secs {
            _ if self == Self::MAX => "Duration::MAX".to_owned(),
            _ if nanos != 0 || secs == 0 => {
                let text = format!("{self:?}");
                let unit = text.find(|c: char| c.is_alphabetic() || c == 'µ').unwrap_or(0);
                let (number, unit) = text.split_at(unit);
                format!("{number} {unit}")
            }
            _ if secs.is_multiple_of(86_400) && secs > 86_400 => format!("{} days", secs / 86_400),
            _ if secs.is_multiple_of(3_600) => format!("{} h", secs / 3_600),
            _ => format!("{secs} s"),
        }
    }

    fn is_never(self) -> bool {
        self == Self::MAX
    }
}

impl Setting for usize {
    fn show(self) -> String {
        self.to_string()
    }
}

impl<T: Setting> Range<T> {
    /// From `min` to `max`, both allowed.
    #[must_use]
    pub const fn new(min: T, max: T) -> Self {
        Self { min, max, never: false }
    }

    /// Checks the value of the setting with this name.
    ///
    /// # Errors
    ///
    /// The setting, its value and its range, when the value lies outside.
    pub fn check(&self, setting: impl fmt::Display, value: T) -> Result<(), OutOfRange> {
        if (self.min <= value && value <= self.max) || (self.never && value.is_never()) {
            return Ok(());
        }
        Err(self.refuse(&setting, value))
    }

    #[cold]
    fn refuse(&self, setting: &dyn fmt::Display, value: T) -> OutOfRange {
        let (value, min, max) = (value.show(), self.min.show(), self.max.show());
        let never = if self.never { ", or Duration::MAX for never" } else { "" };
        OutOfRange(
            format!("{setting} is {value}; it must be between {min} and {max}{never}").into(),
        )
    }
}

impl Range<Duration> {
    /// Allows [`Duration::MAX`] as well: the time never comes.
    #[must_use]
    pub const fn or_never(self) -> Self {
        Self { never: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: Setting>(range: Range<T>, value: T) -> String {
        range.check("it", value).map_or_else(String::from, |()| "allowed".to_owned())
    }

    #[test]
    fn the_sentence_names_setting_value_and_range() {
        let times = Range::new(Duration::from_millis(10), Duration::from_secs(86_400));
        assert_eq!(refused(times, Duration::from_millis(10)), "allowed");
        assert_eq!(refused(times, Duration::from_secs(86_400)), "allowed");
        assert_eq!(refused(times, Duration::ZERO), "it is 0 ns; it must be between 10 ms and 24 h");
        assert_eq!(
            refused(times.or_never(), Duration::from_secs(86_401)),
            "it is 86401 s; it must be between 10 ms and 24 h, or Duration::MAX for never"
        );
        assert_eq!(refused(times.or_never(), Duration::MAX), "allowed");
        assert_eq!(
            refused(times, Duration::MAX),
            "it is Duration::MAX; it must be between 10 ms and 24 h"
        );
        assert_eq!(refused(Range::new(1usize, 3), 4), "it is 4; it must be between 1 and 3");
    }

    #[test]
    fn times_are_shown_as_people_write_them() {
        let shown = [
            (Duration::from_micros(100), "100 µs"),
            (Duration::from_micros(1500), "1.5 ms"),
            (Duration::from_secs(90), "90 s"),
            (Duration::from_secs(7200), "2 h"),
            (Duration::from_secs(30 * 86_400), "30 days"),
        ];
        for (time, text) in shown {
            assert_eq!(time.show(), text);
        }
    }
}
