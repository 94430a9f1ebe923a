//! Running code on another shard and bringing back what it gives.
//!
//! An [`Errand`] is a box that goes to the other shard, is run there, and comes back with the outcome in it. So a call to
//! another shard costs one allocation, made and freed on the caller's shard, and two places in a ring.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use crate::shard::clock::clock;
use crate::shard::holds::Holder;
use crate::shard::mesh::{Mesh, Parcel, Ticket};
use crate::shard::sleep::sleep_until;
use corewire_client::log_limit::{Topic, admit_here};
use corewire_client::panics::panic_text;
use corewire_codec::Status;

/// Why code that was to run on another shard gave nothing.
///
/// As a [`Status`], `?` makes it the failure of the call that needed it: `Unavailable`, `Internal` or `DeadlineExceeded`.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::OnShardError;
/// use corewire_codec::{Status, StatusCode};
///
/// let status = Status::from(OnShardError::Lost);
/// assert_eq!(status.code(), StatusCode::Unavailable);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnShardError {
    /// The shard has ended, there is no such shard, or the server has not started. Whether the code ran is not known.
    Lost,
    /// The code panicked. The shard and its value go on; the text of the panic is in the log.
    Panicked,
    /// The deadline has passed. Code that was not begun does not run any more; a future that was begun is dropped.
    Expired,
}

impl fmt::Display for OnShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the shard that was to run it is gone",
            Self::Panicked => "the code panicked on the shard that ran it; the log has the text",
            Self::Expired => "its deadline passed before the shard had run it",
        })
    }
}

impl std::error::Error for OnShardError {}

impl From<OnShardError> for Status {
    fn from(error: OnShardError) -> Self {
        let text = error.to_string();
        match error {
            OnShardError::Lost => Self::unavailable(text),
            OnShardError::Panicked => Self::internal(text),
            OnShardError::Expired => Self::deadline_exceeded(text),
        }
    }
}

pub(crate) type Outcome<R> = Result<R, OnShardError>;

/// What a closure gives on the shard where it runs.
pub(crate) enum Work<R> {
    Done(R),
    Later(Pin<Box<dyn Future<Output = R>>>),
    /// What it was for is not there any more.
    Lost,
}

enum State<W, R> {
    Going(W),
    /// It is being run, or its outcome was taken.
    Empty,
    Back(Outcome<R>),
}

enum WayBack<R> {
    Unknown,
    Shard(Ticket),
    /// The caller is on a thread outside the server.
    Thread(oneshot::Sender<Outcome<R>>),
}

/// Code on its way to a shard, or its outcome on the way back.
struct Errand<W, R> {
    state: State<W, R>,
    way_back: WayBack<R>,
    deadline: Option<Instant>,
    /// Whether it waited at its owner, so that its place on the way is free already.
    has_waited: bool,
    /// The line that sent it.
    sent_at: &'static Location<'static>,
}

/// Packs up a closure, which the line `sent_at` sends.
pub(crate) fn pack<W, R>(work: W, sent_at: &'static Location<'static>) -> Box<dyn Trip<R>>
where
    W: FnOnce(&Rc<Mesh>) -> Work<R> + Send + 'static,
    R: Send + 'static,
{
    let (state, way_back) = (State::Going(work), WayBack::Unknown);
    Box::new(Errand { state, way_back, deadline: None, has_waited: false, sent_at })
}

/// An errand whose closure's type is hidden from its caller.
pub(crate) trait Trip<R>: Parcel {
    /// Under which ticket it comes back, and until when anybody waits for it.
    fn address(&mut self, ticket: Ticket, deadline: Option<Instant>);

    /// Has the outcome sent to a thread outside the server.
    fn receiver(&mut self, deadline: Option<Instant>) -> oneshot::AsyncReceiver<Outcome<R>>;

    /// Takes it back as what comes back for its ticket.
    fn outcome(&self) -> fn(Box<dyn Parcel>) -> Outcome<R>;
}

impl<W, R> Trip<R> for Errand<W, R>
where
    W: FnOnce(&Rc<Mesh>) -> Work<R> + Send + 'static,
    R: Send + 'static,
{
    fn address(&mut self, ticket: Ticket, deadline: Option<Instant>) {
        self.way_back = WayBack::Shard(ticket);
        self.deadline = deadline;
    }

    fn receiver(&mut self, deadline: Option<Instant>) -> oneshot::AsyncReceiver<Outcome<R>> {
        let (sender, receiver) = oneshot::async_channel();
        self.way_back = WayBack::Thread(sender);
        self.deadline = deadline;
        receiver
    }

    fn outcome(&self) -> fn(Box<dyn Parcel>) -> Outcome<R> {
        |parcel| {
            let parcel: Box<dyn Any> = parcel;
            match parcel.downcast::<Self>().map(|errand| errand.state) {
                Ok(State::Back(outcome)) => outcome,
                // A ticket brings back what was sent with it.
                Ok(State::Going(_) | State::Empty) | Err(_) => Err(OnShardError::Lost),
            }
        }
    }
}

impl<W, R> Parcel for Errand<W, R>
where
    W: FnOnce(&Rc<Mesh>) -> Work<R> + Send + 'static,
    R: Send + 'static,
{
    fn arrive(mut self: Box<Self>, from: Option<usize>) {
        let Some(mesh) = Mesh::current() else { return };
        match core::mem::replace(&mut self.state, State::Empty) {
            State::Going(work) => self.run(work, &mesh, from),
            back => {
                self.state = back;
                if let WayBack::Shard(ticket) = self.way_back {
                    let place = from.filter(|_| !self.has_waited);
                    mesh.give_back(place, ticket, self);
                }
            }
        }
    }
}

impl<W, R> Errand<W, R>
where
    W: FnOnce(&Rc<Mesh>) -> Work<R> + Send + 'static,
    R: Send + 'static,
{
    fn run(mut self: Box<Self>, work: W, mesh: &Rc<Mesh>, from: Option<usize>) {
        let shard = mesh.shard();
        shard.holds.note_task(self.sent_at);
        if shard.observes_polls() {
            shard.start_poll(None, true);
        }
        let outcome = if self.deadline.is_some_and(|deadline| deadline <= clock()) {
            Err(OnShardError::Expired)
        } else {
            match catch_unwind(AssertUnwindSafe(|| work(mesh))) {
                Ok(Work::Done(value)) => Ok(value),
                Ok(Work::Lost) => Err(OnShardError::Lost),
                Ok(Work::Later(future)) => return self.run_later(future, mesh, from),
                Err(panic) => Err(panicked(&*panic)),
            }
        };
        if shard.observes_polls() {
            shard.end_task_poll(|| Holder::Task(self.sent_at));
        }
        self.state = State::Back(outcome);
        self.go_back(mesh, from);
    }

    /// What it began is a task of this shard, which its caller can cancel.
    fn run_later(
        mut self: Box<Self>,
        future: Pin<Box<dyn Future<Output = R>>>,
        mesh: &Rc<Mesh>,
        from: Option<usize>,
    ) {
        let key = match (&self.way_back, from) {
            (WayBack::Shard(ticket), Some(from)) => Some((from, *ticket)),
            _ => None,
        };
        self.has_waited = true;
        let here = Rc::clone(mesh);
        let task = mesh.shard().spawn(async move {
            self.state = State::Back(within(self.deadline, future).await);
            if let Some((from, ticket)) = key {
                here.end(from, ticket);
            }
            self.go_back(&here, from);
        });
        match key {
            Some((from, ticket)) => {
                mesh.run(from, ticket, task);
                if from != mesh.me() {
                    mesh.send(from, Box::new(Begun));
                }
            }
            None => task.detach(),
        }
    }

    fn go_back(mut self: Box<Self>, mesh: &Mesh, from: Option<usize>) {
        match (&self.way_back, from) {
            (WayBack::Shard(ticket), Some(from)) if from == mesh.me() => {
                let ticket = *ticket;
                mesh.give_back(None, ticket, self);
            }
            (WayBack::Shard(_), Some(from)) => mesh.send(from, self),
            (WayBack::Shard(_) | WayBack::Unknown, _) => {}
            (WayBack::Thread(_), _) => {
                let way_back = core::mem::replace(&mut self.way_back, WayBack::Unknown);
                let state = core::mem::replace(&mut self.state, State::Empty);
                if let (WayBack::Thread(sender), State::Back(outcome)) = (way_back, state) {
                    // Nobody may wait any more.
                    let _ = sender.send(outcome);
                }
            }
        }
    }
}

#[cold]
fn panicked(panic: &(dyn Any + Send)) -> OnShardError {
    if admit_here(Topic::TASK_PANIC, clock()) {
        let panic = panic_text(panic);
        tracing::error!(panic, "code that was sent to this shard panicked; the shard goes on");
    }
    OnShardError::Panicked
}

/// Polls a future until its end or the deadline, and contains its panics.
async fn within<R>(
    deadline: Option<Instant>,
    mut future: Pin<Box<dyn Future<Output = R>>>,
) -> Outcome<R> {
    let mut end = pin!(deadline.map(sleep_until));
    poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => return Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => {}
            Err(panic) => return Poll::Ready(Err(panicked(&*panic))),
        }
        match end.as_mut().as_pin_mut() {
            Some(end) => end.poll(context).map(|()| Err(OnShardError::Expired)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Nobody waits any more for what was begun under this ticket.
pub(crate) struct Cancel(pub(crate) Ticket);

impl Parcel for Cancel {
    fn arrive(self: Box<Self>, from: Option<usize>) {
        let (Some(mesh), Some(from)) = (Mesh::current(), from) else { return };
        // What is dropped is the user's.
        let ended = catch_unwind(AssertUnwindSafe(|| mesh.end(from, self.0)));
        if let Err(panic) = ended {
            panicked(&*panic);
        }
    }
}

/// What was sent waits at its owner and does not take a place on the way any more.
pub(crate) struct Begun;

impl Parcel for Begun {
    fn arrive(self: Box<Self>, from: Option<usize>) {
        if let Some(mesh) = Mesh::current() {
            mesh.note_back(from);
        }
    }
}
