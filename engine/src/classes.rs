//! Service classes: how much of a busy shard's time each class of methods gets.
//!
//! `fair_shares.rs` decides whose turn it is, by time that is given to it. What waits is kept by the shard
//! (`shard/class_queues.rs`), and the driver runs it (`driver/classes.rs`).

pub(crate) mod fair_shares;

use corewire_codec::{OutOfRange, Range};

/// The range of each class's shares.
const SHARES: Range<usize> = Range::new(1, 1000);

/// The classes of a shard.
pub(crate) const CLASSES: usize = 3;

/// What kind of work a method does, and so when its shard runs it.
///
/// A shard with methods of more than one class keeps a queue for each. When several queues have something to run, each class
/// gets time by its [`ClassShares`]. When only one has, it gets all of it. A method is put into a class by
/// `#[corewire(class = "batch")]`, a service by `Service::in_class`. Everything else is [`Normal`](Self::Normal).
///
/// A class is not a priority. The *class* belongs to the method, and says how much of the shard's time its handlers get. The
/// *priority* belongs to the call, and says which calls are refused first when the shard is overloaded
/// ([`QueueDelay`](crate::QueueDelay)).
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::ServiceClass;
///
/// assert_eq!(ServiceClass::default(), ServiceClass::Normal);
/// assert_eq!(ServiceClass::Batch.name(), "batch");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias("scheduling group", "task queue", "qos", "priority"))]
#[non_exhaustive]
pub enum ServiceClass {
    /// Calls that somebody waits for. They begin when they arrive, and go first among equals.
    Latency,
    /// All others. They begin when they arrive, too.
    #[default]
    Normal,
    /// Work that may take long, in pieces. Its calls wait in a queue before they begin: a flood of them does not delay the
    /// others. It should [yield](crate::yield_if_due): a piece that has begun is never interrupted.
    Batch,
}

impl ServiceClass {
    /// All of them, those that go first among equals first.
    pub(crate) const ALL: [Self; CLASSES] = [Self::Latency, Self::Normal, Self::Batch];

    /// Its place in tables.
    #[inline]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Latency => 0,
            Self::Normal => 1,
            Self::Batch => 2,
        }
    }

    /// Its name, as attributes spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }
}

/// How the time of a shard is shared out while several [classes](ServiceClass) have something to run.
///
/// Only the proportions count: with 1000 and 100, one class gets ten times as much as the other. What a class does not use, the others
/// get. Time is that of handlers: what the shard spends on sockets and frames is not counted, nor are tasks, which run in each turn.
/// Each is 1 to 1,000.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::ClassShares;
///
/// let shares = ClassShares { batch: 50, ..ClassShares::default() };
/// assert_eq!((shares.latency, shares.normal), (1000, 500));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(remote = "Self", default, deny_unknown_fields))]
pub struct ClassShares {
    /// Of methods in [`ServiceClass::Latency`]. Default 1,000.
    pub latency: u16,
    /// Of methods in [`ServiceClass::Normal`]. Default 500.
    pub normal: u16,
    /// Of methods in [`ServiceClass::Batch`]. Default 100.
    pub batch: u16,
}

#[cfg(feature = "serde")]
corewire_codec::checked_settings!(ClassShares, ClassShares::check);

impl Default for ClassShares {
    fn default() -> Self {
        Self { latency: 1000, normal: 500, batch: 100 }
    }
}

impl ClassShares {
    /// Checks the range of each.
    pub(crate) fn check(&self) -> Result<(), OutOfRange> {
        for (class, shares) in ServiceClass::ALL.into_iter().zip(self.by_class()) {
            SHARES.check(format_args!("class_shares.{}", class.name()), shares.into())?;
        }
        Ok(())
    }

    /// In the order of [`ServiceClass::ALL`].
    pub(crate) fn by_class(self) -> [u16; CLASSES] {
        [self.latency, self.normal, self.batch]
    }
}
