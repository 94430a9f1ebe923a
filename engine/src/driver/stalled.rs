//! Whose handler, or which task, kept the shard from turning: one warning for each, which names it.
//!
//! `shard/holds.rs` finds them. While a shard stands still for long, its supervisor sees which call runs, and tells the
//! shard, which alone knows the call's peer.

use super::{Conn, Driver};
use crate::net::doorbell::StalledCall;
use crate::net::io::Io;
use crate::shard::holds::{Hold, Holder};
use crate::shard::thread_time::Span;
use corewire_client::log_limit::Topic;
use corewire_codec::MethodId;
use std::fmt;
use std::time::Duration;

impl<I: Io> Driver<I> {
    /// The supervisor saw which call ran while the shard stood still.
    #[cold]
    pub(super) fn name_holder(&self, stalled: &StalledCall) {
        let StalledCall { connection, call, method, silent } = *stalled;
        self.local.holds.name(Holder::Call { connection, call, method }, silent);
    }

    /// Counts what held the shard, and logs it as far as the limit on such lines allows.
    #[cold]
    pub(super) fn tell_holds(&mut self) {
        let found = self.local.holds.take(self.shared.now);
        self.shared.observe_polls();
        let counters = &self.shared.counters;
        for Hold { holder, span } in found {
            if span.held() <= self.local.holds.limit() {
                counters.cpu_waits.add(1);
                self.tell_wait(&span);
                continue;
            }
            let held_us = u64::try_from(span.held().as_micros()).unwrap_or(u64::MAX);
            counters.holds.add(1);
            counters.longest_hold_us.set(counters.longest_hold_us.value().max(held_us));
            let topic = match holder {
                Holder::Call { .. } | Holder::Method(_) => Topic::HELD,
                Holder::Task(_) => Topic::HELD_BY_TASK,
                Holder::AnyOf(_) => Topic::HELD_BY_ANY,
            };
            if self.local.log.admit(topic, self.shared.now) {
                self.tell_hold(&holder, &span);
            }
        }
    }

    /// The shard stood still, and nothing that ran there need have caused it. On a host that is shared this is usual: the
    /// counters tell of it, and no warning does.
    fn tell_wait(&self, span: &Span) {
        let shard = self.shared.config.info.id;
        let (stood_ms, waited_ms) = (span.time.as_millis(), Millis(span.waited));
        tracing::debug!(%shard, stood_ms, %waited_ms, "the shard stood still because its thread waited for a CPU: other threads run there, or the container's CPU quota is used up");
    }

    fn tell_hold(&self, holder: &Holder, span: &Span) {
        let shard = self.shared.config.info.id;
        let held_ms = span.time.as_millis();
        let (cpu_ms, waited_ms) = (Millis(span.cpu), Millis(span.waited));
        match holder {
            Holder::Call { connection, call, method } => {
                let (method, call) = (self.name_of(*method), format!("{connection:x}-{call:x}"));
                let peer = self.peer_of(*connection).unwrap_or_else(|| "gone".to_owned());
                tracing::warn!(%shard, held_ms, %cpu_ms, %waited_ms, %method, %call, %peer, "{HELD}");
            }
            Holder::Method(method) => {
                let method = self.name_of(*method);
                tracing::warn!(%shard, held_ms, %cpu_ms, %waited_ms, %method, "{HELD}");
            }
            Holder::Task(spawned_at) => {
                tracing::warn!(%shard, held_ms, %cpu_ms, %waited_ms, task = %spawned_at, "a task held its shard, and everything else there waited: use offload or yield_if_due");
            }
            Holder::AnyOf(polls) => {
                tracing::warn!(%shard, held_ms, %cpu_ms, %waited_ms, polls, "one of several handlers and tasks held the shard; each is timed for the next 10 s, so that the next warning names it");
            }
        }
    }

    fn name_of(&self, method: MethodId) -> String {
        let known = self.shared.dispatch.methods().into_iter().find(|(id, _)| *id == method);
        known.map_or_else(|| method.to_string(), |(_, name)| name.to_string())
    }

    /// The peer of a connection that is still there.
    fn peer_of(&self, connection: u64) -> Option<String> {
        self.conns.iter().find_map(|(_, entry)| match &entry.conn {
            Some(Conn::Server(conn)) if conn.id() == connection => Some(conn.peer().to_string()),
            _ => None,
        })
    }
}

/// A time in a warning: the most that it can have been.
struct Millis(Option<Duration>);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}", time.as_millis()),
            None => f.write_str("unknown"),
        }
    }
}

/// The text of a warning about a handler.
const HELD: &str = "a handler held its shard, and everything else there waited: use #[blocking], offload or yield_if_due";
