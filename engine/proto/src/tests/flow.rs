//! What tests of streams do with a [`Pair`].

use std::time::Duration;

use bytes::Bytes;
use corewire_codec::{
    ConnectionCredit, Encoding, Limits, MethodId, ReplyHead, RequestHead, Status, StreamCredit,
};

use super::pair::{Event, Pair, put_request};
use crate::config::{ClientConfig, ServerConfig};
use crate::streams::table::{NotSent, StreamKind};

/// The least windows: 16 KiB for a stream, 64 KiB for the connection.
pub(super) const STREAM: usize = 16 * 1024;
pub(super) const CONNECTION: usize = 64 * 1024;
/// What the frame of a message costs in addition to its payload.
pub(super) const FRAME: usize = 16;

pub(super) fn least_credit() -> Limits {
    Limits {
        stream_credit: StreamCredit::MIN,
        connection_credit: ConnectionCredit::MIN,
        ..Limits::default()
    }
}

pub(super) fn server_config() -> ServerConfig {
    let limits = least_credit();
    ServerConfig { limits, streams: true, one_way_pending_max: 3, ..ServerConfig::default() }
}

pub(super) fn client_config() -> ClientConfig {
    ClientConfig { limits: least_credit(), ..ClientConfig::default() }
}

impl Pair {
    /// A pair that offers streams with the least windows; the hellos have not crossed.
    pub(super) fn streaming() -> Self {
        Self::with(server_config(), client_config())
    }

    /// The same, with the hellos crossed.
    pub(super) fn streaming_ready() -> Self {
        let mut pair = Self::streaming();
        pair.settle();
        pair
    }

    pub(super) fn stream(&mut self, kind: StreamKind, number: u32) -> u32 {
        self.stream_within(kind, number, None)
    }

    pub(super) fn stream_within(
        &mut self,
        kind: StreamKind,
        number: u32,
        timeout: Option<Duration>,
    ) -> u32 {
        let deadline = timeout.map(|timeout| self.now + timeout);
        let call = self.client.conn.begin_stream(kind, number, deadline).expect("a free slot");
        let timeout_us = timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap());
        let flags = kind.request_flags();
        let head = RequestHead { timeout_us, flags, ..RequestHead::new(call, MethodId(7)) };
        put_request(&mut self.client.out, &head, &number.to_le_bytes());
        call
    }

    pub(super) fn client_sends(
        &mut self,
        call: u32,
        body: &[u8],
        end: bool,
    ) -> Result<(), NotSent> {
        let (conn, out) = (&mut self.client.conn, &mut self.client.out);
        let mut message = conn.begin_message(call, Encoding::RAW, end, out)?;
        message.put_slice(body);
        message.finish().unwrap();
        Ok(())
    }

    pub(super) fn server_sends(&mut self, call: u32, body: &[u8]) -> Result<(), NotSent> {
        let (conn, out) = (&mut self.server.conn, &mut self.server.out);
        let mut message = conn.begin_message(call, Encoding::RAW, out)?;
        message.put_bytes(Bytes::copy_from_slice(body));
        message.finish().unwrap();
        Ok(())
    }

    /// The server ends a call's stream of results and the call.
    pub(super) fn server_ends(&mut self, call: u32, failure: Option<&Status>) {
        let (conn, out) = (&mut self.server.conn, &mut self.server.out);
        conn.end_stream(call, failure, None, out).unwrap();
        assert!(conn.unpark(call).is_some());
    }

    /// The server answers a call with a failure.
    pub(super) fn server_fails(&mut self, call: u32, status: &Status) {
        self.server.out.status(&ReplyHead::ok(call), status, u32::MAX);
        assert!(self.server.conn.unpark(call).is_some());
    }

    /// The server's reader takes the messages of one call; returns their bodies.
    pub(super) fn server_takes(&mut self, call: u32) -> Vec<Bytes> {
        let (taken, rest) = taken(&self.server.events, call);
        self.server.events = rest;
        for (_, cost) in &taken {
            self.server.conn.consume(call, *cost, &mut self.server.out);
        }
        taken.into_iter().map(|(body, _)| body).collect()
    }

    /// The client's reader takes the messages of one call; returns their bodies.
    pub(super) fn client_takes(&mut self, call: u32) -> Vec<Bytes> {
        let (taken, rest) = taken(&self.client.events, call);
        self.client.events = rest;
        for (_, cost) in &taken {
            self.client.conn.consume(call, *cost, &mut self.client.out);
        }
        taken.into_iter().map(|(body, _)| body).collect()
    }

    /// Whether no stream is left on either side and all credit is accounted for.
    pub(super) fn assert_no_streams(&self) {
        assert_eq!((self.server.conn.streams(), self.client.conn.streams()), (0, 0));
        assert_eq!(self.server.conn.held_stream_bytes(), 0);
        assert_eq!(self.client.conn.held_stream_bytes(), 0);
        assert_eq!(self.server.conn.close_reason(), None);
        assert_eq!(self.client.conn.close_reason(), None);
    }
}

/// Messages of one call with their costs, and the other events.
fn taken(events: &[Event], wanted: u32) -> (Vec<(Bytes, u32)>, Vec<Event>) {
    let mut messages = Vec::new();
    let mut rest = Vec::new();
    for event in events {
        match event {
            Event::Data { call, body, cost, .. } if *call == wanted => {
                messages.push((body.clone(), *cost));
            }
            other => rest.push(other.clone()),
        }
    }
    (messages, rest)
}
