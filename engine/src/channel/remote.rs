//! A channel whose callers are on other threads: a [`ClientCore`] that this shard drives.
//!
//! The task of the client thread brings what callers want (`host/client_thread.rs`), and the turns of the
//! connections do it (`conn/remote.rs`). Both find the core here, in a cell that neither keeps borrowed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
#[cfg(feature = "sim")]
use std::rc::Weak;
use std::task::Waker;
use std::time::Instant;

use crate::net::io::Token;
use crate::shard::context::ShardContext;
use corewire_client::address::Address;
use corewire_client::config::ChannelConfig;
use corewire_client::remote::command::{ClientCore, Command, Hold};

/// Which of a channel's connections want a turn for what callers asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wants {
    #[default]
    Nothing,
    /// The one that new calls go to.
    Newest,
    /// All of them.
    All,
}

/// Such channels of a shard that want a connection, until the driver looks.
#[derive(Debug)]
pub(crate) struct RemoteConnects {
    shard: Rc<ShardContext>,
    channels: RefCell<Vec<Rc<RemoteChannel>>>,
    /// All that were made and may still be there, for the simulator's checks.
    #[cfg(feature = "sim")]
    made: RefCell<Vec<Weak<RemoteChannel>>>,
}

impl RemoteConnects {
    pub(crate) fn new(shard: Rc<ShardContext>) -> Rc<Self> {
        Rc::new(Self {
            shard,
            channels: RefCell::default(),
            #[cfg(feature = "sim")]
            made: RefCell::default(),
        })
    }

    fn push(&self, channel: Rc<RemoteChannel>) {
        self.channels.borrow_mut().push(channel);
        self.shard.wakes.note_news();
    }

    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        !self.channels.borrow().is_empty()
    }

    pub(crate) fn take(&self) -> Vec<Rc<RemoteChannel>> {
        core::mem::take(&mut *self.channels.borrow_mut())
    }

    /// The channels that are still there.
    #[cfg(feature = "sim")]
    pub(crate) fn made(&self) -> Vec<Rc<RemoteChannel>> {
        let mut made = self.made.borrow_mut();
        made.retain(|channel| channel.strong_count() > 0);
        made.iter().filter_map(Weak::upgrade).collect()
    }
}

/// One channel of a client thread.
#[derive(Debug)]
pub(crate) struct RemoteChannel {
    pub(crate) core: RefCell<ClientCore>,
    connects: Rc<RemoteConnects>,
    /// Its connections, also those that are being made. The newest is the last one.
    tokens: RefCell<Vec<Token>>,
    wants: Cell<Wants>,
    /// No handle is left. Whoever waits for the last call is woken when the channel is idle.
    released: RefCell<Option<Waker>>,
    is_released: Cell<bool>,
}

/// What the callers want.
impl RemoteChannel {
    /// A channel that connects when it is first used. What is left to chance is drawn from `jitter`.
    pub(crate) fn new(
        address: Address,
        config: ChannelConfig,
        jitter: u64,
        connects: &Rc<RemoteConnects>,
    ) -> Rc<Self> {
        let channel = Rc::new(Self {
            core: RefCell::new(ClientCore::with_jitter(address, config, jitter)),
            connects: Rc::clone(connects),
            tokens: RefCell::default(),
            wants: Cell::default(),
            released: RefCell::default(),
            is_released: Cell::new(false),
        });
        #[cfg(feature = "sim")]
        connects.made.borrow_mut().push(Rc::downgrade(&channel));
        channel
    }

    /// Returns whether this is the first wish since [`wake`](Self::wake).
    fn want(&self, wants: Wants) -> bool {
        let before = self.wants.get();
        if before != Wants::All {
            self.wants.set(wants);
        }
        before == Wants::Nothing
    }

    /// A call was made. This and the others that return a `bool` say whether [`wake`](Self::wake) is to be called
    /// when no more comes now, unless it is known already.
    pub(crate) fn begin(&self, command: Command, now: Instant) -> bool {
        self.core.borrow_mut().begin(command, now);
        self.want(Wants::Newest)
    }

    /// Nobody waits for this call any more.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        self.core.borrow_mut().cancel(id);
        self.want(Wants::All)
    }

    /// The caller's ends of this call's streams want something.
    pub(crate) fn settle_stream(&self, id: u64) -> bool {
        self.core.borrow_mut().settle_stream(id);
        self.want(Wants::All)
    }

    /// No call begins any more. `hold` is dropped when all connections are gone.
    pub(crate) fn close(&self, hold: Hold, now: Instant) -> bool {
        let core = &mut *self.core.borrow_mut();
        core.close(hold);
        // Those that retired may be all that is left, and on them no call begins.
        core.advance_calls(now);
        self.release_closed(core);
        self.want(Wants::All)
    }

    /// No handle is left. `waker` is woken when the channel is idle.
    pub(crate) fn release(&self, waker: Waker) -> bool {
        *self.released.borrow_mut() = Some(waker);
        self.is_released.set(true);
        self.want(Wants::All)
    }

    /// Gives the connections that something is wanted of a turn, and begins one if none is there.
    pub(crate) fn wake(self: &Rc<Self>) {
        let tokens = self.tokens.borrow();
        let tokens = match self.wants.take() {
            Wants::Nothing => &[],
            Wants::Newest => tokens.last().map_or(&[][..], core::slice::from_ref),
            Wants::All => tokens.as_slice(),
        };
        for token in tokens {
            self.connects.shard.mark_dirty(*token);
        }
        self.settle(&mut self.core.borrow_mut());
    }

    /// Whether no call waits and none is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.core.borrow().is_idle()
    }
}

/// What the connections do.
impl RemoteChannel {
    /// Whether no handle is left.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released.get()
    }

    /// Asks for a connection if the core wants one, and reports that the last call of a released channel is over.
    /// To be called after whatever the core was told.
    #[inline]
    pub(crate) fn settle(self: &Rc<Self>, core: &mut ClientCore) {
        if core.takes_connect() {
            self.connects.push(Rc::clone(self));
        }
        if self.is_released() {
            self.note_idle(core);
        }
    }

    #[cold]
    fn note_idle(&self, core: &ClientCore) {
        if core.is_idle()
            && let Some(waker) = &*self.released.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The driver has a connection with this token.
    pub(crate) fn add(&self, token: Token) {
        self.tokens.borrow_mut().push(token);
    }

    /// The socket of the connection with this token is gone.
    pub(crate) fn remove(&self, token: Token) {
        self.tokens.borrow_mut().retain(|other| *other != token);
        self.release_closed(&mut self.core.borrow_mut());
    }

    /// Gives each connection a turn: the core has ended another one than that which has its turn.
    #[cold]
    pub(crate) fn wake_all(&self) {
        for token in &*self.tokens.borrow() {
            self.connects.shard.mark_dirty(*token);
        }
    }

    /// Those who wait for the end of the channel may go on, if no socket is left.
    fn release_closed(&self, core: &mut ClientCore) {
        if self.tokens.borrow().is_empty() {
            core.release_closed();
        }
    }

    /// The shard ends, and with it the calls in flight.
    pub(crate) fn end(&self, now: Instant) {
        self.core.borrow_mut().end(now);
    }
}
