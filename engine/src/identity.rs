//! What a shard is told when it starts.

use crate::budgets::Budgets;
use crate::classes::ClassShares;
use corewire_codec::{OutOfRange, Range};
use corewire_proto::{ServerConfig, ShardInfo};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Whether a shard with nothing to do looks for work before it sleeps.
///
/// Spinning answers the next call sooner, by the time of a wake-up, but uses the core meanwhile.
///
/// As text, for flags and settings: `off`, `always`, or the limit in whole microseconds.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Spin;
/// use std::time::Duration;
///
/// assert_eq!("50".parse(), Ok(Spin::For(Duration::from_micros(50))));
/// assert_eq!(Spin::default(), Spin::Off);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// Sleep at once.
    #[default]
    Off,
    /// Look for up to this long where that pays: as long as work comes again within the limit, and
    /// not at all on an idle shard, or while another thread wants the core.
    ///
    /// The limit says what a wake-up is worth: with 50 µs the shard would rather spin for 50 µs than
    /// sleep. 0 to 1 s; it saves next to nothing below 10 µs, and more than 1 ms is taken as 1 ms. A shard whose
    /// calls always come within the limit uses its whole core.
    For(Duration),
    /// Never sleep. For a core that nothing else ever runs on: the shard uses all of it even without
    /// a single connection, and shares it badly.
    Always,
}
impl Spin {
    /// Checks the range of the limit.
    pub(crate) fn check(self) -> Result<(), OutOfRange> {
        match self {
            Self::For(limit) => {
                Range::new(Duration::ZERO, Duration::from_secs(1)).check("spin", limit)
            }
            Self::Off | Self::Always => Ok(()),
        }
    }
}

/// As it is parsed: `off`, `always`, or whole microseconds.
impl fmt::Display for Spin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::For(limit) => write!(f, "{}", limit.as_micros()),
            Self::Always => f.write_str("always"),
        }
    }
}

impl FromStr for Spin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "always" => Ok(Self::Always),
            number => match number.parse::<u64>() {
                Ok(micros) if micros <= 1_000_000 => Ok(Self::For(Duration::from_micros(micros))),
                _ => Err("give off, always, or microseconds up to 1000000".into()),
            },
        }
    }
}

/// Everything a shard's driver needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverConfig {
    pub(crate) info: ShardInfo,
    pub(crate) server: ServerConfig,
    pub(crate) budgets: Budgets,
    /// The first connection id of this shard, and the step to the next one.
    pub(crate) connection_ids: (u64, u64),
    /// How long a handler or a task may hold the shard before a warning names it.
    pub(crate) warn_held_after: Duration,
    /// How the classes of its methods share its time.
    pub(crate) class_shares: ClassShares,
    /// One of how many polls is measured for the costs of methods; 0 is none.
    pub(crate) method_costs: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_is_read_from_text() {
        assert_eq!("off".parse(), Ok(Spin::Off));
        assert_eq!("always".parse(), Ok(Spin::Always));
        assert_eq!("50".parse(), Ok(Spin::For(Duration::from_micros(50))));
        for wrong in ["", "on", "-1", "1000001", "50us"] {
            assert!(wrong.parse::<Spin>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn spin_is_shown_as_it_is_parsed() {
        let limits = [Spin::Off, Spin::Always, Spin::For(Duration::from_micros(50))];
        for spin in limits {
            assert_eq!(spin.to_string().parse(), Ok(spin));
        }
    }
}
