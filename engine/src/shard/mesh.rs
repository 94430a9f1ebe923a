//! The mesh: how the shards of one server reach each other.
//!
//! Between each two shards lies a *lane* in each direction: a ring of bounded size with one writer and one reader, so
//! that neither ever waits for the other, and no lock is there. What travels is a [`Parcel`]. It runs on the shard where it
//! arrives; what is to come back travels back in the same box, so that its memory is freed on the shard that allocated it.
//!
//! ```text
//!  shard 0                                              shard 1
//!  send ─▶ ring 0→1 ······································▶ take ─▶ Parcel::arrive
//!  settle: one bit for the whole batch ─▶ Bell of 1 ─▶ (an eventfd, if it sleeps)
//! ```
//!
//! Bounds: at most 1,024 parcels of a lane are away, have not begun to wait at their owner, and are to come back; one more waits
//! in its sender. What comes back and cancels follow from one of those, and parts of streams have windows of their own. What finds the
//! ring full waits in a backlog of its sender, which tries again at its next turn, and at least every millisecond.
//!
//! A server that never uses its mesh pays a load and a branch for each turn: shards say that they sleep only from the first
//! parcel on ([`Hub::engage`]).

mod bell;
mod lane;
mod parcel;
mod slots;
mod sync;
mod waiting;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use corewire_client::log_limit::{Topic, admit_here};
use corewire_client::panics::panic_text;
use corewire_proto::canary::{Bug, is_planted};
use corewire_proto::{ShardId, ShardInfo};

pub(crate) use self::bell::News;
use self::bell::{Bell, Presence, Sender};
pub(crate) use self::lane::Sizes;
use self::lane::{Lane, lanes};
use self::parcel::Boxed;
use crate::net::doorbell::Doorbell;
use crate::shard::clock::clock;
use crate::shard::context::ShardContext;
use crate::shard::tasks::Task;
use crate::shard::values::Values;
use crate::snapshot::MeshSnapshot;

pub(crate) use self::parcel::Parcel;
pub(crate) use self::slots::{Slot, SlotName, Slots};
pub(crate) use self::waiting::{Lost, Ticket, Waiting};

/// How many times a spinning shard looks for parcels between two looks at its sockets.
const LOOKS: usize = 16;

/// A shard with a backlog looks this often whether there is room again.
pub(crate) const RETRY_EVERY: Duration = Duration::from_millis(1);

/// How many parcels from threads that are no shards of the server may wait for one shard.
const FROM_OUTSIDE_MAX: usize = 1024;

/// What all shards of one server know of each other.
#[derive(Debug)]
pub(crate) struct Hub {
    members: Box<[Member]>,
    engaged: AtomicBool,
}

#[derive(Debug)]
struct Member {
    bell: Bell,
    doorbell: Arc<Doorbell>,
    /// From threads that are no shards of this server. The receiver is there to empty the queue of a shard that is gone.
    outside: (flume::Sender<Boxed>, flume::Receiver<Boxed>),
}

impl Member {
    /// Drops what was sent from outside to a shard that is gone: who waits for it learns that. The sender and the shard
    /// both do this after what makes it necessary, so that nothing stays.
    fn empty_if_gone(&self) {
        if self.bell.presence() == Presence::Gone {
            self.outside.1.try_iter().for_each(drop);
        }
    }
}

impl Hub {
    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.members.len()).unwrap_or(u16::MAX)
    }

    /// The mesh is used from now on: every shard says when it sleeps.
    #[inline]
    fn engage(&self) {
        if !self.engaged.load(Ordering::Relaxed) {
            self.engage_now();
        }
    }

    #[cold]
    fn engage_now(&self) {
        self.engaged.store(true, Ordering::SeqCst);
        // A shard that sleeps without having said so is woken once.
        self.members.iter().for_each(|member| member.doorbell.wake());
    }

    /// Sends from a thread that is no shard of this server; waits while as many as allowed are queued.
    pub(crate) async fn send_from_outside(&self, to: usize, parcel: Boxed) -> Result<(), Lost> {
        let Some(member) = self.members.get(to) else { return Err(Lost) };
        if member.bell.presence() == Presence::Gone {
            return Err(Lost);
        }
        member.outside.0.send_async(parcel).await.map_err(|_| Lost)?;
        member.empty_if_gone();
        self.engage();
        if member.bell.post(Sender::Outside) {
            member.doorbell.wake();
        }
        Ok(())
    }

    /// Whether no shard is left.
    pub(crate) fn is_over(&self) -> bool {
        self.members.iter().all(|member| member.bell.presence() == Presence::Gone)
    }

    fn is_gone(&self, shard: usize) -> bool {
        self.members.get(shard).is_none_or(|member| member.bell.presence() == Presence::Gone)
    }
}

/// One shard's part of the mesh, before its thread has started.
#[derive(Debug)]
pub(crate) struct MeshEnd {
    member: Membership,
    info: ShardInfo,
    lanes: Box<[Lane]>,
    taken_at_once: usize,
    outside: flume::Receiver<Boxed>,
}

/// A shard's place in the hub. Dropping it says that the shard is gone: it has ended in order, by a panic, or it has
/// never started.
#[derive(Debug)]
struct Membership {
    hub: Arc<Hub>,
    me: usize,
}

impl Membership {
    fn bell(&self) -> Option<&Bell> {
        self.hub.members.get(self.me).map(|member| &member.bell)
    }

    /// Says to all others that this shard's presence has changed.
    fn set_presence(&self, presence: Presence) {
        if let Some(bell) = self.bell() {
            bell.set_presence(presence);
        }
        for member in &self.hub.members {
            // Whoever sleeps without saying so must hear of it as well.
            let _ = member.bell.post(Sender::Shard(self.me));
            member.doorbell.wake();
        }
        if let Some(member) = self.hub.members.get(self.me) {
            member.empty_if_gone();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.set_presence(Presence::Gone);
    }
}

/// The mesh between the shards of one server, an end for each.
pub(crate) fn make(shards: &[(ShardInfo, Arc<Doorbell>)]) -> Vec<MeshEnd> {
    make_of(shards, Sizes::of(shards.len()))
}

/// The same with lanes of these sizes.
pub(crate) fn make_of(shards: &[(ShardInfo, Arc<Doorbell>)], sizes: Sizes) -> Vec<MeshEnd> {
    let (mut members, mut outsides) = (Vec::new(), Vec::new());
    for (_, doorbell) in shards {
        let (sender, receiver) = flume::bounded(FROM_OUTSIDE_MAX);
        members.push(Member {
            bell: Bell::new(),
            doorbell: Arc::clone(doorbell),
            outside: (sender, receiver.clone()),
        });
        outsides.push(receiver);
    }
    let engaged = AtomicBool::new(false);
    let hub = Arc::new(Hub { members: members.into(), engaged });
    let ends = shards.iter().zip(lanes(shards.len(), sizes)).zip(outsides);
    ends.map(|(((info, _), lanes), outside)| {
        let member = Membership { hub: Arc::clone(&hub), me: usize::from(info.id.0) };
        let lanes = lanes.into_boxed_slice();
        MeshEnd { member, info: *info, lanes, taken_at_once: sizes.taken_at_once, outside }
    })
    .collect()
}

/// A parcel arrives. What it drops may be the user's, and may panic: the shard goes on.
fn open(parcel: Boxed, from: Option<usize>) {
    contain(|| parcel.arrive(from));
}

fn contain(work: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work))
        && admit_here(Topic::TASK_PANIC, clock())
    {
        let panic = panic_text(&*panic);
        tracing::error!(panic, "what another shard had sent panicked; this shard goes on");
    }
}

/// The end of a shard that has no others.
pub(crate) fn alone(doorbell: &Arc<Doorbell>) -> MeshEnd {
    let info = ShardInfo { id: ShardId(0), count: 1, cpu: None };
    let (sender, outside) = flume::bounded(FROM_OUTSIDE_MAX);
    let member = Member {
        bell: Bell::new(),
        doorbell: Arc::clone(doorbell),
        outside: (sender, outside.clone()),
    };
    let engaged = AtomicBool::new(false);
    let hub = Arc::new(Hub { members: Box::new([member]), engaged });
    let sizes = Sizes::of(1);
    let lanes = lanes(1, sizes).into_iter().flatten().collect();
    let member = Membership { hub, me: 0 };
    MeshEnd { member, info, lanes, taken_at_once: sizes.taken_at_once, outside }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Mesh>>> = const { RefCell::new(None) };
}

/// One shard's part of the mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    member: Membership,
    shard: Rc<ShardContext>,
    info: ShardInfo,
    lanes: Box<[Lane]>,
    taken_at_once: usize,
    outside: flume::Receiver<Boxed>,
    /// Lanes that something was sent on since the last [`settle`](Self::settle).
    touched: RefCell<Vec<usize>>,
    /// The lane with which the next turn begins.
    first_lane: Cell<usize>,
    /// Whether something waits because a ring is full.
    backlog: Cell<bool>,
    /// What was sent and is to come back.
    pub(crate) waiting: Waiting,
    /// Where parts of streams wait.
    pub(crate) slots: Slots,
    /// What runs here for others and may be cancelled by them.
    running: RefCell<BTreeMap<(usize, Ticket), Task<()>>>,
    /// What the others know of this shard.
    is_drained: Cell<bool>,
    has_left: Cell<bool>,
    /// What the shard serves, for calls that come from other shards.
    served: RefCell<Option<Rc<dyn Any>>>,
    /// The shard's values of every `Sharded`.
    pub(crate) values: Values,
}

impl Mesh {
    /// The part of the shard with this context.
    pub(crate) fn new(end: MeshEnd, shard: Rc<ShardContext>) -> Rc<Self> {
        let MeshEnd { member, info, lanes, taken_at_once, outside } = end;
        Rc::new(Self {
            member,
            shard,
            info,
            lanes,
            taken_at_once,
            outside,
            touched: RefCell::default(),
            first_lane: Cell::new(0),
            backlog: Cell::new(false),
            waiting: Waiting::default(),
            slots: Slots::default(),
            running: RefCell::default(),
            is_drained: Cell::new(false),
            has_left: Cell::new(false),
            served: RefCell::default(),
            values: Values::default(),
        })
    }

    /// That of the shard whose code runs on this thread, if it is a shard's.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Makes another one the thread's, or none; returns the previous one.
    pub(crate) fn replace_current(mesh: Option<Rc<Self>>) -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.replace(mesh)).ok().flatten()
    }

    pub(crate) fn shard(&self) -> &Rc<ShardContext> {
        &self.shard
    }

    /// The shard serves this from now on.
    pub(crate) fn set_served(&self, served: Rc<dyn Any>) {
        *self.served.borrow_mut() = Some(served);
    }

    /// What the shard serves; `None` before its services are made.
    pub(crate) fn served(&self) -> Option<Rc<dyn Any>> {
        self.served.borrow().clone()
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.member.hub
    }

    pub(crate) fn info(&self) -> ShardInfo {
        self.info
    }

    /// Whether a shard has ended, or there is none of this number.
    pub(crate) fn is_gone(&self, shard: usize) -> bool {
        self.member.hub.is_gone(shard)
    }

    /// The number of this shard.
    pub(crate) fn me(&self) -> usize {
        self.member.me
    }

    #[inline]
    fn bell(&self) -> Option<&Bell> {
        self.member.bell()
    }

    /// Waits until one more parcel may be away to shard `to`. `number` is the place in the queue, kept from poll to poll
    /// until it is given to [`leave_queue`](Self::leave_queue).
    pub(crate) fn poll_room(
        &self,
        to: usize,
        number: &mut Option<u64>,
        context: &Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        let Some(lane) = self.lanes.get(to).filter(|_| !self.member.hub.is_gone(to)) else {
            return Poll::Ready(Err(Lost));
        };
        lane.poll_room(number, context).map(Ok)
    }

    /// Who waited for room has sent, or has given up.
    pub(crate) fn leave_queue(&self, to: usize, number: u64) {
        if let Some(lane) = self.lanes.get(to) {
            lane.leave_queue(number);
        }
    }

    /// Sends something that is to come back; [`poll_room`](Self::poll_room) said that there is room. It leaves with the
    /// others of this turn.
    pub(crate) fn send_away(&self, to: usize, make: impl FnOnce(Ticket) -> Boxed) -> Ticket {
        let ticket = self.waiting.issue(to);
        if let Some(lane) = self.lanes.get(to) {
            lane.note_away();
        }
        self.send(to, make(ticket));
        ticket
    }

    /// Sends something that needs no room of its own, because it follows from something that is away: what comes back,
    /// a cancel. To the shard itself it goes by its own lane, as to any other.
    pub(crate) fn send(&self, to: usize, parcel: Boxed) {
        self.member.hub.engage();
        let Some(lane) = self.lanes.get(to) else { return };
        if lane.push(parcel) {
            let touched = &mut *self.touched.borrow_mut();
            if !touched.contains(&to) {
                touched.push(to);
                // Code that glommio polls may run while the driver sleeps.
                self.shard.wakes.note_if_asleep();
            }
        } else {
            self.backlog.set(true);
        }
    }

    /// A parcel that was away is back.
    pub(crate) fn give_back(&self, from: Option<usize>, ticket: Ticket, parcel: Boxed) {
        self.waiting.give(ticket, parcel);
        self.note_back(from);
    }

    /// One parcel less is away to shard `from`.
    pub(crate) fn note_back(&self, from: Option<usize>) {
        if let Some(lane) = from.and_then(|from| self.lanes.get(from))
            && !is_planted(Bug::LostPlace)
        {
            lane.note_back();
        }
    }

    /// What runs here for shard `from` until it is done or cancelled.
    pub(crate) fn run(&self, from: usize, ticket: Ticket, task: Task<()>) {
        if !task.is_finished() {
            self.running.borrow_mut().insert((from, ticket), task);
        }
    }

    /// It is done, or its sender does not want it any more, which cancels it.
    pub(crate) fn end(&self, from: usize, ticket: Ticket) {
        let task = self.running.borrow_mut().remove(&(from, ticket));
        drop(task);
    }

    /// Tells the others what this shard left for them: one wake for each, however much it is.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.backlog.get() {
            self.retry();
        }
        if !self.touched.borrow().is_empty() {
            self.tell();
        }
    }

    fn tell(&self) {
        for to in self.touched.borrow_mut().drain(..) {
            if let Some(member) = self.member.hub.members.get(to)
                && member.bell.post(Sender::Shard(self.member.me))
                && !is_planted(Bug::UnwokenShard)
            {
                member.doorbell.wake();
            }
        }
    }

    /// Whether something was sent that nobody was told of yet.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        !self.touched.borrow().is_empty()
    }

    /// Whether others may have left something.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.bell().is_some_and(Bell::has_news)
    }

    /// For a shard that spins: waits for news for as long as a look at its sockets takes.
    pub(crate) fn look(&self) {
        if !self.is_used() {
            return;
        }
        for _ in 0..LOOKS {
            if self.has_news() {
                return;
            }
            core::hint::spin_loop();
        }
    }

    /// Whether any shard has sent anything yet.
    #[inline]
    fn is_used(&self) -> bool {
        self.member.hub.engaged.load(Ordering::Relaxed)
    }

    /// Runs what others have left, within the bound of a turn. Returns whether there was anything.
    pub(crate) fn take(&self) -> bool {
        let Some(bell) = self.bell().filter(|bell| bell.has_news()) else { return false };
        self.take_news(bell, bell.take())
    }

    /// The same, as if nothing could be seen yet of what those left.
    pub(crate) fn take_but(&self, unseen: News) -> bool {
        let bell = self.bell().filter(|bell| bell.has_news_but(unseen));
        bell.is_some_and(|bell| self.take_news(bell, bell.take_but(unseen)))
    }

    #[inline]
    fn take_news(&self, bell: &Bell, news: News) -> bool {
        if news.has(Sender::Outside) {
            self.take_from_outside(bell);
        }
        let mut left = self.taken_at_once;
        // Each turn begins with another lane, so that none waits behind a busy one.
        let first = self.first_lane.get() % self.lanes.len();
        self.first_lane.set(first + 1);
        let (behind, ahead) = self.lanes.split_at(first);
        let lanes = (first..).zip(ahead).chain((0..).zip(behind));
        for (from, lane) in lanes.filter(|(from, _)| news.has(Sender::Shard(*from))) {
            // Before the last parcel is taken: what comes behind is not lost.
            let is_gone = self.member.hub.is_gone(from);
            while left > 0
                && let Some(parcel) = lane.pop()
            {
                open(parcel, Some(from));
                left -= 1;
            }
            if left == 0 {
                // The next turn goes on with it; nobody sleeps while there is news.
                let _ = bell.post(Sender::Shard(from));
            } else if is_gone && !is_planted(Bug::UnheardDeath) {
                self.lose(from);
            }
        }
        true
    }

    fn take_from_outside(&self, bell: &Bell) {
        for _ in 0..self.taken_at_once {
            let Ok(parcel) = self.outside.try_recv() else { return };
            open(parcel, None);
        }
        let _ = bell.post(Sender::Outside);
    }

    /// Shard `from` is gone: nothing comes back from it, and nobody waits for what runs here for it.
    #[cold]
    fn lose(&self, from: usize) {
        self.waiting.lose(from);
        if let Some(lane) = self.lanes.get(from) {
            contain(|| lane.lose());
        }
        let ended: Vec<Task<()>> = self
            .running
            .borrow_mut()
            .extract_if(.., |(of, _), _| *of == from)
            .map(|(_, it)| it)
            .collect();
        ended.into_iter().for_each(|task| contain(move || drop(task)));
    }

    #[cold]
    fn retry(&self) {
        let mut left = false;
        for (to, lane) in self.lanes.iter().enumerate() {
            if self.member.hub.is_gone(to) {
                lane.lose();
                continue;
            }
            if lane.push_backlog() {
                self.touched.borrow_mut().push(to);
            }
            left |= lane.has_backlog();
        }
        self.backlog.set(left);
    }

    /// The shard is about to sleep. Returns for how long it may: not at all if there is news.
    #[inline]
    pub(crate) fn sleep_for(&self, wait: Duration) -> Duration {
        if self.is_used() { self.say_sleeping(wait) } else { wait }
    }

    fn say_sleeping(&self, wait: Duration) -> Duration {
        if self.bell().is_some_and(|bell| !bell.may_sleep()) {
            return Duration::ZERO;
        }
        if self.backlog.get() { wait.min(RETRY_EVERY) } else { wait }
    }

    /// The shard has slept.
    #[inline]
    pub(crate) fn awake(&self) {
        if self.is_used()
            && let Some(bell) = self.bell()
        {
            bell.awake();
        }
    }

    /// The shard has no connections any more. Returns whether it may end: when no other shard may need it.
    pub(crate) fn is_drained(&self) -> bool {
        // What nobody waits for must not be lost with the shard that runs it.
        if self.waiting.unattended() > 0 {
            return false;
        }
        let members = &self.member.hub.members;
        if !self.is_drained.replace(true) {
            self.member.set_presence(Presence::Drained);
        }
        members.iter().all(|member| member.bell.presence() != Presence::Here)
    }

    /// Whether others may have left something, those excepted.
    pub(crate) fn has_news_but(&self, unseen: News) -> bool {
        self.bell().is_some_and(|bell| bell.has_news_but(unseen))
    }

    /// Whether a lane has a backlog, which it tries again at the next turn.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.get()
    }

    /// What is on its way, waits, or runs here for others.
    pub(crate) fn snapshot(&self) -> MeshSnapshot {
        let sum = |of: fn(&Lane) -> usize| self.lanes.iter().map(of).sum();
        MeshSnapshot {
            away: sum(Lane::away),
            unsent: sum(Lane::unsent),
            arrived: sum(Lane::arrived),
            queued: sum(Lane::waiting),
            awaited: self.waiting.len(),
            running: self.running.borrow().len(),
            slots: self.slots.len(),
        }
    }

    /// What is to come back from a shard, and what runs here for it.
    pub(crate) fn ties(&self, shard: usize) -> usize {
        let running = self.running.borrow();
        let running = running.keys().filter(|(from, _)| *from == shard).count();
        self.waiting.away_to(shard) + running
    }

    /// The hub, for who wants to know when it is gone.
    pub(crate) fn watch(&self) -> Weak<Hub> {
        Arc::downgrade(&self.member.hub)
    }

    /// Whether nothing is on its way, or waits, or runs here for others.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.waiting.len() == 0
            && self.running.borrow().is_empty()
            && self.slots.len() == 0
            && self.lanes.iter().all(Lane::is_idle)
    }

    /// The shard ends: what runs here for others is dropped, and they learn that nothing comes back.
    pub(crate) fn leave(&self) {
        // What is dropped is the user's, and must not keep the shard from ending in order.
        let running = core::mem::take(&mut *self.running.borrow_mut());
        running.into_values().for_each(|task| contain(move || drop(task)));
        let served = self.served.take();
        drop(served);
        self.settle();
        self.say_gone();
    }

    /// The others learn that nothing comes from this shard any more.
    pub(crate) fn say_gone(&self) {
        if !self.has_left.replace(true) {
            self.member.set_presence(Presence::Gone);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
