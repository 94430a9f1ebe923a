//! A channel that this shard drives: a [`ClientCore`], and what its connections and its callers share.
//!
//! Callers begin calls, from tasks of the shard (`channel/begin.rs`) or from other threads through the task of a client
//! thread (`host/client_thread.rs`). The turns of the connections (`conn/client.rs`) do the rest. All of them find the
//! core here, in a cell.
//!
//! The code with which a caller writes a request runs while that cell is borrowed, and may use the channel: give up
//! another call, make one, close the channel. What it wants of the core is deferred until the connection's next turn.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::made::Made;
use crate::net::io::Token;
use crate::shard::context::ShardContext;
use corewire_client::core::channel::{ClientCore, ConnectionId, PendingCall, Waiter};
use corewire_client::failure::NotSent;

/// Which of a channel's connections want a turn for what callers asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wants {
    #[default]
    Nothing,
    /// The one that new calls go to.
    Newest,
    /// All of them.
    All,
}

/// The channels of a shard that want a connection, until the driver looks.
#[derive(Debug)]
pub(crate) struct Connects<W: Waiter> {
    shard: Rc<ShardContext>,
    channels: RefCell<Vec<Rc<DrivenChannel<W>>>>,
    pub(crate) made: Made<DrivenChannel<W>>,
}

impl<W: Waiter> Connects<W> {
    pub(crate) fn new(shard: Rc<ShardContext>) -> Rc<Self> {
        Rc::new(Self { shard, channels: RefCell::default(), made: Made::default() })
    }

    fn push(&self, channel: Rc<DrivenChannel<W>>) {
        self.channels.borrow_mut().push(channel);
        self.shard.wakes.note_news();
    }

    pub(crate) fn take(&self) -> Vec<Rc<DrivenChannel<W>>> {
        core::mem::take(&mut *self.channels.borrow_mut())
    }
}

/// Something that could not be told to the core while a request was written.
type Deferred<W> = Box<dyn FnOnce(&mut ClientCore<W>)>;

/// One channel.
pub(crate) struct DrivenChannel<W: Waiter> {
    pub(crate) core: RefCell<ClientCore<W>>,
    pub(crate) shard: Rc<ShardContext>,
    connects: Rc<Connects<W>>,
    /// Its connections, also those that are being made. The newest is the last one.
    tokens: RefCell<Vec<Token>>,
    /// The newest.
    current: Rc<Cell<Option<Token>>>,
    wants: Cell<Wants>,
    deferred: RefCell<Vec<Deferred<W>>>,
    has_deferred: Cell<bool>,
    /// Those who wait until there is a connection, or none.
    watchers: RefCell<Vec<Waker>>,
    /// The connection whose server has said hello last.
    ready: Cell<Option<ConnectionId>>,
    is_released: Cell<bool>,
    /// Woken when the channel is released and idle.
    idle: RefCell<Option<Waker>>,
}

impl<W: Waiter> fmt::Debug for DrivenChannel<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrivenChannel")
            .field("core", &self.core)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

/// What the callers want.
impl<W: Waiter + 'static> DrivenChannel<W> {
    /// A channel that connects when it is first used.
    pub(crate) fn new(core: ClientCore<W>, connects: &Rc<Connects<W>>) -> Rc<Self> {
        let channel = Rc::new(Self {
            core: RefCell::new(core),
            shard: Rc::clone(&connects.shard),
            connects: Rc::clone(connects),
            tokens: RefCell::default(),
            current: Rc::default(),
            wants: Cell::default(),
            deferred: RefCell::default(),
            has_deferred: Cell::new(false),
            watchers: RefCell::default(),
            ready: Cell::new(None),
            is_released: Cell::new(false),
            idle: RefCell::default(),
        });
        connects.made.note(&channel);
        channel
    }

    /// Has the core do something now, or in the next turn if a caller is writing a request. Returns whether this is
    /// the first wish since [`wake`](Self::wake), which is to be called when no more comes now.
    pub(crate) fn ask(&self, wants: Wants, ask: impl FnOnce(&mut ClientCore<W>) + 'static) -> bool {
        match self.core.try_borrow_mut() {
            Ok(mut core) => ask(&mut core),
            Err(_) => {
                self.deferred.borrow_mut().push(Box::new(ask));
                self.has_deferred.set(true);
            }
        }
        let before = self.wants.get();
        if before != Wants::All {
            self.wants.set(wants);
        }
        before == Wants::Nothing
    }

    /// A call was made.
    pub(crate) fn begin(&self, call: impl Into<PendingCall<W>> + 'static, now: Instant) -> bool {
        self.ask(Wants::Newest, move |core| core.begin(call, now))
    }

    /// A connection is wanted, though no call needs it yet. If there can be none now, the calls that need it are told.
    pub(crate) fn want_connection(&self, now: Instant) -> bool {
        self.ask(Wants::Newest, move |core| drop(core.want_connection(now)))
    }

    /// Nobody waits for this call any more.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        self.ask(Wants::All, move |core| core.cancel(id))
    }

    /// The caller's ends of this call's streams want something.
    pub(crate) fn settle_stream(&self, id: u64) -> bool {
        self.ask(Wants::All, move |core| core.settle_stream(id))
    }

    /// No call begins any more. `hold` is dropped when all connections are gone.
    pub(crate) fn close(&self, hold: W::Hold, now: Instant) -> bool
    where
        W::Hold: 'static,
    {
        let is_first = self.ask(Wants::All, move |core| {
            core.close(hold);
            // Those that retired may be all that is left, and on them no call begins.
            core.advance_calls(now);
        });
        self.release_closed();
        // A connect that the driver has not begun yet leaves no socket whose end would be told.
        self.wake_watchers();
        is_first
    }

    /// No handle is left. `idle` is woken when the channel is idle.
    pub(crate) fn release(&self, idle: Option<Waker>) -> bool {
        *self.idle.borrow_mut() = idle;
        self.is_released.set(true);
        self.ask(Wants::All, |_| {})
    }

    /// Gives the connections that something is wanted of a turn, and begins one if none is there.
    pub(crate) fn wake(self: &Rc<Self>) {
        {
            let tokens = self.tokens.borrow();
            let tokens = match self.wants.take() {
                Wants::Nothing => &[],
                Wants::Newest => tokens.last().map_or(&[][..], core::slice::from_ref),
                Wants::All => tokens.as_slice(),
            };
            for token in tokens {
                self.shard.mark_dirty(*token);
            }
        }
        if let Ok(mut core) = self.core.try_borrow_mut() {
            self.settle(&mut core);
        }
    }

    /// Whether no call waits and none is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.core.borrow().is_idle()
    }

    /// The connection to which new calls go, or will go.
    pub(crate) fn current(&self) -> &Rc<Cell<Option<Token>>> {
        &self.current
    }

    /// Connects if there is no connection, and waits for the server's hello.
    pub(crate) fn poll_ready(
        self: &Rc<Self>,
        context: &Context<'_>,
        now: Instant,
    ) -> Poll<Result<(), NotSent>> {
        let Ok(mut core) = self.core.try_borrow_mut() else {
            // This is within the code that writes a request.
            context.waker().wake_by_ref();
            return Poll::Pending;
        };
        if self.shard.is_over() {
            return Poll::Ready(Err(NotSent::NotOnShard));
        }
        if core.is_closed() {
            return Poll::Ready(Err(NotSent::Closed));
        }
        if core.is_connected() {
            return Poll::Ready(Ok(()));
        }
        if let Err(why) = core.want_connection(now) {
            return Poll::Ready(Err(why));
        }
        self.settle(&mut core);
        self.watch(context);
        Poll::Pending
    }

    /// Waits until no connection of a closed channel is left.
    pub(crate) fn poll_gone(&self, context: &Context<'_>) -> Poll<()> {
        let is_gone = self.core.try_borrow().is_ok_and(|core| core.is_gone());
        if is_gone && self.tokens.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.watch(context);
        Poll::Pending
    }

    fn watch(&self, context: &Context<'_>) {
        self.shard.note_known_wait();
        let watchers = &mut *self.watchers.borrow_mut();
        watchers.retain(|waker| !waker.will_wake(context.waker()));
        watchers.push(context.waker().clone());
    }
}

/// What the connections do.
impl<W: Waiter + 'static> DrivenChannel<W> {
    /// Whether no handle is left.
    #[inline]
    pub(crate) fn is_released(&self) -> bool {
        self.is_released.get()
    }

    /// Does what was deferred while a request was written.
    #[inline]
    pub(crate) fn run_deferred(&self, core: &mut ClientCore<W>) {
        if self.has_deferred.get() {
            self.run_all_deferred(core);
        }
    }

    #[cold]
    fn run_all_deferred(&self, core: &mut ClientCore<W>) {
        self.has_deferred.set(false);
        let deferred = core::mem::take(&mut *self.deferred.borrow_mut());
        deferred.into_iter().for_each(|ask| ask(core));
    }

    /// Asks for a connection if the core wants one, and reports that the last call of a released channel is over.
    /// To be called after whatever the core was told.
    #[inline]
    pub(crate) fn settle(self: &Rc<Self>, core: &mut ClientCore<W>) {
        self.run_deferred(core);
        if core.takes_connect() {
            self.connects.push(Rc::clone(self));
        }
        if self.is_released() {
            self.note_idle(core);
        }
    }

    #[cold]
    fn note_idle(&self, core: &ClientCore<W>) {
        if core.is_idle()
            && let Some(waker) = &*self.idle.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether this server's hello was noted.
    #[inline]
    pub(crate) fn is_ready_noted(&self, connection: ConnectionId) -> bool {
        self.ready.get() == Some(connection)
    }

    /// The server of this connection has said hello.
    #[cold]
    pub(crate) fn note_ready(&self, connection: ConnectionId) {
        self.ready.set(Some(connection));
        self.wake_watchers();
    }

    pub(crate) fn wake_watchers(&self) {
        let watchers = core::mem::take(&mut *self.watchers.borrow_mut());
        watchers.into_iter().for_each(Waker::wake);
    }

    /// The driver has a connection with this token.
    pub(crate) fn add(&self, token: Token) {
        self.tokens.borrow_mut().push(token);
        self.current.set(Some(token));
    }

    /// The socket of the connection with this token is gone.
    pub(crate) fn remove(&self, token: Token) {
        self.tokens.borrow_mut().retain(|other| *other != token);
        if self.current.get() == Some(token) {
            self.current.set(None);
        }
        self.release_closed();
        self.wake_watchers();
    }

    /// Gives each connection a turn: the core has ended another one than that which has its turn.
    #[cold]
    pub(crate) fn wake_all(&self) {
        for token in &*self.tokens.borrow() {
            self.shard.mark_dirty(*token);
        }
    }

    /// Those who wait for the end of the channel may go on, if no socket is left.
    fn release_closed(&self) {
        if self.tokens.borrow().is_empty()
            && let Ok(mut core) = self.core.try_borrow_mut()
        {
            core.release_closed();
        }
    }

    /// The shard ends, and with it the calls in flight.
    pub(crate) fn end(&self, now: Instant) {
        self.core.borrow_mut().end(now);
        self.tokens.borrow_mut().clear();
        self.current.set(None);
        self.wake_watchers();
    }
}
