//! Which connection has the next turn, and how much one turn of the shard may do for all of them.
//!
//! A connection that moved much in its last turn, or has work left, waits in the second queue. The first
//! queue is served first and completely; the second while the budget of the shard's turn lasts, which is
//! counted in bytes and frames, and with at least one connection each time. Then the shard polls for new
//! readiness. So a small call waits for small calls, and for one bounded share of the others however many
//! they are.

use std::collections::VecDeque;
use std::time::Instant;

use crate::budgets::Budgets;
use crate::net::io::Token;

/// Connections that want a turn, each with the time since when it wants one.
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

    /// How many wait in the first and in the second queue.
    #[inline]
    pub(crate) fn lines(&self) -> (usize, usize) {
        (self.light.len(), self.heavy.len())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }
    pub(crate) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }
}

/// What a turn of the shard may still do for all its connections together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnBudget {
    bytes: usize,
    frames: usize,
    /// How often each connection may receive, and how much it may send.
    receives_each: usize,
    send_bytes_each: usize,
}

impl TurnBudget {
    /// A turn in which `waiting` connections want something.
    #[inline]
    pub(crate) fn new(budgets: &Budgets, waiting: usize) -> Self {
        Self {
            bytes: budgets.shard_bytes_per_turn,
            frames: budgets.shard_frames_per_turn,
            receives_each: share(budgets.receives_per_turn, 1, waiting),
            send_bytes_each: share(budgets.send_bytes_per_turn, budgets.receive_bytes, waiting),
        }
    }

    /// How often a connection may receive in its turn, so that others that wait get their shares.
    #[inline]
    pub(crate) fn receives_each(&self) -> usize {
        self.receives_each
    }

    /// How much a connection may send in its turn: at least as much as one receive brings.
    #[inline]
    pub(crate) fn send_bytes_each(&self) -> usize {
        self.send_bytes_each
    }

    /// `bytes` were received or sent.
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

/// What each of `waiting` connections gets of `all`, but at least `least`.
#[inline]
fn share(all: usize, least: usize, waiting: usize) -> usize {
    if waiting <= 1 { all } else { (all / waiting).max(least).min(all) }
}
