//! What one decoded body may cost: how deep it nests, and how much memory its values take.
//!
//! speedy's and serde's readers have no place to carry this, so it is kept with the thread while a body is read. Reading
//! never waits, and what it has entered it leaves, also when it unwinds.

use core::cell::Cell;
use core::fmt;

/// How deep messages nest in a body at most, as in other protobuf implementations: 100.
pub const DEPTH_MAX: u32 = 100;

/// Decoded values take at most this many times the bytes of their body, plus [`MEMORY_FLOOR`].
///
/// Counted are the values themselves and what they own; the allocator may take up to three times that while a list grows.
pub const AMPLIFICATION: usize = 64;

/// What a decoded body may take in any case, however small it is: 64 KiB.
pub const MEMORY_FLOOR: usize = 64 * 1024;

/// Why the reading of a body was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// More than [`DEPTH_MAX`] messages are nested.
    Depth,
    /// Decoded values would take more memory than a body of this size may.
    Memory,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth => write!(f, "more than {DEPTH_MAX} messages are nested"),
            Self::Memory => write!(
                f,
                "decoded, the body would take more than {AMPLIFICATION} times its bytes plus {} KiB",
                MEMORY_FLOOR / 1024
            ),
        }
    }
}

impl core::error::Error for Exceeded {}

/// The memory that values decoded from `bytes` may take.
pub(crate) const fn memory_of(bytes: usize) -> usize {
    bytes.saturating_mul(AMPLIFICATION).saturating_add(MEMORY_FLOOR)
}

#[derive(Clone, Copy)]
struct Reading {
    depth: u32,
    /// What is left of the memory; `None` until something is charged.
    memory: Option<usize>,
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading { depth: 0, memory: None }) };
}

/// One message whose fields are being read. Dropping it leaves the message.
#[derive(Debug)]
pub struct Nested(());

impl Drop for Nested {
    fn drop(&mut self) {
        READING.with(|it| {
            let mut reading = it.get();
            reading.depth = reading.depth.saturating_sub(1);
            if reading.depth == 0 {
                reading.memory = None;
            }
            it.set(reading);
        });
    }
}

/// Enters a message.
///
/// # Errors
///
/// [`Exceeded::Depth`] when too many are nested.
#[inline]
pub(crate) fn enter() -> Result<Nested, Exceeded> {
    READING.with(|it| {
        let mut reading = it.get();
        if reading.depth >= DEPTH_MAX {
            return Err(Exceeded::Depth);
        }
        reading.depth = reading.depth.saturating_add(1);
        it.set(reading);
        Ok(Nested(()))
    })
}

/// A body whose size is known while it is read. Dropping it ends the reading.
#[cfg(feature = "json")]
#[derive(Debug)]
pub(crate) struct Body(());

#[cfg(feature = "json")]
impl Drop for Body {
    fn drop(&mut self) {
        READING.with(|it| {
            let reading = it.get();
            if reading.depth == 0 {
                it.set(Reading { memory: None, ..reading });
            }
        });
    }
}

/// Begins a body of so many bytes, around its outermost message.
#[cfg(feature = "json")]
pub(crate) fn begin(bytes: usize) -> Body {
    READING.with(|it| {
        let reading = it.get();
        it.set(Reading { memory: reading.memory.or_else(|| Some(memory_of(bytes))), ..reading });
    });
    Body(())
}

/// Charges memory to the body that is being read. `rest` says how many bytes of it are left at least, and is asked only once
/// for each body.
///
/// # Errors
///
/// [`Exceeded::Memory`] when there is not so much left.
#[inline]
pub(crate) fn charge(memory: usize, rest: impl FnOnce() -> usize) -> Result<(), Exceeded> {
    READING.with(|it| {
        let mut reading = it.get();
        let left = reading.memory.unwrap_or_else(|| memory_of(rest()));
        let Some(left) = left.checked_sub(memory) else { return Err(Exceeded::Memory) };
        if reading.depth > 0 {
            reading.memory = Some(left);
            it.set(reading);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, Exceeded, MEMORY_FLOOR, charge, enter};

    #[test]
    fn depth_is_bounded_and_given_back() {
        for _ in 0..2 {
            let mut entered = Vec::new();
            for _ in 0..DEPTH_MAX {
                entered.push(enter().expect("within the bound"));
            }
            assert_eq!(enter().err(), Some(Exceeded::Depth));
            drop(entered);
        }
    }

    #[test]
    fn memory_is_charged_to_the_outermost_message() {
        for _ in 0..2 {
            let outer = enter().expect("the first");
            charge(MEMORY_FLOOR, || 1).expect("the floor");
            drop(enter().expect("a nested one"));
            charge(64, || panic!("asked once")).expect("64 for the one byte");
            assert_eq!(charge(1, || 0), Err(Exceeded::Memory));
            drop(outer);
        }
    }
}
