//! Calls of other shards' connections at the shard that runs them: whether one begins, and what those that pend hold.
//!
//! They wait for the same thread and use the same memory as the calls of this shard's connections, so the same bounds hold
//! for them: a call is shed if it waited too long, and refused if its connection has its share of this shard. Nothing is held up
//! first: the mesh has brought the call already, and its shard keeps what its client sends.

use corewire_codec::{RequestHead, Status, request_flags};
use corewire_proto::canary::{Bug, is_planted};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue_delay::{DelayWatch, expired_status, shed_status};
use crate::budgets::Budgets;
use crate::shard::account::Totals;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;

/// When a caller whose call found no room should try again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What the pending calls of one connection hold here.
#[derive(Clone, Copy, Debug, Default)]
struct Guest {
    bytes: usize,
    calls: usize,
    one_way: usize,
}

/// The calls of other shards' connections on one shard.
#[derive(Debug)]
pub(crate) struct Guests {
    totals: Totals,
    counters: Arc<ShardCounters>,
    delay: Option<Rc<DelayWatch>>,
    call_bytes: usize,
    one_way_pending_max: usize,
    /// Connections with calls that pend, by their id in this process.
    pending: RefCell<BTreeMap<u64, Guest>>,
}

impl Guests {
    pub(crate) fn new(
        budgets: &Budgets,
        one_way_pending_max: u16,
        totals: Totals,
        counters: Arc<ShardCounters>,
        delay: Option<Rc<DelayWatch>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            totals,
            counters,
            delay,
            call_bytes: budgets.call_bytes,
            one_way_pending_max: one_way_pending_max.into(),
            pending: RefCell::default(),
        })
    }

    /// Why a call that was sent at `sent` is not run; `None` if it is.
    pub(crate) fn turn_away(
        &self,
        shard: &ShardContext,
        request: &RequestHead,
        connection: u64,
        sent: Instant,
        deadline: Option<Instant>,
    ) -> Option<Status> {
        // Other calls of the same batch may have run for long.
        shard.look_at_clock();
        let now = shard.now();
        if deadline.is_some_and(|by| by <= now) && !is_planted(Bug::LateForward) {
            self.counters.calls_expired.add(1);
            return Some(expired_status());
        }
        if let Some(delay) = &self.delay {
            let waited = now.saturating_duration_since(sent);
            if delay.sheds(request.priority, waited, now) {
                self.counters.calls_shed.add(1);
                return Some(shed_status(waited, delay.retry_after()));
            }
        }
        let own = self.pending.borrow().get(&connection).copied().unwrap_or_default();
        let is_one_way = request.flags & request_flags::ONE_WAY != 0;
        if is_one_way && own.one_way >= self.one_way_pending_max {
            return Some(Status::resource_exhausted("too many one-way calls pend"));
        }
        if self.totals.lacks_room(own.bytes, own.calls) {
            self.counters.calls_refused.add(1);
            return Some(self.no_room(own));
        }
        None
    }

    #[cold]
    fn no_room(&self, own: Guest) -> Status {
        let (bytes, calls) = self.totals.held();
        let Guest { bytes: own_bytes, calls: own_calls, .. } = own;
        Status::resource_exhausted(format!(
            "the connection has its share: {own_calls} pending calls and {own_bytes} bytes, of {calls} and {bytes} that the shard that owns the key holds"
        ))
        .with_retry_after(RETRY_AFTER)
    }

    /// A call pends, until what this returns is dropped.
    pub(crate) fn park(
        self: &Rc<Self>,
        request: &RequestHead,
        connection: u64,
        payload_bytes: usize,
    ) -> Parked {
        let bytes = self.call_bytes.saturating_add(payload_bytes);
        let one_way = usize::from(request.flags & request_flags::ONE_WAY != 0);
        self.totals.begin_call(bytes);
        let mut pending = self.pending.borrow_mut();
        let guest = pending.entry(connection).or_default();
        guest.bytes += bytes;
        guest.calls += 1;
        guest.one_way += one_way;
        Parked { guests: Rc::clone(self), connection, bytes, one_way }
    }
}

/// A call that pends here for another shard's connection.
#[derive(Debug)]
pub(crate) struct Parked {
    guests: Rc<Guests>,
    connection: u64,
    bytes: usize,
    one_way: usize,
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.guests.totals.end_call(self.bytes);
        let mut pending = self.guests.pending.borrow_mut();
        let Some(guest) = pending.get_mut(&self.connection) else { return };
        guest.bytes = guest.bytes.saturating_sub(self.bytes);
        guest.calls = guest.calls.saturating_sub(1);
        guest.one_way = guest.one_way.saturating_sub(self.one_way);
        if guest.calls == 0 {
            pending.remove(&self.connection);
        }
    }
}
