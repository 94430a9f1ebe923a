//! The accounting of an open loop: calls are sent when they are due, whatever happened to earlier ones, and each is
//! timed from when it was *due*.
//!
//! A closed loop sends fewer calls to a stalled server, and so hardly sees the stall. Here the calls that fell due
//! meanwhile are sent late and their wait counts. Two things limit what that costs: the calls in flight on a connection
//! are limited, and a call that found no room until the end was never sent. Such calls are `missed`; they are in no
//! percentile.

use hdrhistogram::{CreationError, Histogram};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::pace::{Arrivals, Schedule};

/// How an open loop is loaded and counted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Calls per second, over all connections.
    pub rate: f64,
    /// How they are spread over time.
    pub arrivals: Arrivals,
    /// What Poisson arrivals are drawn from.
    pub seed: u64,
    /// Connections, served in turn.
    pub conns: usize,
    /// The most calls in flight on each of them.
    pub inflight: u32,
    /// When counting begins, in nanoseconds since the run began; calls are made from the beginning.
    pub begin_ns: u64,
    /// When counting ends; no call is due from here on.
    pub end_ns: u64,
}

/// A call to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its number in this run, from 0.
    pub number: u64,
    /// The connection to send it on, from 0.
    pub conn: usize,
    /// When it was due.
    pub due_ns: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Answered,
    /// Answered, and of a kind whose latency is not asked for.
    AnsweredAside,
    /// Failed, with the name of its status and a sentence.
    Failed(String, String),
}

/// What the sender should wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until this time, when the next call is due or the last one has passed.
    Until(u64),
    /// Until a call ends, because there is no room for the one that is due; but not beyond this time.
    Room(u64),
    /// For nothing: all calls have been due.
    Over,
}

/// What an open loop reports in addition to what every load generator reports; one object in its JSON line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Calls per second that were asked for.
    pub rate: f64,
    /// How they were spread over time.
    pub arrivals: Arrivals,
    /// Calls that fell due in the measured seconds.
    pub offered: u64,
    /// The same per second.
    pub offered_rps: f64,
    /// Offered calls that found no room in flight until the end and were never sent.
    pub missed: u64,
    /// Median of how late calls were sent, in µs: waiting for room, or for a sender that was busy or asleep.
    pub late_p50_us: f64,
    /// 99th percentile of the same.
    pub late_p99_us: f64,
    /// The latest.
    pub late_max_us: f64,
    /// Failed calls by the name of their status, also those of the warm-up.
    pub errors_by_status: BTreeMap<String, u64>,
}

/// An open loop under way. Times are nanoseconds since the run began, and never go back.
#[derive(Debug)]
pub struct OpenLoop {
    plan: Plan,
    schedule: Schedule,
    /// Calls in flight on each connection.
    inflight: Vec<u32>,
    in_flight: u64,
    /// The connection whose turn is next.
    turn: usize,
    number: u64,
    offered: u64,
    missed: u64,
    answered: u64,
    latency_ns: Histogram<u64>,
    late_ns: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    first_error: Option<String>,
}

impl OpenLoop {
    /// A loop at its beginning.
    ///
    /// # Errors
    ///
    /// Never, with the histograms' fixed bounds.
    pub fn new(plan: Plan) -> Result<Self, CreationError> {
        // Three digits, so an error of at most 0.1 %, up to a minute.
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Ok(Self {
            schedule: Schedule::new(plan.rate, plan.arrivals, plan.seed),
            inflight: vec![0; plan.conns],
            in_flight: 0,
            turn: 0,
            number: 0,
            offered: 0,
            missed: 0,
            answered: 0,
            latency_ns: histogram()?,
            late_ns: histogram()?,
            errors: BTreeMap::new(),
            first_error: None,
            plan,
        })
    }

    fn counts(&self, due_ns: u64) -> bool {
        (self.plan.begin_ns..self.plan.end_ns).contains(&due_ns)
    }

    /// The next connection in turn that has room.
    fn room(&self) -> Option<usize> {
        let conns = self.inflight.len();
        let after = |step| (self.turn + step) % conns;
        (0..conns).map(after).find(|conn| self.inflight[*conn] < self.plan.inflight)
    }

    /// The next call to send now, if one is due and has room. Call it until there is none. A call that finds
    /// its connection full goes to the next one that is not.
    pub fn start(&mut self, now_ns: u64) -> Option<Start> {
        let due_ns = self.schedule.next_at();
        // What is due and was not sent by the end is missed.
        if due_ns > now_ns || due_ns >= self.plan.end_ns || now_ns >= self.plan.end_ns {
            return None;
        }
        let conn = self.room()?;
        self.schedule.take();
        self.turn = (conn + 1) % self.inflight.len();
        self.inflight[conn] += 1;
        self.in_flight += 1;
        if self.counts(due_ns) {
            self.offered += 1;
            self.late_ns.saturating_record(now_ns - due_ns);
        }
        let number = self.number;
        self.number += 1;
        Some(Start { number, conn, due_ns })
    }

    /// A call has ended.
    pub fn done(&mut self, call: Start, now_ns: u64, outcome: Outcome) {
        self.inflight[call.conn] -= 1;
        self.in_flight -= 1;
        match outcome {
            Outcome::Failed(status, sentence) => {
                *self.errors.entry(status).or_default() += 1;
                self.first_error.get_or_insert(sentence);
                return;
            }
            Outcome::Answered if self.counts(call.due_ns) => {
                self.latency_ns.saturating_record(now_ns.saturating_sub(call.due_ns));
            }
            Outcome::Answered | Outcome::AnsweredAside => {}
        }
        // The rate counts what comes back in the measured seconds, whenever it was sent.
        if self.counts(now_ns) {
            self.answered += 1;
        }
    }

    /// What to wait for when [`start`](Self::start) has nothing.
    #[must_use]
    pub fn wait(&self, now_ns: u64) -> Wait {
        let (due, end) = (self.schedule.next_at(), self.plan.end_ns);
        if now_ns >= end {
            Wait::Over
        } else if due > now_ns {
            Wait::Until(due.min(end))
        } else {
            Wait::Room(end)
        }
    }

    /// Calls that have been sent and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Nothing is sent or waited for any more: counts what was due and never sent as missed, and calls that are still
    /// in flight as failed.
    pub fn close(&mut self) {
        while self.schedule.next_at() < self.plan.end_ns {
            let due_ns = self.schedule.take();
            if self.counts(due_ns) {
                self.offered += 1;
                self.missed += 1;
            }
        }
        if self.in_flight > 0 {
            *self.errors.entry("Unanswered".to_owned()).or_default() += self.in_flight;
            self.first_error.get_or_insert_with(|| "calls were never answered".to_owned());
            self.in_flight = 0;
        }
    }

    /// Calls answered in the measured seconds.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Failed calls, also those of the warm-up.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The first failure in words.
    #[must_use]
    pub fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// Nanoseconds from when a call was due until it was answered, of all calls due in the measured seconds, also of
    /// those that were answered later.
    #[must_use]
    pub fn latency_ns(&self) -> &Histogram<u64> {
        &self.latency_ns
    }

    /// What this loop reports in addition to what every load generator reports. Call it after [`close`](Self::close).
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "no run makes 2⁵³ calls or lasts for months")]
    pub fn figures(&self) -> Figures {
        let secs = (self.plan.end_ns - self.plan.begin_ns) as f64 / 1e9;
        let us = |ns: u64| ns as f64 / 1e3;
        Figures {
            rate: self.plan.rate,
            arrivals: self.plan.arrivals,
            offered: self.offered,
            offered_rps: self.offered as f64 / secs,
            missed: self.missed,
            late_p50_us: us(self.late_ns.value_at_quantile(0.5)),
            late_p99_us: us(self.late_ns.value_at_quantile(0.99)),
            late_max_us: us(self.late_ns.max()),
            errors_by_status: self.errors.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
