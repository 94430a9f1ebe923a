//! How a client's connection ends: go-aways of either side, and the calls that are left.

use corewire_codec::{GoAway, Rule, SendBuffer};

use super::{CallsFailed, ClientConnection, ClientInput, Phase, SlotState, call_id};
use crate::close::CloseReason;
use crate::transport_error::TransportError;

impl<T> ClientConnection<T> {
    /// Whether it takes no new calls, because the server or this side is going away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::LeavingEarly)
    }

    /// Whether it is not over, and neither side goes away.
    #[must_use]
    #[inline]
    pub fn is_going_on(&self) -> bool {
        matches!(self.phase, Phase::Hello | Phase::Open)
    }

    /// Why the connection is over, if it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the server was seen to take calls: it answered one, or counted one in its go-away. A
    /// client that reconnects waits before it tries a server again that did not.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Announces that this side makes no more calls (REQ-75). Those in flight go on; when they are
    /// answered, [`is_drained`](Self::is_drained) holds. Nothing is sent to a server that is going away
    /// itself.
    pub fn leave(&mut self, out: &mut SendBuffer) {
        self.phase = match self.phase {
            Phase::Hello => Phase::LeavingEarly,
            Phase::Open => Phase::Draining,
            Phase::Draining | Phase::LeavingEarly | Phase::Closed(_) => return,
        };
        out.go_away(&GoAway { accepted: 0, rule: 0 }, "the client has done");
    }

    pub(super) fn handle_go_away<'a>(&mut self, go_away: GoAway) -> ClientInput<'a, T> {
        self.accepted = Some(go_away.accepted);
        if crate::canary::is_planted(crate::canary::Bug::GoAwayByOne) {
            self.accepted = Some(go_away.accepted.saturating_sub(1));
        }
        self.refused_from = 0;
        // A server that took a call works, whatever happens to this connection.
        self.proven |= go_away.accepted != 0;
        if go_away.rule == 0 {
            self.phase = Phase::Draining;
            return ClientInput::GoAway;
        }
        let reason = CloseReason::BlamedByPeer(Rule::from_number(go_away.rule));
        self.close(reason);
        ClientInput::Closed(reason)
    }

    /// Ends the connection without sending anything; the first reason given stays.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
    }

    /// The server closed its side.
    pub fn handle_eof(&mut self) {
        let drained = self.is_draining() && self.waiting == 0;
        self.close(if drained { CloseReason::Drained } else { CloseReason::PeerLeft });
    }

    /// The transport failed.
    pub fn handle_error(&mut self, error: impl Into<TransportError>) {
        self.close(CloseReason::Transport(error.into()));
    }

    /// Whether one of the sides is going away and everything is answered: time to close, once what was
    /// appended has been written.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.taken == 0
    }

    /// Takes out a call that the server said in its go-away it will not run.
    pub fn poll_refused(&mut self) -> Option<T> {
        let accepted = self.accepted?;
        self.renumber();
        // No call begins after a go-away, so what was passed over once need not be looked at again.
        for index in self.refused_from..self.slots.len() {
            let place = &self.slots[index];
            if matches!(place.state, SlotState::InFlight { order, .. } if is_after(order, accepted))
            {
                self.refused_from = index + 1;
                // The server answers these too, with a refusal; the slot waits for that.
                let call = call_id(index, place.generation);
                self.stop_receiving(call);
                return self.take(call);
            }
        }
        self.refused_from = self.slots.len();
        None
    }

    /// Takes out all calls; for a connection that is over.
    pub fn fail_all(&mut self) -> impl Iterator<Item = CallsFailed<T>> + use<T> {
        self.renumber();
        let accepted = self.accepted;
        self.waiting = 0;
        self.taken = 0;
        self.free.clear();
        self.expired.clear();
        self.streams = None;
        let never_sent = self.taken_back.take().map_or_else(Vec::new, |it| it.never_sent);
        let never_sent =
            never_sent.into_iter().map(|work| CallsFailed { work, may_have_run: false });
        let slots = core::mem::take(&mut self.slots).into_iter();
        never_sent.chain(slots.filter_map(move |place| match place.state {
            SlotState::InFlight { work, order, .. } => {
                let may_have_run = accepted.is_none_or(|accepted| !is_after(order, accepted));
                Some(CallsFailed { work, may_have_run })
            }
            SlotState::Free | SlotState::Abandoned => None,
        }))
    }
}

/// Whether the request with this number (counted from 0) is not among the first `accepted`, modulo
/// 2³²: fewer than 2³¹ requests are ever between the two.
fn is_after(order: u32, accepted: u32) -> bool {
    order.wrapping_sub(accepted) < 1 << 31
}
