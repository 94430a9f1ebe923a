//! The thread that watches the shards: a shard that dies or stops turning is reported, and its
//! listener is taken out of service, so that no new client hangs on it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::balance::decide::max_over_mean;
use crate::error::StartError;
use crate::host::events::{Ended, Event, ShardLost, ShardLostHook};
use crate::host::running::{Evenness, Readiness};
use crate::host::steering::Steerer;
use crate::host::trim::{self, Trim};
use crate::net::doorbell::{Doorbell, Order, StalledCall};
use crate::net::listener::{self, SharedListener, SocketFile};
use crate::shard::counters::ShardCounters;
use crate::shard::helpers::Noted;
use crate::workers::pool::Pool;
use corewire_client::MethodName;
use corewire_codec::MethodId;
use corewire_proto::{ShardId, ShardInfo};

/// How often the shards are checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How much longer than the drain deadline a shard may take to end before the supervisor gives it up.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// One shard, as the supervisor sees it.
#[derive(Debug)]
pub(crate) struct Watched {
    info: ShardInfo,
    doorbell: Arc<Doorbell>,
    counters: Arc<ShardCounters>,
    listeners: Vec<SharedListener>,
    thread: Option<thread::JoinHandle<()>>,
    ready: bool,
    /// The methods that it serves, for the warning when it stalls.
    methods: Vec<(MethodId, MethodName)>,
    ended: bool,
    /// The last turn that was seen, and when it was first seen.
    turn: (u64, Instant),
    stalled: bool,
    /// Whether it was asked for a turn since the last turn that was seen.
    knocked: bool,
}

impl Watched {
    pub(crate) fn new(
        info: ShardInfo,
        doorbell: Arc<Doorbell>,
        counters: Arc<ShardCounters>,
        listeners: Vec<SharedListener>,
        thread: thread::JoinHandle<()>,
    ) -> Self {
        let turn = (0, Instant::now());
        Self {
            info,
            doorbell,
            counters,
            listeners,
            thread: Some(thread),
            ready: false,
            methods: Vec::new(),
            ended: false,
            turn,
            stalled: false,
            knocked: false,
        }
    }

    fn stop_listening(&self) {
        self.listeners.iter().for_each(|listener| listener::stop(listener));
    }

    pub(crate) fn counters(&self) -> Arc<ShardCounters> {
        Arc::clone(&self.counters)
    }

    /// Checks the shard's heartbeat. A shard may be asleep; then it is asked for a turn in time.
    fn look(&mut self, stall_after: Duration, backlog: i32, now: Instant) -> Option<Moved> {
        let turns = self.counters.turns.value();
        if turns != self.turn.0 {
            self.turn = (turns, now);
            self.knocked = false;
            if self.stalled {
                self.stalled = false;
                tracing::warn!(shard = %self.info.id, "the shard turns again; its listener is back");
                for listener in &self.listeners {
                    if let Err(error) = listener::resume(listener, backlog) {
                        tracing::error!(shard = %self.info.id, %error, "its listener cannot be restored");
                    }
                }
                self.doorbell.ring(Order::Listen);
                return Some(Moved::In);
            }
            return None;
        }
        let silent = now.duration_since(self.turn.1);
        if silent >= stall_after / 2 && !self.knocked {
            self.knocked = true;
            self.doorbell.ring(Order::Notify);
        }
        if silent >= stall_after && !self.stalled {
            self.stalled = true;
            self.stop_listening();
            let stalled = self.current_call(silent);
            tracing::error!(
                shard = %self.info.id,
                cpu = self.info.cpu,
                silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
                method = stalled.map(|it| self.name_of(it.method)),
                call = stalled.map(|it| format!("{:x}-{:x}", it.connection, it.call)),
                "the shard does not turn: a handler or a task blocks its thread; its listener is out of service until it does"
            );
            // Only the shard knows its peers. It says whose call it was when it turns again.
            if let Some(stalled) = stalled {
                self.doorbell.ring(Order::Stalled(Box::new(stalled)));
            }
            return Some(Moved::Out);
        }
        None
    }
}

/// What became of a shard's listeners.
#[derive(Clone, Copy, Debug)]
enum Moved {
    Out,
    In,
}

impl Watched {
    /// The call whose handler was polled last, unless a task runs.
    fn current_call(&self, silent: Duration) -> Option<StalledCall> {
        let (connection, call, method) = self.counters.current.get()?;
        Some(StalledCall { connection, call, method, silent })
    }

    fn name_of(&self, method: MethodId) -> String {
        let known = self.methods.iter().find(|(id, _)| *id == method);
        known.map_or_else(|| method.to_string(), |(_, name)| name.to_string())
    }
}

/// The settings of a server that its supervisor keeps to.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) stall_after: Duration,
    pub(crate) backlog: i32,
    pub(crate) lame_duck: Duration,
    pub(crate) on_shard_lost: Option<ShardLostHook>,
}

/// Watches until every shard has ended.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shards: Vec<Watched>,
    inbox: flume::Receiver<Event>,
    settings: Supervision,
    ready: Arc<AtomicBool>,
    /// When the time of the lame duck is over, and how long the drain may take then.
    drain_at: Option<(Instant, Duration)>,
    /// Set by a stop: when to give up shards that still run.
    give_up: Option<Instant>,
    lost: usize,
    files: Vec<SocketFile>,
    trim: Trim,
    looked: Option<Instant>,
    /// What the shards had worked at the last look, and the gauge that follows from it.
    worked: Vec<u64>,
    evenness: Evenness,
    /// The threads for offloaded work.
    workers: Option<Arc<Pool>>,
    steerer: Steerer,
    /// Which CPUs have shards, for threads that have none.
    _noted: Noted,
}

impl Supervisor {
    /// Removes `files`, the files of Unix sockets, when the server has ended.
    pub(crate) fn new(
        inbox: flume::Receiver<Event>,
        settings: Supervision,
        files: Vec<SocketFile>,
        workers: Arc<Pool>,
        steerer: Steerer,
        noted: Noted,
    ) -> Self {
        Self {
            shards: Vec::new(),
            inbox,
            settings,
            ready: Arc::new(AtomicBool::new(true)),
            drain_at: None,
            give_up: None,
            lost: 0,
            files,
            trim: Trim::default(),
            looked: None,
            worked: Vec::new(),
            evenness: Evenness::default(),
            workers: Some(workers),
            steerer,
            _noted: noted,
        }
    }

    /// Adds a shard whose thread was started.
    pub(crate) fn watch(&mut self, shard: Watched) {
        self.shards.push(shard);
    }

    pub(crate) fn readiness(&self) -> Readiness {
        Readiness(Arc::clone(&self.ready))
    }

    pub(crate) fn evenness(&self) -> Evenness {
        self.evenness.clone()
    }

    /// How evenly the shards that run have worked since the last look.
    fn compare_loads(&mut self) {
        self.worked.resize(self.shards.len(), 0);
        let mut loads = Vec::with_capacity(self.shards.len());
        for (shard, before) in self.shards.iter().zip(&mut self.worked) {
            let worked = shard.counters.busy_us.value();
            let since = worked.saturating_sub(core::mem::replace(before, worked));
            if !shard.ended {
                loads.push(f64::from(u32::try_from(since).unwrap_or(u32::MAX)));
            }
        }
        self.evenness.set(max_over_mean(loads.iter().copied()));
    }

    /// Ends every shard at once; for a start that failed.
    pub(crate) fn end_all(mut self) {
        self.drain(Duration::ZERO);
        self.run();
    }

    /// Waits for each shard's first turn.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), StartError> {
        while self.shards.iter().any(|shard| !shard.ready) {
            match self.inbox.recv_timeout(Duration::from_secs(30)) {
                Ok(Event::Ready { shard, methods }) => {
                    if let Some(watched) = self.shard(shard) {
                        watched.ready = true;
                        watched.methods = methods;
                        watched.turn.1 = Instant::now();
                    }
                }
                Ok(Event::Ended { shard, reason }) => {
                    self.handle_end(shard, None);
                    let error = reason.unwrap_or_else(|| io::Error::other("it ended at once"));
                    return Err(StartError::Shard { shard: shard.0, error });
                }
                Ok(Event::Stop(_)) => {}
                Err(_) => {
                    let error = io::Error::other("it did not turn within 30 s");
                    return Err(StartError::Shard { shard: 0, error });
                }
            }
        }
        Ok(())
    }

    fn shard(&mut self, id: ShardId) -> Option<&mut Watched> {
        self.shards.get_mut(usize::from(id.0))
    }

    pub(crate) fn run(mut self) -> Ended {
        while self.shards.iter().any(|shard| !shard.ended) {
            match self.inbox.recv_timeout(self.patience()) {
                Ok(Event::Ended { shard, reason }) => self.handle_end(shard, reason),
                Ok(Event::Stop(within)) => self.stop(within),
                Ok(Event::Ready { .. }) => {}
                Err(_) => self.look(),
            }
            let now = Instant::now();
            if let Some((_, within)) = self.drain_at.filter(|(at, _)| *at <= now) {
                self.drain_at = None;
                self.drain(within);
            }
            if self.give_up.is_some_and(|give_up| give_up <= now) {
                self.give_up_shards();
                break;
            }
        }
        self.files.clear();
        self.end_workers();
        tracing::info!(shards_lost = self.lost, "the server has ended");
        Ended { shards_lost: self.lost }
    }

    /// Work that nobody waits for any more may still run. It has as long as a shard would.
    fn end_workers(&mut self) {
        let within = self.give_up.map(|by| by.saturating_duration_since(Instant::now()));
        let Some(workers) = self.workers.take() else { return };
        let left = workers.end(within.unwrap_or(GRACE));
        if left > 0 {
            tracing::error!(
                threads = left,
                "offloaded work did not end within the drain deadline; its threads are given up"
            );
        }
    }

    fn look(&mut self) {
        if self.give_up.is_some() {
            return;
        }
        let now = Instant::now();
        for (index, shard) in self.shards.iter_mut().enumerate().filter(|(_, it)| !it.ended) {
            match shard.look(self.settings.stall_after, self.settings.backlog, now) {
                Some(Moved::Out) => self.steerer.left(index),
                Some(Moved::In) => self.steerer.joined(index),
                None => {}
            }
        }
        // With a short `stall_after` it looks more often.
        if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY) {
            self.looked = Some(now);
            self.compare_loads();
            self.steerer.look();
            let held = self.shards.iter().map(|shard| shard.counters.held_bytes.value()).sum();
            if self.trim.note(held, trim::resident()) {
                trim::give_back();
                self.trim.trimmed(held, trim::resident());
            }
        }
    }

    fn handle_end(&mut self, id: ShardId, reason: Option<io::Error>) {
        let stopping = self.give_up.is_some();
        let Some(shard) = self.shard(id) else { return };
        shard.ended = true;
        if let Some(thread) = shard.thread.take() {
            // How it ended is in the event already.
            let _ = thread.join();
        }
        let info = shard.info;
        if let Some(error) = reason {
            shard.stop_listening();
            self.steerer.left(usize::from(id.0));
            self.lost += 1;
            self.tell_lost(info, error.to_string());
            tracing::error!(shard = %id, %error, "the shard died; its listener is closed");
        } else if !stopping {
            shard.stop_listening();
            self.steerer.left(usize::from(id.0));
            tracing::warn!(shard = %id, "the shard ended without being asked; its listener is closed");
        }
    }

    /// How long it waits for news before it looks by itself.
    fn patience(&self) -> Duration {
        let look = LOOK_EVERY.min(self.settings.stall_after / 4);
        let drain = self.drain_at.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        drain.map_or(look, |drain| drain.min(look))
    }

    /// Not ready any more from now on; the drain begins when the time of the lame duck is over.
    fn stop(&mut self, within: Duration) {
        if !self.ready.swap(false, Ordering::Relaxed) {
            return;
        }
        if self.settings.lame_duck.is_zero() {
            return self.drain(within);
        }
        tracing::info!(
            lame_duck_ms = self.settings.lame_duck.as_millis(),
            "not ready; the drain comes"
        );
        // An hour at most.
        self.drain_at = Some((Instant::now() + self.settings.lame_duck, within));
        for shard in self.shards.iter().filter(|shard| !shard.ended) {
            shard.doorbell.ring(Order::LameDuck);
        }
    }

    fn drain(&mut self, within: Duration) {
        if self.give_up.is_none() {
            self.give_up = Some(Instant::now() + within + GRACE);
            for shard in self.shards.iter().filter(|shard| !shard.ended) {
                shard.doorbell.ring(Order::Drain(within));
            }
        }
    }

    fn tell_lost(&self, shard: ShardInfo, reason: String) {
        if let Some(hook) = &self.settings.on_shard_lost {
            hook.call(&ShardLost { shard, reason });
        }
    }

    /// Gives up shards that do not even react to a drain: their threads are left to the process's end.
    fn give_up_shards(&mut self) {
        for shard in self.shards.iter().filter(|shard| !shard.ended) {
            self.tell_lost(shard.info, "it did not end within the drain deadline".to_owned());
        }
        for shard in self.shards.iter().filter(|shard| !shard.ended) {
            self.lost += 1;
            shard.stop_listening();
            tracing::error!(shard = %shard.info.id, "the shard did not end within the drain deadline; it is given up");
        }
    }
}
