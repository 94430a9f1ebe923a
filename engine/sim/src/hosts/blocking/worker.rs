//! A blocking channel's thread, as the simulation drives it.
//!
//! It is free, or does one thing: a call, the opening of a stream, a turn, the drop of a stream's end. What it waits for is
//! kept in between, and looked at again when its host runs. Callers of one channel take turns; a turn of the channel ends
//! early, by a signal, when one of them wants the thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use corewire_client::testing::CoreSnapshot;
use corewire_client::{Address, ChannelConfig};
use corewire_codec::{EncodedBody, FrameWriter, Status};

use super::thread::{self, Actor, Ask, Clock, Order, Reply, Report, Start, Work};

/// With more than this a thread does something else than to move bytes.
const ASKS_MAX: u32 = 100_000;

/// What the system is for one thread.
pub(crate) trait Kernel {
    /// Does what is asked, or returns `None` if that must wait.
    fn serve(&self, ask: &mut Ask) -> Option<Reply>;

    /// When what waits ends by itself, in ns.
    fn due(&self, ask: &Ask) -> Option<u64>;

    /// The thread does something else than to look at its socket.
    fn turn_away(&self);

    /// Whether its server's hello was read.
    fn is_greeted(&self) -> bool;

    /// Whether something lies unread in a socket.
    fn has_unread(&self) -> bool;

    /// The thread did what it must not do.
    fn accuse(&self, what: &str);
}

/// Writes a request, on the simulation's side.
pub(crate) type Encoder = Box<dyn FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Free,
    /// It waits for whatever comes.
    Turn,
    /// It looks at what is there for one caller.
    Look,
    /// It does what one caller wants.
    Busy,
}

pub(crate) struct Worker {
    kernel: Rc<dyn Kernel>,
    /// `None` once the thread is to end.
    orders: RefCell<Option<Sender<Order>>>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
    #[cfg(feature = "canary")]
    bugs: Sender<Option<corewire_proto::canary::Bug>>,
    activity: Cell<Activity>,
    /// Whether it does what one caller wants.
    is_busy: Rc<Cell<bool>>,
    /// What it waits for.
    ask: RefCell<Option<Ask>>,
    encoder: RefCell<Option<Encoder>>,
    /// What it does before anything else when it is free.
    later: RefCell<VecDeque<Work>>,
    /// The tasks that want it, or wait for what it brings.
    waiting: RefCell<Vec<Waker>>,
    /// An end of a stream waits for what comes.
    wants_turn: Cell<bool>,
    is_interrupted: Cell<bool>,
    /// It waited, or something came, since it was free last.
    has_news: Cell<bool>,
    names: Cell<u64>,
    /// What the channel held when it was last free.
    holds: RefCell<Option<Box<CoreSnapshot>>>,
    is_gone: Cell<bool>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("activity", &self.activity)
            .field("ask", &self.ask)
            .field("later", &self.later.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    /// A channel on a thread of its own.
    pub(crate) fn new(
        kernel: Rc<dyn Kernel>,
        server: Address,
        config: ChannelConfig,
        jitter: u64,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let (tell, reports) = mpsc::channel();
        #[cfg(feature = "canary")]
        let (bugs, bug) = mpsc::channel();
        let start = Start {
            server,
            config,
            jitter,
            clock,
            orders: inbox,
            reports: tell,
            #[cfg(feature = "canary")]
            bug,
        };
        let thread = std::thread::Builder::new().spawn(move || thread::run(start))?;
        kernel.turn_away();
        Ok(Self {
            kernel,
            orders: RefCell::new(Some(orders)),
            reports,
            thread: Some(thread),
            #[cfg(feature = "canary")]
            bugs,
            activity: Cell::new(Activity::Free),
            is_busy: Rc::default(),
            ask: RefCell::default(),
            encoder: RefCell::default(),
            later: RefCell::default(),
            waiting: RefCell::default(),
            wants_turn: Cell::new(false),
            is_interrupted: Cell::new(false),
            has_news: Cell::new(false),
            names: Cell::new(0),
            holds: RefCell::new(Some(Box::default())),
            is_gone: Cell::new(false),
        })
    }

    /// A name for a stream.
    pub(crate) fn name(&self) -> u64 {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }

    pub(crate) fn is_greeted(&self) -> bool {
        self.kernel.is_greeted()
    }

    /// Whether it does what one caller wants, at any time.
    pub(crate) fn is_busy(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.is_busy)
    }

    /// Whether its channel was dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// What its channel holds, while it is free.
    pub(crate) fn holds(&self) -> Option<CoreSnapshot> {
        let is_free = self.activity.get() == Activity::Free;
        self.holds.borrow().as_deref().filter(|_| is_free).cloned()
    }

    fn is_free(&self) -> bool {
        self.activity.get() == Activity::Free && self.later.borrow().is_empty()
    }

    fn register(&self, context: &Context<'_>) {
        self.waiting.borrow_mut().push(context.waker().clone());
    }

    /// Waits until it is free.
    pub(crate) fn poll_free(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_free() {
            return Poll::Ready(());
        }
        self.register(context);
        self.is_interrupted.set(self.activity.get() == Activity::Turn);
        Poll::Pending
    }
}

/// What callers have it do.
impl Worker {
    /// Has it do something that may block, when it is free. A panic is passed on.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        encoder: Option<Encoder>,
        work: impl FnOnce(&mut Actor) -> R + Send + 'static,
    ) -> R {
        poll_fn(|context| self.poll_free(context)).await;
        *self.encoder.borrow_mut() = encoder;
        let (tell, result) = mpsc::channel();
        self.start(Activity::Busy, Box::new(move |actor| drop(tell.send(work(actor)))));
        poll_fn(|context| match result.try_recv() {
            Ok(result) => Poll::Ready(result),
            Err(TryRecvError::Disconnected) => resume_unwind(Box::new("planned")),
            Err(TryRecvError::Empty) => {
                self.register(context);
                Poll::Pending
            }
        })
        .await
    }

    /// Has it do something that does not block, when it is free.
    pub(crate) fn poll<R: Send + 'static>(
        &self,
        context: &Context<'_>,
        work: impl FnOnce(&mut Actor) -> Poll<R> + Send + 'static,
    ) -> Poll<R> {
        std::task::ready!(self.poll_free(context));
        let (tell, result) = mpsc::channel();
        self.start(Activity::Look, Box::new(move |actor| drop(tell.send(work(actor)))));
        match result.try_recv() {
            Ok(Poll::Ready(result)) => Poll::Ready(result),
            Ok(Poll::Pending) => {
                self.register(context);
                self.wants_turn.set(true);
                Poll::Pending
            }
            Err(_) => {
                self.kernel.accuse("a poll of a stream blocks");
                Poll::Pending
            }
        }
    }

    /// Has it do something as soon as it is free, before anything else.
    pub(crate) fn then(&self, work: impl FnOnce(&mut Actor) + Send + 'static) {
        if self.is_free() {
            self.start(Activity::Busy, Box::new(work));
        } else {
            self.later.borrow_mut().push_back(Box::new(work));
            self.is_interrupted.set(self.activity.get() == Activity::Turn);
        }
    }
}

/// How it moves on.
impl Worker {
    fn start(&self, activity: Activity, work: Work) {
        self.activity.set(activity);
        self.is_busy.set(activity != Activity::Turn);
        self.is_interrupted.set(false);
        self.resume(Order::Do(work));
    }

    /// Lets the thread run until it has to wait, or is done.
    fn resume(&self, order: Order) {
        let mut order = order;
        let mut asks = 0u32;
        loop {
            asks += 1;
            if asks > ASKS_MAX {
                self.kernel.accuse("a thread asks without end, and does not sleep");
                // From now on whatever it asks fails.
                self.orders.take();
            }
            #[cfg(feature = "canary")]
            let _ = self.bugs.send(planted());
            let orders = self.orders.borrow().clone();
            let sent = orders.is_some_and(|orders| orders.send(order).is_ok());
            let report = if sent { self.reports.recv().ok() } else { None };
            match report {
                Some(Report::Ask(mut ask)) => match self.serve(&mut ask) {
                    Some(reply) => {
                        self.has_news.set(self.has_news.get() || is_news(&ask, &reply));
                        order = Order::Reply(reply);
                    }
                    None => {
                        self.has_news.set(true);
                        *self.ask.borrow_mut() = Some(ask);
                        return;
                    }
                },
                Some(Report::Done { holds }) => {
                    self.is_gone.set(holds.is_none());
                    *self.holds.borrow_mut() = holds;
                    return self.finish();
                }
                None => {
                    self.kernel.accuse("the thread of a channel has ended");
                    self.is_gone.set(true);
                    return self.finish();
                }
            }
        }
    }

    fn finish(&self) {
        let ended = self.activity.replace(Activity::Free);
        self.is_busy.set(false);
        // What was not encoded holds the channel.
        drop(self.encoder.take());
        self.kernel.turn_away();
        // After a look those who came since it was free last have found it as it is now.
        if self.has_news.take() || ended != Activity::Look {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    fn serve(&self, ask: &mut Ask) -> Option<Reply> {
        let Ask::Encode = ask else { return self.kernel.serve(ask) };
        let Some(encoder) = self.encoder.take() else {
            return Some(Reply::Encoded(Err(Status::aborted("nothing is to be encoded"))));
        };
        let encoded = catch_unwind(AssertUnwindSafe(|| EncodedBody::encode(encoder)));
        Some(encoded.map_or(Reply::Panics, Reply::Encoded))
    }

    /// Whether it would go on now.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let reads = || matches!(*self.ask.borrow(), Some(Ask::Read { .. }));
        self.is_interrupted.get() && reads() || self.due().is_some_and(|at| at <= now)
    }

    /// When what it waits for ends by itself, in ns.
    pub(crate) fn due(&self) -> Option<u64> {
        self.ask.borrow().as_ref().and_then(|ask| self.kernel.due(ask))
    }

    /// Its host runs: looks at what it waits for, and does what was put off.
    pub(crate) fn hear(&self) {
        let ask = self.ask.take();
        if let Some(mut ask) = ask {
            // A wait for room is short, and is not cut off.
            let sleeps = matches!(ask, Ask::Read { .. });
            match self.serve(&mut ask) {
                Some(reply) => self.resume(Order::Reply(reply)),
                None if sleeps && self.is_interrupted.take() => {
                    self.resume(Order::Reply(Reply::Failed(std::io::ErrorKind::Interrupted)));
                }
                None => *self.ask.borrow_mut() = Some(ask),
            }
        }
        while self.activity.get() == Activity::Free {
            let work = self.later.borrow_mut().pop_front();
            let Some(work) = work else { break };
            self.start(Activity::Busy, work);
        }
    }

    /// The callers have had their turn: waits for what comes if one of them does, or if all is to be heard.
    pub(crate) fn rest(&self, hears_all: bool) {
        if !self.is_free() || self.is_gone() {
            return;
        }
        if self.wants_turn.take() || self.is_behind(hears_all) {
            self.start(Activity::Turn, Box::new(Actor::turn));
        }
    }

    /// Whether it is to hear all and has not.
    pub(crate) fn is_behind(&self, hears_all: bool) -> bool {
        let is_unsent = || {
            let holds = self.holds.borrow();
            holds.iter().flat_map(|it| &it.connections).any(|it| it.unsent > 0)
        };
        // A pong that is not sent would cost the connection.
        let is_behind = || self.kernel.has_unread() || is_unsent();
        hears_all && self.is_free() && !self.is_gone() && is_behind()
    }
}

/// Whether something has come that others may wait for.
fn is_news(ask: &Ask, reply: &Reply) -> bool {
    match (ask, reply) {
        (Ask::Read { .. }, Reply::Failed(kind)) => *kind != std::io::ErrorKind::WouldBlock,
        (Ask::Write { .. }, Reply::Failed(_)) | (Ask::Read { .. }, _) => true,
        _ => false,
    }
}

/// The bug that is planted on the simulation's thread.
#[cfg(feature = "canary")]
fn planted() -> Option<corewire_proto::canary::Bug> {
    use corewire_proto::canary::{Bug, is_planted};
    Bug::ALL.into_iter().find(|bug| is_planted(*bug))
}
