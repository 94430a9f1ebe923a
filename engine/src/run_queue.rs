//! Which connection has the next turn, and how much one turn of the shard may do for all of them.
//!
//! A connection that moved much in its last turn, or has work left, waits in the second line. The first
//! line is served first and whole; the second while the budget of the shard's turn lasts, which is counted
//! in bytes and frames, and with at least one connection each time. Then new readiness is looked for. So
//! a small call waits for small calls, and for one bounded share of the others however many they are.

use std::collections::VecDeque;
use std::time::Instant;

use crate::budgets::Budgets;
use crate::io::Token;

/// Connections that want a turn, each with the time since when it does.
#[derive(Debug, Default)]
pub(crate) struct RunQueue {
    light: VecDeque<(Token, Instant)>,
    heavy: VecDeque<(Token, Instant)>,
}

impl RunQueue {
    #[inline]
    pub(crate) fn push(&mut self, token: Token, since: Instant, heavy: bool) {
        let line = if heavy { &mut self.heavy } else { &mut self.light };
        line.push_back((token, since));
    }

    #[inline]
    pub(crate) fn pop_light(&mut self) -> Option<(Token, Instant)> {
        self.light.pop_front()
    }

    #[inline]
    pub(crate) fn pop_heavy(&mut self) -> Option<(Token, Instant)> {
        self.heavy.pop_front()
    }

    /// How many wait in the first and in the second line.
    #[inline]
    pub(crate) fn lines(&self) -> (usize, usize) {
        (self.light.len(), self.heavy.len())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }
}

/// What a turn of the shard may still do for all its connections together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnBudget {
    bytes: usize,
    frames: usize,
    /// How many connections share it.
    waiting: usize,
}

impl TurnBudget {
    /// A turn in which so many connections want something.
    #[inline]
    pub(crate) fn new(budgets: &Budgets, waiting: usize) -> Self {
        let Budgets { shard_bytes_per_turn, shard_frames_per_turn, .. } = *budgets;
        Self { bytes: shard_bytes_per_turn, frames: shard_frames_per_turn, waiting }
    }

    /// What one connection gets of `all`, but at least `least`.
    #[inline]
    pub(crate) fn share(&self, all: usize, least: usize) -> usize {
        if self.waiting <= 1 { all } else { (all / self.waiting).max(least).min(all) }
    }

    /// Bytes that may still be received or sent.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn take_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    #[inline]
    pub(crate) fn take_frames(&mut self, frames: usize) {
        self.frames = self.frames.saturating_sub(frames);
    }

    /// Whether the turn should end.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes == 0 || self.frames == 0
    }
}
