//! What a shard does when its memory is short: it looks which connections keep most of it, and cuts off
//! those that give nothing back. And what it does when memory is not short: it frees buffers that nobody
//! needs any more.
//!
//! All connections are looked at only while memory is short, and then every 100 ms. Large buffers that nobody used for
//! five seconds are freed, and at once while memory is tight.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::relief::LOOK_EVERY;
use super::{Conn, Driver};
use crate::net::io::{Io, Token};
use corewire_client::address::Peer;
use corewire_client::log_limit::Topic;

/// How long unused large buffers are kept.
const BUFFERS_FOR: Duration = Duration::from_secs(5);

/// Connection, bytes and calls that it keeps without progress.
type Stalled = (Token, usize, usize);

impl<I: Io> Driver<I> {
    /// Looks at what all connections hold, now and then while memory is short.
    #[cold]
    pub(super) fn relieve(&mut self) {
        let now = self.shared.now;
        if !self.shared.memory.is_short() && !self.relief.is_on() {
            return;
        }
        if self.relief.look_at.is_some_and(|at| at > now) {
            return;
        }
        let short = self.shared.memory.is_short();
        self.relief.handle_look(now, short);
        self.relief.look_at = short.then(|| now + LOOK_EVERY);
        if short {
            let crowded = self.crowded_addresses();
            self.set_crowded(|peer| address(peer).is_some_and(|it| crowded.contains_key(&it)));
            let stalled = self.stalled();
            self.cut_off(stalled);
        } else {
            self.relief.marks = BTreeMap::new();
            self.set_crowded(|_| false);
        }
    }

    fn set_crowded(&mut self, is_crowded: impl Fn(Peer) -> bool) {
        for (_, entry) in &mut self.conns {
            if let Some(Conn::Server(conn)) = &mut entry.conn {
                conn.set_crowded(is_crowded(conn.peer()));
            }
        }
        self.shared.memory.wake_waiting();
    }

    /// Addresses whose connections hold more than their share together, with what they hold.
    fn crowded_addresses(&self) -> BTreeMap<IpAddr, usize> {
        let mut held: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, entry) in &self.conns {
            if let Some(Conn::Server(conn)) = &entry.conn
                && let Some(address) = address(conn.peer())
            {
                *held.entry(address).or_default() += conn.standing().bytes;
            }
        }
        held.retain(|_, bytes| self.shared.memory.is_crowded(*bytes));
        held
    }

    /// Connections that hold much and gave little of it back since their time began, those that keep most
    /// first.
    fn stalled(&mut self) -> Vec<Stalled> {
        let now = self.shared.now;
        let within = self.shared.config.budgets.stalled_for;
        let (share, share_calls) = self.shared.memory.shares();
        let mut stalled = Vec::new();
        let mut marks = BTreeMap::new();
        for (_, entry) in &self.conns {
            let Some(Conn::Server(conn)) = &entry.conn else { continue };
            let stands = conn.standing();
            if stands.bytes == 0 && stands.calls == 0 {
                continue;
            }
            let mark = self.relief.marks.get(&entry.token).copied();
            let (since, stood) = mark.unwrap_or((now, stands));
            if now.saturating_duration_since(since) < within {
                marks.insert(entry.token, (since, stood));
                continue;
            }
            marks.insert(entry.token, (now, stands));
            // Count everything that was given back as part of what the connection held then.
            let released = stands.released.wrapping_sub(stood.released);
            let ended = stands.ended.wrapping_sub(stood.ended) as usize;
            let bytes = stood.bytes.saturating_sub(released).min(stands.bytes);
            let calls = stood.calls.saturating_sub(ended).min(stands.calls);
            if bytes > share / 2 || calls > share_calls / 2 {
                stalled.push((entry.token, bytes, calls));
            }
        }
        self.relief.marks = marks;
        stalled.sort_unstable_by_key(|&(_, bytes, calls)| std::cmp::Reverse((bytes, calls)));
        stalled
    }

    /// Cuts connections off until there is enough room.
    fn cut_off(&mut self, stalled: Vec<Stalled>) {
        let shard = self.shared.config.info.id;
        let within = self.shared.config.budgets.stalled_for;
        let memory = &self.shared.memory;
        let (mut bytes, mut calls) = (memory.bytes(), memory.calls());
        let (bytes_enough, calls_enough) = memory.enough();
        for (token, kept, kept_calls) in stalled {
            if bytes <= bytes_enough && calls <= calls_enough {
                return;
            }
            let entry = self.conns.get_mut(token.index()).filter(|entry| entry.token == token);
            let Some(Some(Conn::Server(conn))) = entry.map(|entry| &mut entry.conn) else {
                continue;
            };
            let stands = conn.standing();
            (bytes, calls) =
                (bytes.saturating_sub(stands.bytes), calls.saturating_sub(stands.calls));
            conn.cut_off();
            let (peer, connection) = (conn.peer(), conn.id());
            self.shared.counters.connections_cut_off.add(1);
            if self.local.log.admit(Topic::CUT_OFF, self.shared.now) {
                tracing::warn!(%shard, %peer, connection, bytes = kept, calls = kept_calls, "memory is short; the connection gave none of this back for {within:?} and is cut off");
            }
            self.relief.marks.remove(&token);
            self.enqueue(token);
        }
    }

    /// Frees large buffers: at once while memory is tight, otherwise when nobody has used them for a while.
    #[inline]
    pub(super) fn trim_buffers(&mut self) {
        let Some(at) = self.relief.trim_at else {
            if self.shared.recv.keeps_much() {
                self.relief.trim_at = Some(self.shared.now + BUFFERS_FOR);
            }
            return;
        };
        if self.shared.memory.is_tight() {
            self.shared.recv.trim_large();
        }
        if at <= self.shared.now {
            self.shared.recv.trim();
            // Buffers that were used meanwhile are looked at once more.
            let again = self.shared.recv.keeps_much();
            self.relief.trim_at = again.then(|| self.shared.now + BUFFERS_FOR);
        }
    }
}

/// What identifies one peer: an IPv4 address, or the network of one IPv6 host. Local processes have none.
fn address(peer: Peer) -> Option<IpAddr> {
    let Peer::Tcp(address) = peer else { return None };
    Some(match address.ip().to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        ip => ip,
    })
}
