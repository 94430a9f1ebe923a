//! What happened in a run: all of it hashed, the last of it kept.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// A cheap hash, because it is over everything that happens. Nobody chooses the events to make two runs look
/// the same.
#[derive(Debug)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        // Two states that differ still differ when both have taken the same value.
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_usize(value.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// The notes of one run, each with its time in ns.
#[derive(Debug)]
pub struct Tape<N> {
    hash: Mixer,
    last: VecDeque<(u64, N)>,
    /// How many of the last notes are kept.
    kept: usize,
    notes: u64,
}

impl<N: Hash> Tape<N> {
    /// An empty tape that keeps this many of its last notes.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self { hash: Mixer(1), last: VecDeque::with_capacity(kept), kept, notes: 0 }
    }

    /// Takes a note that is not kept.
    pub fn count(&mut self, at: u64, note: &N) {
        (at, note).hash(&mut self.hash);
        self.notes += 1;
    }

    /// Takes a note.
    pub fn note(&mut self, at: u64, note: N) {
        self.count(at, &note);
        if self.last.len() == self.kept {
            self.last.pop_front();
        }
        self.last.push_back((at, note));
    }

    /// A hash over all notes: the same run has the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many notes were taken.
    #[must_use]
    pub fn notes(&self) -> u64 {
        self.notes
    }

    /// The last notes, from the oldest on.
    pub fn last(&self) -> impl Iterator<Item = &(u64, N)> {
        self.last.iter()
    }
}

/// A time in ns, as the lines of a trace show it.
#[must_use]
pub fn time(at: u64) -> String {
    format!("{:>6}.{:06} ms", at / 1_000_000, at % 1_000_000)
}
