//! A connection on its way from one shard to another.
//!
//! Its socket and what its protocol needs stay with the shard that gives it until the other one has answered: the parcel
//! only refers to them. The other shard *claims* the connection, duplicates the descriptor, and goes on. So a connection is
//! in one shard's hands at each moment, and it is not lost with a shard that dies or is held up: if that shard has not claimed
//! it, it comes back. If it died after that, the connection is shut down, because nobody knows what it did with it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::handovers::{Given, Outcome, Taken};
use super::mesh::{Lost, Mesh, Parcel, Ticket};
use super::sleep::sleep_until;

/// How long the other shard may take to claim a connection. One that does not turn must not hold it up.
const CLAIM_WITHIN: Duration = Duration::from_millis(20);

/// What travels: to the other shard, and back with its answer.
#[derive(Debug)]
struct Handover {
    given: Weak<Given>,
    ticket: Ticket,
    answer: Option<io::Result<()>>,
}

impl Parcel for Handover {
    fn arrive(mut self: Box<Self>, from: Option<usize>) {
        let (Some(mesh), Some(from)) = (Mesh::current(), from) else { return };
        let shard = mesh.shard();
        if self.answer.is_some() {
            let ticket = self.ticket;
            return mesh.give_back(Some(from), ticket, self);
        }
        let taken = self.take();
        self.answer = Some(taken.map(|taken| {
            shard.handovers.push_taken(taken);
            shard.wakes.note_news();
        }));
        mesh.send(from, self);
    }
}

impl Handover {
    /// The connection, if its shard is still there, and the system has a descriptor for it.
    fn take(&self) -> io::Result<Taken> {
        let given = self.given.upgrade().ok_or(io::ErrorKind::NotFound)?;
        let socket = given.socket.try_clone()?;
        if !given.claim() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Taken { socket, peer: given.peer, state: given.state.clone() })
    }
}

/// Whether one more connection can be given to shard `to` now.
pub(crate) fn has_room(mesh: &Mesh, to: usize) -> bool {
    let mut number = None;
    let context = Context::from_waker(Waker::noop());
    let room = mesh.poll_room(to, &mut number, &context);
    if let Some(number) = number {
        mesh.leave_queue(to, number);
    }
    matches!(room, Poll::Ready(Ok(())))
}

/// Gives a connection to shard `to`, which [has room](has_room). The driver learns of the outcome by `Handovers::ended`.
pub(crate) fn give(mesh: &Rc<Mesh>, to: usize, given: Given) {
    let given = Arc::new(given);
    let parcel = Arc::downgrade(&given);
    let ticket =
        mesh.send_away(to, |ticket| Box::new(Handover { given: parcel, ticket, answer: None }));
    let (here, shard) = (Rc::clone(mesh), Rc::clone(mesh.shard()));
    let wait = async move {
        let mut late = pin!(sleep_until(shard.now() + CLAIM_WITHIN));
        let mut is_late = false;
        let back = poll_fn(|context| {
            shard.note_known_wait();
            if !is_late && late.as_mut().poll(context).is_ready() {
                is_late = true;
                if given.claim() {
                    here.waiting.forget(ticket);
                    return Poll::Ready(None);
                }
            }
            here.waiting.poll(ticket, context).map(Some)
        })
        .await;
        let outcome = match back {
            Some(back) => outcome(given, back.err()),
            None => back_from(given),
        };
        shard.handovers.push_ended(outcome);
        shard.wakes.note_news();
    };
    mesh.shard().spawn(wait).detach();
}

/// The parcel came back with an answer, or its shard is gone. Who has the connection is known by who claimed it.
fn outcome(given: Arc<Given>, lost: Option<Lost>) -> Outcome {
    if given.claim() {
        return back_from(given);
    }
    if lost.is_some() { shut_down(&given) } else { Outcome::Gone }
}

/// It was claimed here.
fn back_from(given: Arc<Given>) -> Outcome {
    let taken = match Arc::try_unwrap(given) {
        Ok(Given { socket, peer, state, .. }) => Taken { socket, peer, state },
        // The other shard looks at it at this moment, and finds it claimed.
        Err(given) => match given.socket.try_clone() {
            Ok(socket) => Taken { socket, peer: given.peer, state: given.state.clone() },
            Err(_) => return shut_down(&given),
        },
    };
    Outcome::Back(Box::new(taken))
}

fn shut_down(given: &Given) -> Outcome {
    // It fails if the client is gone, too.
    let _ = rustix::net::shutdown(&given.socket, rustix::net::Shutdown::Both);
    Outcome::Lost
}

#[cfg(test)]
mod tests;
