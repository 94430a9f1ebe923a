//! What a shard holds for its connections, against its bounds, and how much of it one connection may have.
//!
//! A connection may hold as much as is free, so its share shrinks as the shard fills: one connection
//! gets half, ten get an eleventh each, and there is room left for one that comes later. This is the dynamic
//! threshold of buffers that the ports of a switch share (Choudhury and Hahne, "Dynamic Queue Length
//! Thresholds for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 1998), with a factor
//! of 1. An eighth of each bound is kept for those that hold little ([`RESERVE_SHARES`]): in there, a
//! connection may hold a sixty-fourth of what is free.
//!
//! While less than half is held, no connection can be over its share, and nothing is computed.

use std::cell::Cell;
use std::rc::Rc;

use crate::budgets::Budgets;
use crate::net::io::Token;

/// The reserve for connections that hold little, as a share of the bound.
const RESERVE_SHARES: usize = 8;

/// What a connection that holds little may have of what is free, as a share.
const LITTLE_SHARES: usize = 64;

/// The room that there must be before a stream's message is made or taken.
const MESSAGE_BYTES: usize = 32 * 1024;

/// One bound, and how much of it is held.
#[derive(Debug)]
struct Pool {
    held: Cell<usize>,
    max: Cell<usize>,
    /// Up to here nobody can be over its share, since none holds more than all of them together: half
    /// of what is there for everybody.
    calm: Cell<usize>,
}

impl Pool {
    fn new() -> Self {
        Self { held: Cell::new(0), max: Cell::new(usize::MAX), calm: Cell::new(usize::MAX) }
    }

    fn set_max(&self, max: usize) {
        self.max.set(max);
        self.calm.set(self.common() / 2);
    }

    /// What is there for everybody.
    fn common(&self) -> usize {
        self.max.get() - self.max.get() / RESERVE_SHARES
    }

    /// Whether some connection may be over its share.
    #[inline]
    fn is_tight(&self) -> bool {
        self.held.get() > self.calm.get()
    }

    /// What one connection may hold, not counting what it is `given` for good already.
    fn share(&self, given: usize) -> usize {
        let held = self.held.get().saturating_sub(given);
        let little = self.max.get().saturating_sub(held) / LITTLE_SHARES;
        self.common().saturating_sub(held).max(little)
    }

    /// Up to here nobody is cut off.
    fn ample(&self) -> usize {
        self.max.get() - self.max.get() / 4
    }

    /// What one connection may hold if its address has more than its share.
    fn little(&self) -> usize {
        self.max.get().saturating_sub(self.held.get()) / LITTLE_SHARES
    }
}

/// What one shard holds, and its bounds. Bytes of streams change hands away from the driver, so everything
/// that holds some shares this.
#[derive(Clone, Debug)]
pub(crate) struct Totals(Rc<Pools>);

#[derive(Debug)]
struct Pools {
    bytes: Pool,
    calls: Pool,
    /// How often a call ended or a message was taken, modulo the word.
    given_back: Cell<usize>,
}

impl Default for Totals {
    /// Without bounds, until a driver sets them.
    fn default() -> Self {
        Self(Rc::new(Pools { bytes: Pool::new(), calls: Pool::new(), given_back: Cell::new(0) }))
    }
}

impl Pools {
    #[inline]
    fn note_given_back(&self) {
        self.given_back.set(self.given_back.get().wrapping_add(1));
    }
}

impl Totals {
    fn set_bounds(&self, budgets: &Budgets) {
        self.0.bytes.set_max(budgets.shard_bytes_max);
        self.0.calls.set_max(budgets.shard_calls_max);
    }

    /// Whether any connection may be over its share of the bytes.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.0.bytes.is_tight()
    }

    /// Whether a connection of another shard, which holds this much here, has its share or more.
    pub(crate) fn lacks_room(&self, bytes: usize, calls: usize) -> bool {
        let pools = &*self.0;
        (pools.bytes.is_tight() && bytes >= pools.bytes.share(0))
            || (pools.calls.is_tight() && calls >= pools.calls.share(0))
    }

    /// Bytes and calls held now.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.0.bytes.held.get(), self.0.calls.held.get())
    }

    /// A call that holds `bytes` pends.
    #[inline]
    pub(crate) fn begin_call(&self, bytes: usize) {
        let pools = &*self.0;
        pools.calls.held.set(pools.calls.held.get() + 1);
        pools.bytes.held.set(pools.bytes.held.get() + bytes);
    }

    /// A call that pended is over.
    #[inline]
    pub(crate) fn end_call(&self, bytes: usize) {
        let pools = &*self.0;
        let (calls, held) = (pools.calls.held.get(), pools.bytes.held.get());
        debug_assert!(calls > 0 && held >= bytes, "more ends than began");
        pools.calls.held.set(calls.saturating_sub(1));
        pools.bytes.held.set(held.saturating_sub(bytes));
        pools.note_given_back();
    }
}

/// What the streams of one connection hold, as part of what their shard holds.
#[derive(Debug)]
pub(crate) struct StreamAccount {
    totals: Totals,
    bytes: Cell<usize>,
    /// How many messages wait to be sent.
    outgoing: Cell<usize>,
    /// Bytes that were given back, modulo the word: progress.
    released: Cell<usize>,
    /// Whether its connection's address holds more than its share.
    crowded: Cell<bool>,
    /// Whether it has a share. Streams of clients do not.
    shared: bool,
}

impl StreamAccount {
    /// The account of a server's connection.
    pub(crate) fn of_server(totals: Totals) -> Rc<Self> {
        Self::new(totals, true)
    }

    /// The account of a client's connections: it is counted, and has no share.
    pub(crate) fn of_clients(totals: Totals) -> Rc<Self> {
        Self::new(totals, false)
    }

    fn new(totals: Totals, shared: bool) -> Rc<Self> {
        let (bytes, outgoing, released, crowded) = Default::default();
        Rc::new(Self { totals, bytes, outgoing, released, crowded, shared })
    }

    /// Charges `bytes` for a message that came, until the returned guard is dropped.
    pub(crate) fn hold_incoming(self: &Rc<Self>, bytes: usize) -> Held {
        self.hold(bytes, false)
    }

    /// Charges `bytes` for a message that waits to be sent, until the returned guard is dropped.
    pub(crate) fn hold_outgoing(self: &Rc<Self>, bytes: usize) -> Held {
        self.outgoing.set(self.outgoing.get() + 1);
        self.hold(bytes, true)
    }

    fn hold(self: &Rc<Self>, bytes: usize, is_outgoing: bool) -> Held {
        self.bytes.set(self.bytes.get() + bytes);
        let held = &self.totals.0.bytes.held;
        held.set(held.get() + bytes);
        Held { account: Rc::clone(self), bytes, is_outgoing }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub(crate) fn released(&self) -> usize {
        self.released.get()
    }

    pub(crate) fn set_crowded(&self, crowded: bool) {
        self.crowded.set(crowded);
    }

    /// Whether memory is so short that waiting bytes should keep no more memory alive than their own size.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.totals.is_tight()
    }

    /// Whether these streams hold all that they may.
    #[inline]
    pub(crate) fn is_over_share(&self) -> bool {
        self.shared && self.totals.is_tight() && self.is_over_share_now()
    }

    /// Whether a writer waits for room. Received messages may hold the whole share, and their handler may take
    /// more of them only when it may write: so one message at a time goes on, unless memory is so short that
    /// connections that give nothing back are cut off.
    #[inline]
    pub(crate) fn is_writer_over_share(&self) -> bool {
        self.is_over_share() && !self.may_write_one()
    }

    /// Whether a connection that has its share may write a message: nothing of it waits to be sent.
    #[cold]
    pub(crate) fn may_write_one(&self) -> bool {
        let pool = &self.totals.0.bytes;
        self.outgoing.get() == 0 && pool.held.get() <= pool.ample()
    }

    #[cold]
    fn is_over_share_now(&self) -> bool {
        let pool = &self.totals.0.bytes;
        let share = if self.crowded.get() { pool.little() } else { pool.share(0) };
        // Nobody knows how large the next message is: if many connections each got one too many, they
        // would use up the reserve.
        let next = MESSAGE_BYTES.min(pool.max.get() / LITTLE_SHARES);
        self.bytes.get().saturating_add(next) > share
    }
}

/// The account that something on its way back is to be charged to, once its connection has told which.
pub(crate) type ReturnAccount = Rc<std::cell::OnceCell<Rc<StreamAccount>>>;

/// The charge for the bytes of a stream's message, or of a reply that came from another shard, wherever it lies.
#[derive(Debug)]
pub(crate) struct Held {
    account: Rc<StreamAccount>,
    bytes: usize,
    is_outgoing: bool,
}

impl Held {
    /// It holds so many bytes from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        let account = &*self.account;
        let before = core::mem::replace(&mut self.bytes, bytes);
        let change = |cell: &Cell<usize>| cell.set(cell.get().saturating_sub(before) + bytes);
        change(&account.bytes);
        change(&account.totals.0.bytes.held);
        if bytes < before {
            account.released.set(account.released.get().wrapping_add(before - bytes));
            account.totals.0.note_given_back();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let StreamAccount { totals, bytes, outgoing, released, .. } = &*self.account;
        outgoing.set(outgoing.get().saturating_sub(usize::from(self.is_outgoing)));
        bytes.set(bytes.get().saturating_sub(self.bytes));
        released.set(released.get().wrapping_add(self.bytes));
        let held = &totals.0.bytes.held;
        held.set(held.get().saturating_sub(self.bytes));
        totals.0.note_given_back();
    }
}

/// What a connection that asks for more holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    pub(crate) bytes: usize,
    /// Bytes that it has room for already, and that are not counted in `bytes`.
    pub(crate) given: usize,
    pub(crate) calls: usize,
    /// Whether its address holds more than its share.
    pub(crate) crowded: bool,
}

/// The account of one shard. Everything that is added is also taken away again.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    totals: Totals,
    /// Connections that wait for room, in the order in which they began to wait.
    waiting: Vec<Token>,
    /// The most that was held when one of them found no room.
    tried_at: (usize, usize),
    /// What had been given back when the first of them found none: if another took as much meanwhile, what is held does
    /// not show it, and the one that gave it back may have room all the same.
    given_back: usize,
}

impl MemoryAccount {
    pub(crate) fn new(budgets: &Budgets, totals: Totals) -> Self {
        totals.set_bounds(budgets);
        Self { totals, waiting: Vec::new(), tried_at: (0, 0), given_back: 0 }
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    fn pools(&self) -> &Pools {
        &self.totals.0
    }

    /// Bytes held now.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.pools().bytes.held.get()
    }

    /// Calls that pend now.
    #[inline]
    pub(crate) fn calls(&self) -> usize {
        self.pools().calls.held.get()
    }

    /// Whether a connection may be over its share of anything.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        self.pools().bytes.is_tight() || self.pools().calls.is_tight()
    }

    /// Whether so much is held that connections that keep it without progress are cut off.
    pub(crate) fn is_short(&self) -> bool {
        let (bytes, calls) = self.enough();
        self.bytes() > bytes || self.calls() > calls
    }

    /// Bytes and calls at which cutting off ends.
    pub(crate) fn enough(&self) -> (usize, usize) {
        (self.pools().bytes.ample(), self.pools().calls.common())
    }

    /// Whether a connection has its share, or more; to be asked when the shard [is tight](Self::is_tight).
    #[cold]
    pub(crate) fn is_over_share(&self, own: Own) -> bool {
        self.is_bytes_over_share(own) || own.calls >= self.pools().calls.share(0)
    }

    /// The same, for bytes alone.
    #[cold]
    pub(crate) fn is_bytes_over_share(&self, own: Own) -> bool {
        let pool = &self.pools().bytes;
        own.bytes >= if own.crowded { pool.little() } else { pool.share(own.given) }
    }

    /// What one connection may hold, in bytes and in calls.
    pub(crate) fn shares(&self) -> (usize, usize) {
        (self.pools().bytes.share(0), self.pools().calls.share(0))
    }

    /// Whether one address holds more than four times what is free.
    pub(crate) fn is_crowded(&self, bytes: usize) -> bool {
        let pool = &self.pools().bytes;
        bytes / 4 > pool.common().saturating_sub(pool.held.get())
    }

    /// Whether `bytes` more would stay within a connection's share, or next to nothing is held at all and
    /// they fit.
    pub(crate) fn has_room(&self, own: Own, bytes: usize) -> bool {
        let pool = &self.pools().bytes;
        let held = pool.held.get();
        let fits = held.saturating_add(bytes) <= pool.max.get();
        if held == 0 || (fits && held <= pool.max.get() / RESERVE_SHARES / 2) {
            return true;
        }
        let share = if own.crowded { pool.little() } else { pool.share(0) };
        own.bytes.saturating_add(bytes) <= share
    }

    /// A call that holds `bytes` pends.
    #[inline]
    pub(crate) fn begin_call(&self, bytes: usize) {
        self.totals.begin_call(bytes);
    }

    /// A call that pended is over.
    #[inline]
    pub(crate) fn end_call(&self, bytes: usize) {
        self.totals.end_call(bytes);
    }

    /// What a connection holds in addition to its calls has changed.
    #[inline]
    pub(crate) fn change(&self, from: usize, to: usize) {
        let held = &self.pools().bytes.held;
        debug_assert!(held.get() >= from, "more is given back than was taken");
        held.set(held.get().saturating_sub(from) + to);
    }

    /// Notes a connection that waits for room.
    pub(crate) fn wait(&mut self, token: Token) {
        let now = (self.bytes(), self.calls());
        // Something may have been given back since an earlier one tried, which may fit where this one does not.
        let tried = if self.waiting.is_empty() { now } else { self.tried_at };
        if self.waiting.is_empty() {
            self.given_back = self.pools().given_back.get();
        }
        self.tried_at = (tried.0.max(now.0), tried.1.max(now.1));
        if !self.waiting.contains(&token) {
            self.waiting.push(token);
        }
    }

    /// Makes all that wait try again: their shares may have changed.
    pub(crate) fn wake_waiting(&mut self) {
        self.tried_at = (usize::MAX, usize::MAX);
    }

    /// Those that wait, if something was given back since; each waits again if it still finds no room.
    #[inline]
    pub(crate) fn take_waiting(&mut self) -> Option<Vec<Token>> {
        self.may_let_in().then(|| core::mem::take(&mut self.waiting))
    }

    /// Whether some wait, and something was given back since.
    #[inline]
    pub(crate) fn may_let_in(&self) -> bool {
        !self.waiting.is_empty() && self.is_given_back()
    }

    #[cold]
    fn is_given_back(&self) -> bool {
        let (bytes, calls) = self.tried_at;
        self.bytes() < bytes
            || self.calls() < calls
            || self.pools().given_back.get() != self.given_back
    }
}

#[cfg(test)]
mod tests;
