//! State that lies on all shards of a server, a part on each.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use arc_swap::ArcSwapOption;
use corewire_proto::{ShardId, ShardInfo, ShardKey, owner_of_key};

use crate::shard::errand::{OnShardError, Work, pack};
use crate::shard::mesh::{Hub, Mesh};
use crate::shard::on::On;

/// A value on each shard of a server, made there, and reached from everywhere by sending code to it.
///
/// The values need neither `Send` nor locks: each is touched by the thread of its shard alone. What is sent to another shard
/// and what comes back must be `Send`. Clones are handles to the same values.
///
/// A handle belongs to one server: the one that it is given to by `ServerBuilder::sharded`, which makes all values before the
/// server listens and lets threads outside reach them, or else the one whose shard first needs a value. Then each value is made when it is first needed. When that server has ended, the handle may
/// belong to another one.
///
/// What a shard sends to another one arrives in the order in which it was sent; what had to wait for room may be overtaken. A
/// shard runs it between the turns of its connections, so the same rules hold as for handlers: return soon.
///
/// Cost of a call to another shard: one allocation, two places in a ring, and a wake-up if that shard sleeps. To its own
/// shard: a call of the closure.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{ClientShard, Sharded, run_on_shard};
/// use std::cell::RefCell;
/// use std::collections::BTreeMap;
///
/// let words: Sharded<RefCell<BTreeMap<String, u64>>> = Sharded::new(|_shard| RefCell::default());
///
/// // In a handler of a server there are as many shards as the server has. Here is one.
/// let count = run_on_shard(ClientShard::default(), || async move {
///     let owner = words.of("apple");
///     let count = |words: &RefCell<BTreeMap<String, u64>>| {
///         let mut words = words.borrow_mut();
///         let count = words.entry("apple".to_owned()).or_default();
///         *count += 1;
///         *count
///     };
///     words.on(owner, count).await?;
///     words.on(owner, count).await
/// })?;
/// assert_eq!(count, Ok(2));
/// # Ok::<(), corewire::StartError>(())
/// ```
#[doc(alias("shared state", "smp", "partition", "submit_to"))]
pub struct Sharded<T>(Arc<Inner<T>>);

struct Inner<T> {
    make: Box<dyn Fn(ShardInfo) -> T + Send + Sync>,
    /// The server that the handle belongs to, once it belongs to one.
    home: ArcSwapOption<Home>,
}

/// The server that a handle belongs to.
struct Home {
    hub: Arc<Hub>,
    /// Which shards have made their value. Code for those need not take the handle along: all shards would count its
    /// owners in one cache line.
    made: Box<[AtomicBool]>,
}

impl Home {
    fn of(hub: &Arc<Hub>) -> Self {
        let made = (0..hub.count()).map(|_| AtomicBool::new(false)).collect();
        Self { hub: Arc::clone(hub), made }
    }

    fn is(&self, mesh: &Mesh) -> bool {
        Arc::ptr_eq(&self.hub, mesh.hub())
    }

    /// Whether the handle still belongs to it: not when it has ended.
    fn lasts(&self) -> bool {
        // On its own shards this is known without a look at what others write.
        Mesh::current().is_some_and(|mesh| self.is(&mesh)) || !self.hub.is_over()
    }
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharded").field("shards", &self.shard_count()).finish_non_exhaustive()
    }
}

impl<T: 'static> Sharded<T> {
    /// A value for each shard, which `make` makes on the shard's own thread.
    #[must_use]
    pub fn new(make: impl Fn(ShardInfo) -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { make: Box::new(make), home: ArcSwapOption::empty() }))
    }

    /// The shard that owns a key: the same for every `Sharded` and for calls by key (`docs/PROTOCOL.md`), as long as the number of shards
    /// is the same.
    #[must_use]
    pub fn of<K: ShardKey + ?Sized>(&self, key: &K) -> ShardId {
        owner_of_key(key, self.shard_count().max(1))
    }

    /// The value of the shard that runs this code, made now if it was not there.
    ///
    /// # Panics
    ///
    /// When the thread is not a shard's: use [`on`](Self::on) there.
    #[must_use]
    pub fn here(&self) -> Rc<T> {
        match Mesh::current() {
            Some(mesh) => self.at(&mesh),
            #[allow(clippy::panic, reason = "a mistake in the program, documented")]
            None => panic!("Sharded::here works on shards; use Sharded::on from other threads"),
        }
    }

    /// Runs `work` with the value of shard `owner` and returns what it gives.
    ///
    /// On the owner's own shard it runs at once, when the future is first polled. To another shard it is sent then; while
    /// 1,024 from this shard to that one are on their way, it waits for room. Dropping the future leaves `work` to run if it was sent: it must be whole. For work that
    /// waits there, and is cancelled, see [`on_async`](Self::on_async).
    ///
    /// # Errors
    ///
    /// When the shard is gone or there is no such shard, when `work` panicked, or past the deadline that was
    /// [set](On::until). From a thread outside the server also when the handle was not given to `ServerBuilder::sharded`.
    #[track_caller]
    pub fn on<R: Send + 'static>(
        &self,
        owner: ShardId,
        work: impl FnOnce(&T) -> R + Send + 'static,
    ) -> On<R> {
        self.send(owner, move |value| Work::Done(work(&value)))
    }

    /// Runs a future on shard `owner`, made there by `work` from the shard's value, and returns what it gives. Dropping what this
    /// returns drops the future there, too, but for one that was made outside the server: that runs to its end or its deadline.
    ///
    /// ```
    /// # use corewire_engine as corewire;
    /// use corewire::{ClientShard, Sharded, run_on_shard, sleep};
    /// use std::cell::Cell;
    /// use std::time::Duration;
    ///
    /// let ticks = Sharded::new(|_shard| Cell::new(0));
    /// let seen = run_on_shard(ClientShard::default(), || async move {
    ///     let owner = ticks.of(&7_u64);
    ///     let later = ticks.on_async(owner, async |ticks| {
    ///         sleep(Duration::from_millis(1)).await;
    ///         ticks.set(ticks.get() + 1);
    ///         ticks.get()
    ///     });
    ///     later.within(Duration::from_secs(1)).await
    /// })?;
    /// assert_eq!(seen, Ok(1));
    /// # Ok::<(), corewire::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`on`](Self::on).
    #[track_caller]
    pub fn on_async<R: Send + 'static, F: Future<Output = R> + 'static>(
        &self,
        owner: ShardId,
        work: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> On<R> {
        self.send(owner, move |value| Work::Later(Box::pin(work(value))))
    }

    /// Runs a copy of `work` with the value of each shard, side by side, and returns what each gives, in the order of the shards.
    ///
    /// # Errors
    ///
    /// For each shard as [`on`](Self::on).
    pub async fn map_all<R: Send + 'static>(
        &self,
        work: impl FnOnce(&T) -> R + Clone + Send + 'static,
    ) -> Vec<Result<R, OnShardError>> {
        let count = self.shard_count();
        let mut sent: Vec<_> =
            (0..count).map(|id| Some(self.on(ShardId(id), work.clone()))).collect();
        let mut outcomes: Vec<_> = (0..count).map(|_| Err(OnShardError::Lost)).collect();
        poll_fn(|context| {
            let mut pending = false;
            for (sent, outcome) in sent.iter_mut().zip(&mut outcomes) {
                let Some(on) = sent else { continue };
                match Pin::new(on).poll(context) {
                    Poll::Ready(value) => (*outcome, *sent) = (value, None),
                    Poll::Pending => pending = true,
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        outcomes
    }

    /// Runs a copy of `work` with the value of each shard, and returns when all have run it.
    ///
    /// # Errors
    ///
    /// The first shard's error, in the order of the shards. The others have run it nevertheless.
    pub async fn broadcast(
        &self,
        work: impl FnOnce(&T) + Clone + Send + 'static,
    ) -> Result<(), OnShardError> {
        self.map_all(work).await.into_iter().collect()
    }

    #[track_caller]
    fn send<R: Send + 'static>(
        &self,
        owner: ShardId,
        work: impl FnOnce(Rc<T>) -> Work<R> + Send + 'static,
    ) -> On<R> {
        let home = self.0.home.load();
        let home = home.as_deref().filter(|home| home.lasts());
        let made = home.and_then(|home| home.made.get(usize::from(owner.0)));
        let is_made = made.is_some_and(|made| made.load(Ordering::Acquire));
        let (name, handle) = (self.name(), (!is_made).then(|| self.clone()));
        let trip = move |mesh: &Rc<Mesh>| match handle {
            Some(handle) => work(handle.at(mesh)),
            None => {
                mesh.values.get(name).and_then(|it| it.downcast().ok()).map_or(Work::Lost, work)
            }
        };
        On::new(owner, home.map(|home| &home.hub), pack(trip, Location::caller()))
    }

    /// What the value of each shard is kept under. No other handle has it as long as this one exists, and each shard keeps the handle
    /// together with the value.
    fn name(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The value of this shard.
    fn at(&self, mesh: &Rc<Mesh>) -> Rc<T> {
        if let Some(value) = mesh.values.get(self.name()).and_then(|value| value.downcast().ok()) {
            return value;
        }
        self.0.home.rcu(|home| {
            let lasts = home.as_ref().filter(|home| !home.hub.is_over()).map(Arc::clone);
            lasts.or_else(|| Some(Arc::new(Home::of(mesh.hub()))))
        });
        let value = Rc::new((self.0.make)(mesh.info()));
        let kept = (Rc::clone(&value) as Rc<dyn Any>, Box::new(self.clone()) as Box<dyn Any>);
        mesh.values.keep(self.name(), kept);
        let home = self.0.home.load();
        if let Some(made) =
            home.as_deref().filter(|home| home.is(mesh)).and_then(|home| home.made.get(mesh.me()))
        {
            made.store(true, Ordering::Release);
        }
        value
    }
}

impl<T> Sharded<T> {
    /// How many shards there are: those of the server that the handle belongs to. As long as it belongs to none, those of the
    /// server whose shard runs this code, and 0 elsewhere.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        match self.0.home.load().as_deref().filter(|home| home.lasts()) {
            Some(home) => home.hub.count(),
            None => Mesh::current().map_or(0, |mesh| mesh.info().count),
        }
    }
}
