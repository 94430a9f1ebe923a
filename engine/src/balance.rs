//! Even load: which connections go to another shard, and when.
//!
//! Nothing here does I/O or reads a clock. Each shard has a [`Balancer`](decide::Balancer) and decides for itself, from the
//! loads that all shards publish. `driver/evening.rs` measures, asks, and moves.
//!
//! A shard is *over* when its load is more than [`BOUND`](decide) times the mean for some looks in a row. Then it weighs its
//! connections for a while, and gives away those that bring it and a shard with little load nearest to each other. A shard
//! that is over and has nothing to give that would help is *stuck*, because one of its connections is more than the mean,
//! for example. The others leave it out of their mean, and even out among themselves.

use std::fmt;
use std::str::FromStr;

pub(crate) mod decide;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Whether connections change shards so that all shards have about the same load.
///
/// A shard gives something away only if it was at work for more than a twentieth of the time, and for more than 1.1
/// times the mean of all, for about a second.
///
/// As text, for flags and settings: `off`, `accept` or `move`.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Balance;
///
/// assert_eq!(Balance::default(), Balance::Off);
/// assert_eq!("move".parse(), Ok(Balance::Move));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// A connection stays where the kernel put it.
    #[default]
    Off,
    /// A shard that has more than its share hands new connections to the one with the least, before it reads from them.
    Accept,
    /// It does that, and also moves connections that it has, so that long-lived ones even out. Only idle ones: those
    /// with a call in flight, an open stream or unsent bytes wait. Those on which calls came with their key's hash stay,
    /// because their clients chose them for their shard.
    ///
    /// A client does not notice, except that its calls reach the state of another shard: do not choose this if
    /// each shard has a state of its own that is not under a key.
    Move,
    /// For tests: moves each connection whenever it is idle.
    #[doc(hidden)]
    Restless,
}

/// As it is parsed.
impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Accept => "accept",
            Self::Move => "move",
            Self::Restless => "restless",
        })
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "accept" => Ok(Self::Accept),
            "move" => Ok(Self::Move),
            _ => Err("give off, accept or move".into()),
        }
    }
}
