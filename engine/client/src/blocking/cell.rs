//! What came for one call that streams, until its ends take it.

use corewire_codec::{Encoding, Payload, Status, StatusCode};
use std::cell::RefCell;
use std::collections::VecDeque;

use crate::streams::{Message, Opening, end_status, opening};
use crate::transport::Outcome;

#[derive(Debug)]
pub(super) struct State {
    pub(super) inbox: VecDeque<(Message, u32)>,
    /// Cost of what is in the inbox.
    pub(super) held: u32,
    pub(super) opened: bool,
    pub(super) opening: Opening,
    /// The server's stream has ended; a failure that stopped it has yet to be returned.
    pub(super) ended: Option<Option<Status>>,
    /// How the call ended, until somebody takes it.
    pub(super) outcome: Option<Outcome>,
    /// The call is over.
    pub(super) over: bool,
    /// Whether this side may send.
    pub(super) sending: bool,
}

/// What was received for one streaming call.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) state: RefCell<State>,
}

impl Cell {
    /// Nothing came yet; `sending` says whether this side may send.
    pub(super) fn new(sending: bool) -> Self {
        let state = State {
            inbox: VecDeque::new(),
            held: 0,
            opened: false,
            opening: None,
            ended: None,
            outcome: None,
            over: false,
            sending,
        };
        Self { state: RefCell::new(state) }
    }

    pub(super) fn open(&self, payload: Payload<'_>) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        state.opening = opening(payload);
    }

    pub(super) fn push(&self, encoding: Encoding, cost: u32, payload: Payload<'_>) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        state.held = state.held.saturating_add(cost);
        state.inbox.push_back((Message::received(encoding, payload), cost));
    }

    pub(super) fn end(&self, code: StatusCode, payload: &Payload<'_>) {
        let state = &mut *self.state.borrow_mut();
        state.opened = true;
        state.ended = Some(end_status(code, payload));
        state.over = true;
        state.sending = false;
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        let state = &mut *self.state.borrow_mut();
        state.outcome = Some(outcome);
        state.over = true;
        state.sending = false;
    }
}
