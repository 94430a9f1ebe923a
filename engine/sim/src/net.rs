//! The simulated network (`corewire_testing::net`), as it is in this simulation.

pub(crate) mod endpoint;

use corewire_client::Address;
use corewire_proto::CloseReason;
use corewire_testing::ground::{Clock, Dice};
use corewire_testing::net::{NetEvent, NetNote, Rates, Route, Seen, Surroundings};

use crate::core::trace::{Note, Violated};
use crate::core::{Core, Event};
use crate::judge::patience;

/// The network of this simulation.
pub(crate) type Net = corewire_testing::net::Net<Core>;

impl Surroundings for Core {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn dice(&self) -> &Dice {
        &self.dice
    }

    fn fault(&self, millionths: u32) -> bool {
        self.fault(millionths)
    }

    fn after(&self, ns: u64, event: NetEvent) {
        self.after(ns, Event::Net(event));
    }

    fn note(&self, note: NetNote) {
        self.note(Note::Net(note));
    }

    fn rates(&self, _: Route) -> Rates {
        self.plan.rates
    }

    fn latency(&self, _: Route) -> (u64, u64) {
        self.plan.latency
    }

    fn pipe(&self) -> usize {
        self.plan.pipe
    }

    fn shuffles(&self) -> bool {
        self.plan.shuffle
    }

    fn resolve(&self, address: &Address) -> Option<usize> {
        Some(endpoint::number(address))
    }

    fn note_sent(&self, host: usize, bytes: usize) {
        self.note_sent(host, bytes);
    }

    fn note_asked_in_vain(&self, host: usize, wire: usize) {
        self.violated(Violated::Livelock, || {
            format!("host {host} asks for room on wire {wire}, which is full")
        });
    }

    fn ending(&self, host: usize, wire: usize, seen: &Seen, reason: CloseReason) {
        patience::judge(self, host, wire, seen, reason);
    }
}
