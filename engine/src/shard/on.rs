//! Waiting for code that runs on a shard.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use corewire_proto::ShardId;

use crate::shard::clock::clock;
use crate::shard::errand::{Cancel, OnShardError, Outcome, Trip};
use crate::shard::mesh::{Hub, Lost, Mesh, Parcel, Ticket};

/// Code that runs on a shard; await it for what it gives. Made by [`Sharded::on`](crate::Sharded::on) and
/// [`Sharded::on_async`](crate::Sharded::on_async).
///
/// Nothing is sent until it is first polled. Dropping it afterwards cancels what [`on_async`](crate::Sharded::on_async) began; a
/// closure that was sent runs nevertheless. It is to be polled and dropped on the thread where it was made.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::{ClientShard, OnShardError, Sharded, run_on_shard};
/// use std::time::Duration;
///
/// let numbers = Sharded::new(|_shard| 42);
/// let outcome = run_on_shard(ClientShard::default(), || async move {
///     let forever = numbers.on_async(numbers.of("key"), async |_| std::future::pending::<u8>().await);
///     forever.within(Duration::from_millis(2)).await
/// })?;
/// assert_eq!(outcome, Err(OnShardError::Expired));
/// # Ok::<(), corewire::StartError>(())
/// ```
#[must_use = "nothing is sent until it is awaited"]
pub struct On<R> {
    owner: usize,
    home: Home,
    stage: Stage<R>,
    deadline: Option<Instant>,
    /// Its place among the sleeps of the shard.
    sleep: Option<usize>,
    /// Its place in the queue for room.
    number: Option<u64>,
}

/// The server that it is for.
enum Home {
    /// That of the shard which polls it.
    Any,
    /// That of the shard on which it was made; its hub's address. No shard counts the owners of the hub.
    Same(usize),
    /// It was made outside of it.
    Outside(Arc<Hub>),
}

/// Where the code is.
enum Stage<R> {
    Packed(Box<dyn Trip<R>>),
    Away { me: usize, ticket: Ticket, unpack: fn(Box<dyn Parcel>) -> Outcome<R> },
    Outside(Pin<Box<dyn Future<Output = Outcome<R>> + Send>>),
    Over,
}

impl<R> Unpin for On<R> {}

impl<R> fmt::Debug for On<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("On").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl<R: Send + 'static> On<R> {
    /// For a shard of the server with this hub; without one, of the server whose shard polls it.
    pub(crate) fn new(owner: ShardId, hub: Option<&Arc<Hub>>, trip: Box<dyn Trip<R>>) -> Self {
        let home = match (hub, Mesh::current()) {
            (None, _) => Home::Any,
            (Some(hub), Some(mesh)) if Arc::ptr_eq(hub, mesh.hub()) => {
                Home::Same(Arc::as_ptr(hub).addr())
            }
            (Some(hub), _) => Home::Outside(Arc::clone(hub)),
        };
        let (owner, stage) = (usize::from(owner.0), Stage::Packed(trip));
        Self { owner, home, stage, deadline: None, sleep: None, number: None }
    }

    /// Waits until this time at most, here and on the other shard. `None` sets no deadline, as a call's
    /// [`Context`](../corewire/struct.Context.html) may have none. To be set before it is awaited.
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Waits for `timeout` from now at most, here and on the other shard.
    pub fn within(self, timeout: Duration) -> Self {
        // A time past what the clock can represent is never.
        let deadline = clock().checked_add(timeout);
        self.until(deadline)
    }

    /// Sends it; returns `None` while the lane has no room.
    fn begin(&mut self, trip: Box<dyn Trip<R>>, context: &Context<'_>) -> Option<Stage<R>> {
        if self.deadline.is_some_and(|deadline| deadline <= clock()) {
            return Some(failed(OnShardError::Expired));
        }
        let Some(mesh) = Mesh::current().filter(|mesh| self.belongs(mesh)) else {
            return Some(self.begin_outside(trip));
        };
        let me = mesh.me();
        if self.owner == me {
            return Some(self.begin_here(trip, &mesh));
        }
        match mesh.poll_room(self.owner, &mut self.number, context) {
            Poll::Pending => {
                mesh.shard().note_known_wait();
                self.stage = Stage::Packed(trip);
                None
            }
            Poll::Ready(Err(Lost)) => Some(failed(OnShardError::Lost)),
            Poll::Ready(Ok(())) => {
                let (unpack, deadline, mut trip) = (trip.outcome(), self.deadline, trip);
                let ticket = mesh.send_away(self.owner, |ticket| {
                    trip.address(ticket, deadline);
                    trip
                });
                if let Some(number) = self.number.take() {
                    mesh.leave_queue(self.owner, number);
                }
                Some(Stage::Away { me, ticket, unpack })
            }
        }
    }

    fn belongs(&self, mesh: &Mesh) -> bool {
        match &self.home {
            Home::Any => true,
            Home::Same(hub) => *hub == Arc::as_ptr(mesh.hub()).addr(),
            Home::Outside(hub) => Arc::ptr_eq(hub, mesh.hub()),
        }
    }

    /// The caller's own shard is the one: it runs now.
    fn begin_here(&self, mut trip: Box<dyn Trip<R>>, mesh: &Mesh) -> Stage<R> {
        let unpack = trip.outcome();
        let me = mesh.me();
        let ticket = mesh.waiting.issue(me);
        trip.address(ticket, self.deadline);
        (trip as Box<dyn Parcel>).arrive(Some(me));
        Stage::Away { me, ticket, unpack }
    }

    #[cold]
    fn begin_outside(&self, mut trip: Box<dyn Trip<R>>) -> Stage<R> {
        let Home::Outside(hub) = &self.home else { return failed(OnShardError::Lost) };
        let hub = Arc::clone(hub);
        let receiver = trip.receiver(self.deadline);
        let owner = self.owner;
        Stage::Outside(Box::pin(async move {
            hub.send_from_outside(owner, trip).await.map_err(|Lost| OnShardError::Lost)?;
            receiver.await.unwrap_or(Err(OnShardError::Lost))
        }))
    }
}

fn failed<R: Send + 'static>(error: OnShardError) -> Stage<R> {
    Stage::Outside(Box::pin(std::future::ready(Err(error))))
}

impl<R: Send + 'static> Future for On<R> {
    type Output = Result<R, OnShardError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if matches!(this.stage, Stage::Packed(_))
            && let Stage::Packed(trip) = core::mem::replace(&mut this.stage, Stage::Over)
            && let Some(stage) = this.begin(trip, context)
        {
            this.stage = stage;
        }
        let outcome = match &mut this.stage {
            Stage::Away { me, ticket, unpack } => poll_away(*me, *ticket, *unpack, context),
            Stage::Outside(future) => future.as_mut().poll(context),
            Stage::Packed(_) | Stage::Over => Poll::Pending,
        };
        if let Poll::Ready(outcome) = outcome {
            this.stage = Stage::Over;
            this.give_up();
            return Poll::Ready(outcome);
        }
        if this.is_expired(context) {
            this.give_up();
            return Poll::Ready(Err(OnShardError::Expired));
        }
        Poll::Pending
    }
}

fn poll_away<R>(
    me: usize,
    ticket: Ticket,
    unpack: fn(Box<dyn Parcel>) -> Outcome<R>,
    context: &Context<'_>,
) -> Poll<Outcome<R>> {
    let mesh = Mesh::current().filter(|mesh| mesh.me() == me);
    let Some(mesh) = mesh else { return Poll::Ready(Err(OnShardError::Lost)) };
    match mesh.waiting.poll(ticket, context) {
        Poll::Ready(Ok(parcel)) => Poll::Ready(unpack(parcel)),
        Poll::Ready(Err(Lost)) => Poll::Ready(Err(OnShardError::Lost)),
        Poll::Pending => {
            mesh.shard().note_known_wait();
            Poll::Pending
        }
    }
}

impl<R> On<R> {
    /// Whether the deadline has passed; otherwise has the shard wake this when it does. For a caller outside, the shard that
    /// runs the code judges the deadline.
    fn is_expired(&mut self, context: &Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        if deadline <= clock() {
            return true;
        }
        if let Some(mesh) = Mesh::current() {
            let shard = mesh.shard();
            match self.sleep {
                Some(place) => shard.sleepers.set_waker(place, context.waker()),
                None => {
                    let (_, place) = shard.sleepers.insert(deadline, context.waker().clone());
                    self.sleep = Some(place);
                }
            }
        }
        false
    }

    /// Nobody waits any more.
    fn give_up(&mut self) {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        let (sleep, number) = (self.sleep.take(), self.number.take());
        let away = match &stage {
            Stage::Away { me, ticket, .. } => Some((*me, *ticket)),
            _ => None,
        };
        if sleep.is_none() && number.is_none() && away.is_none() {
            return;
        }
        let Some(mesh) = Mesh::current() else { return };
        if let Some(place) = sleep {
            mesh.shard().sleepers.remove(place);
        }
        if let Some(number) = number {
            mesh.leave_queue(self.owner, number);
        }
        if let Some((me, ticket)) = away
            && me == mesh.me()
            && mesh.waiting.forget(ticket)
        {
            let cancel = Box::new(Cancel(ticket));
            if self.owner == me {
                cancel.arrive(Some(me));
            } else {
                mesh.send(self.owner, cancel);
            }
        }
    }
}

impl<R> Drop for On<R> {
    fn drop(&mut self) {
        self.give_up();
    }
}
