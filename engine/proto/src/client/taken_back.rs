//! Requests that were taken back before a byte of them was written.

use std::time::Instant;

/// What is known of requests that were taken back.
#[derive(Debug)]
pub(super) struct TakenBack<T> {
    /// Their numbers, since the last renumbering.
    pub(super) orders: Vec<u32>,
    /// Calls whose requests were just taken out; empty between two steps.
    pub(super) calls: Vec<u32>,
    /// Numbers and deadlines of one-way calls, the last ones of them for those in the send buffer.
    pub(super) one_way: Vec<(u32, Instant)>,
    /// A time no later than the first deadline of those in the send buffer.
    pub(super) one_way_due: Option<Instant>,
    /// What was kept for calls that expired before anything of them was written.
    pub(super) never_sent: Vec<T>,
}

impl<T> TakenBack<T> {
    pub(super) fn new() -> Box<Self> {
        let (orders, calls) = (Vec::new(), Vec::new());
        Box::new(Self {
            orders,
            calls,
            one_way: Vec::new(),
            one_way_due: None,
            never_sent: Vec::new(),
        })
    }
}
