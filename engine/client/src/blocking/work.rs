//! The calls of a connection, and how they hear of what it brings.

use corewire_codec::{Encoding, Payload, StatusCode};
use std::rc::Rc;

use super::cell::Cell;
use crate::core::session::Events;
use crate::transport::Outcome;

/// What is kept for a call in flight.
#[derive(Debug)]
pub(super) enum Work {
    /// The call that this thread waits for.
    Unary,
    Stream(Rc<Cell>),
}

/// Takes what a connection delivers: the outcome of the unary call is stored here, the rest goes into the
/// streams' cells.
pub(super) struct Deliver<'a>(pub(super) &'a mut Option<Outcome>);

impl Events<Work> for Deliver<'_> {
    fn done(&mut self, work: Work, outcome: Outcome) {
        match work {
            Work::Unary => *self.0 = Some(outcome),
            Work::Stream(cell) => cell.finish(outcome),
        }
    }

    fn opened(&mut self, work: &mut Work, payload: Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.open(payload);
        }
    }

    fn message(&mut self, work: &mut Work, encoding: Encoding, cost: u32, payload: Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.push(encoding, cost, payload);
        }
    }

    fn end(&mut self, work: Work, code: StatusCode, payload: &Payload<'_>) {
        if let Work::Stream(cell) = work {
            cell.end(code, payload);
        }
    }

    /// Senders check for credit themselves whenever something has arrived.
    fn writable(&mut self, _: Option<u32>) {}
}
