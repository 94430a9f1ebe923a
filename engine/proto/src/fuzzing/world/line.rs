//! What arrives, and what holds while it does and when it has.

use corewire_codec::{Payload, RequestHead, Rule};

use super::{BODY_BYTES_MAX, ONE_WAY, World, limits};
use crate::client::ClientInput;
use crate::close::CloseReason;
use crate::fuzzing::carry;
use crate::fuzzing::model::{Call, Outcome, Way};
use crate::server::ServerInput;
use crate::streams::table::StreamAccounts;

impl World {
    pub(super) fn carry_up(&mut self, count: usize) {
        self.client.prepare_write(&mut self.up, self.now);
        let moved = carry(&mut self.up, &mut self.server_recv, count);
        self.client.handle_write(moved > 0, !self.up.is_empty(), self.now);
        while self.server_step() {}
        self.server.handle_rest(&self.server_recv, self.now);
    }

    pub(super) fn carry_down(&mut self, count: usize) {
        let moved = carry(&mut self.down, &mut self.client_recv, count);
        self.server.handle_write(moved > 0, !self.down.is_empty(), self.now);
        while self.client_step() {}
        self.client.handle_rest(&self.client_recv, self.now);
    }

    fn server_step(&mut self) -> bool {
        match self.server.handle_frame(
            &mut self.server_recv,
            &mut RequestHead::default(),
            &mut self.down,
            self.now,
        ) {
            ServerInput::NeedBytes | ServerInput::Closed(_) => return false,
            ServerInput::Handled | ServerInput::OneWayDropped(_) => {}
            ServerInput::Call { request, payload, deadline } => {
                let number = u32::from_le_bytes(*payload.body().first_chunk().unwrap());
                check_tag(&payload, number, true);
                self.server.park(request.call, deadline, number);
                if number == ONE_WAY {
                    self.one_way.push(request.call);
                } else {
                    let call = &mut self.calls[number as usize];
                    assert!(!core::mem::replace(&mut call.ran, true), "a call runs once");
                    assert_ne!(call.outcome, Some(Outcome::Refused));
                    assert_ne!(call.outcome, Some(Outcome::NeverSent));
                    call.running = true;
                }
            }
            ServerInput::StreamData { call, cost, end, payload, .. } => {
                let number = *self.server.parked_mut(call).expect("only running calls get data");
                let way = &mut self.calls[number as usize].up;
                way.receive(sequence(number, payload.body()), cost);
                way.end_seen = end;
            }
            ServerInput::StreamEnd { call, payload, .. } => {
                let number = *self.server.parked_mut(call).expect("only running calls get ends");
                check_tag(&payload, number, false);
                let way = &mut self.calls[number as usize].up;
                assert!(way.ended && !way.end_seen && !way.stopped);
                way.end_seen = true;
            }
            ServerInput::Writable { call } => {
                assert!(call.is_none_or(|call| self.server.send_credit(call) > 0));
                told(&mut self.calls, call, |call| &mut call.down);
            }
            ServerInput::Cancelled { work, .. } => self.calls[work as usize].running = false,
        }
        true
    }

    fn client_step(&mut self) -> bool {
        match self.client.handle_frame(&mut self.client_recv, &mut self.up, self.now) {
            ClientInput::NeedBytes | ClientInput::Closed(_) => return false,
            ClientInput::Handled | ClientInput::Ready => {}
            ClientInput::Opened { call, payload, .. } => {
                let number = *self.client.work_mut(call).expect("somebody waits");
                check_tag(&payload, number, true);
                assert!(self.calls[number as usize].opened);
            }
            ClientInput::StreamData { call, cost, payload, .. } => {
                let number = *self.client.work_mut(call).expect("somebody waits");
                let sequence = sequence(number, payload.body());
                self.calls[number as usize].down.receive(sequence, cost);
            }
            ClientInput::StreamEnd { work, payload, .. } => {
                check_tag(&payload, work, false);
                self.calls[work as usize].end(Outcome::StreamEnd);
            }
            ClientInput::Reply { work, payload, .. } => {
                check_tag(&payload, work, false);
                self.calls[work as usize].end(Outcome::Reply);
            }
            ClientInput::Writable { call } => {
                assert!(call.is_none_or(|call| self.client.send_credit(call) > 0));
                told(&mut self.calls, call, |call| &mut call.up);
            }
            ClientInput::GoAway => {
                while let Some(number) = self.client.poll_refused() {
                    assert!(!self.calls[number as usize].running);
                    self.calls[number as usize].end(Outcome::Refused);
                }
            }
        }
        true
    }

    /// What holds at any time: nobody is blamed for more than silence, and nobody holds more than a
    /// window and a message.
    pub(super) fn check(&self) {
        let silence = [
            Rule::IdleTimeout,
            Rule::HelloTimeout,
            Rule::WriteTimeout,
            Rule::FrameTimeout,
            Rule::PingTimeout,
        ];
        let reasons = [self.client.close_reason(), self.server.close_reason()];
        for reason in reasons.into_iter().flatten() {
            if let CloseReason::PeerMisbehaved(rule) | CloseReason::BlamedByPeer(Some(rule)) =
                reason
            {
                assert!(silence.contains(&rule), "{reason}");
            }
        }
        let most = limits().connection_credit.get() + BODY_BYTES_MAX + 16;
        assert!(self.server.held_stream_bytes() <= most);
        assert!(self.client.held_stream_bytes() <= most);
        assert!(self.server.streams() <= 16 && self.client.streams() <= 16);
        assert!(self.server.one_way_pending() == self.one_way.len() && self.one_way.len() <= 4);
    }

    /// Carries and takes everything, until nothing is on its way or the connection is over.
    fn settle(&mut self) {
        loop {
            self.carry_up(usize::MAX);
            self.carry_down(usize::MAX);
            for number in 0..self.calls.len() {
                self.server_takes(number, usize::MAX);
                self.client_takes(number, usize::MAX);
            }
            if self.is_over() || (self.up.is_empty() && self.down.is_empty()) {
                break;
            }
        }
    }

    /// Everything arrives, everything is taken and ended; or the connection is over.
    pub(super) fn finish(mut self) {
        self.settle();
        if !self.is_over() {
            self.calls.iter().for_each(Call::check_quiet);
        }
        for number in 0..self.calls.len() {
            self.server_ends(number, 1);
        }
        self.settle();
        self.check();
        if self.is_over() {
            for failed in self.client.fail_all().collect::<Vec<_>>() {
                let call = &mut self.calls[failed.work as usize];
                assert!(failed.may_have_run || !call.ran, "it is said not to have run");
                call.end(Outcome::Failed);
            }
            assert!(self.calls.iter().all(|call| call.outcome.is_some() != call.abandoned));
            return;
        }
        self.calls.iter().for_each(Call::check_complete);
        assert_eq!((self.client.in_flight(), self.client.streams()), (0, 0));
        assert_eq!(self.server.in_flight(), self.server.one_way_pending());
        assert_eq!(self.server.streams(), 0);
        assert_eq!(self.client.is_drained(), self.drained);
        // A side that never had to do with a stream has no accounts.
        let window = limits().connection_credit.get();
        let whole = StreamAccounts { available: window, held: 0, ungranted: 0 };
        let client = self.client.stream_accounts().unwrap_or(whole);
        let server = self.server.stream_accounts().unwrap_or(whole);
        assert_eq!((client.held, server.held), (0, 0), "nothing is held");
        let towards_server = client.available + server.ungranted;
        let towards_client = server.available + client.ungranted;
        assert_eq!(towards_server, window, "all credit towards the server is back");
        assert_eq!(towards_client, window, "all credit towards the client is back");
    }
}

/// What a frame of this call says in its metadata is its number. A frame that must carry it does.
fn check_tag(payload: &Payload<'_>, number: u32, always: bool) {
    let value = payload.metadata().value("tag-bin");
    assert!(value.is_none_or(|value| value.starts_with(&number.to_le_bytes())));
    assert!(!always || value.is_some() == number.is_multiple_of(3));
}

/// There is credit again, for one call that goes on or for all.
fn told(calls: &mut [Call], id: Option<u32>, way: impl Fn(&mut Call) -> &mut Way) {
    for call in calls.iter_mut().filter(|call| id.is_none_or(|id| call.id == id)) {
        way(call).blocked = false;
    }
}

fn sequence(number: u32, body: &[u8]) -> u32 {
    let (call, rest) = body.split_first_chunk().unwrap();
    assert_eq!(u32::from_le_bytes(*call), number, "another call's message");
    u32::from_le_bytes(*rest.first_chunk().unwrap())
}
