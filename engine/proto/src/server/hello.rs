//! The server's side of the two hellos.

use std::time::Instant;

use corewire_codec::{Hello, HelloRecords, RecvBuffer, Role, Rule, SendBuffer, VERSION};

use super::{Phase, ServerConnection, ServerInput};
use crate::close::CloseReason;
use crate::config::records;

impl<T> ServerConnection<T> {
    #[cold]
    pub(super) fn handle_hello<'a>(
        &mut self,
        recv: &mut RecvBuffer,
        out: &mut SendBuffer,
        now: Instant,
    ) -> ServerInput<'a, T> {
        let hello = match recv.next_hello() {
            Ok(Some(hello)) => hello,
            Ok(None) => return ServerInput::NeedBytes,
            Err(rule) => {
                // Probes of other protocols break no rule of this one, and get the same answer.
                let reason = match recv.peek_foreign() {
                    Some(foreign) if rule == Rule::NotCorewire => CloseReason::Foreign(foreign),
                    _ => CloseReason::PeerMisbehaved(rule),
                };
                return self.turn_away(rule, reason, out);
            }
        };
        if hello.role != Role::Client {
            return self.misbehaved(Rule::BrokenHello, out);
        }
        self.say_hello(out);
        self.set_peer(&hello.records);
        self.keep_alive.handle_hello(now);
        self.phase = Phase::Open;
        ServerInput::Handled
    }

    /// The first bytes to the client are always the hello (REQ-8), so that it can read what follows,
    /// even if that only says why it is turned away.
    pub(super) fn say_hello(&self, out: &mut SendBuffer) {
        let own = HelloRecords {
            shard: Some((self.config.shard, self.config.shards.max(1))),
            connection_id: Some(self.identity.connection_id),
            ..records(&self.config.limits, &self.config.timeouts)
        };
        out.hello(&Hello { version: VERSION, role: Role::Server, records: own });
    }

    /// What the client said about itself, or what holds until it did.
    pub(super) fn set_peer(&mut self, records: &HelloRecords) {
        let limits = &records.limits;
        self.peer_frame_bytes_max = limits.frame_bytes.get();
        self.peer_codecs = records.codecs;
        self.peer_hears_forwards = records.routes_keys();
        // The limit's greatest value is that of a u16.
        self.peer_metadata_bytes_max =
            u16::try_from(limits.metadata_bytes.get()).unwrap_or(u16::MAX);
        self.peer_stream_credit = limits.stream_credit.get();
        self.peer_connection_credit = limits.connection_credit.get();
    }
}
