//! The pipe of one stream call, between its caller's ends and what drives the connection.

use atomic_waker::AtomicWaker;
use corewire_codec::Limits;
use corewire_proto::canary::{Bug, is_planted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

pub use crate::streams::{Event, Outgoing};

use crate::core::channel::StreamEnd;
use crate::streams::OUTBOX_BYTES;

/// What both threads share.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    /// Cost of messages that were taken and that the driver has not collected yet.
    pub(super) consumed: AtomicU32,
    /// The least cost that a reader with nothing left to read reports.
    pub(super) grain: AtomicU32,
    /// Bytes of messages that wait in the outbox, plus 16 for each.
    pub(super) outbox_bytes: AtomicUsize,
    /// Nothing more is sent.
    pub(super) closed: AtomicBool,
    /// Whether the driver was told to look and has not looked yet.
    pub(super) notified: AtomicBool,
}

/// The driver's end of one stream call.
#[derive(Clone, Debug)]
pub struct Port {
    pub(super) pipe: Arc<Pipe>,
    pub(super) events: flume::Sender<Event>,
    pub(super) outbox: flume::Receiver<Outgoing>,
}

impl Port {
    /// Whether nobody waits for the call any more.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_disconnected()
    }

    /// The call ended, and its reader learns how.
    pub fn finish(&self, event: Event) {
        let is_end = matches!(event, Event::End(_));
        self.push(event);
        self.close();
        if is_end && is_planted(Bug::LostEnd) {
            return;
        }
        self.wake_reader();
    }
}

impl StreamEnd for Port {
    fn begin(&self, own: &Limits, in_flight_max: u32) {
        // All streams that there may be hold back less than a quarter of their common window.
        let share = own.connection_credit.get() / in_flight_max.max(1) / 4;
        let grain = share.min(own.stream_window() / 4);
        self.pipe.grain.store(grain, Ordering::Relaxed);
        self.take_notice();
    }

    /// The next notification wakes the driver again. What earlier ones were for is looked at now.
    fn take_notice(&self) {
        self.pipe.notified.swap(false, Ordering::AcqRel);
    }

    fn push(&self, event: Event) {
        // This fails if the reader is gone, which its cancel says as well.
        let _ = self.events.send(event);
    }

    fn wake_reader(&self) {
        self.pipe.reader.wake();
    }

    fn close(&self) {
        self.pipe.closed.store(true, Ordering::Release);
        drop(self.outbox.drain());
        self.pipe.writer.wake();
    }

    fn take_consumed(&self) -> u32 {
        self.pipe.consumed.swap(0, Ordering::AcqRel)
    }

    fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn is_ending(&self) -> bool {
        self.pipe.outbox_bytes.load(Ordering::Acquire) == 0
    }

    fn pop(&self) -> Option<Outgoing> {
        let outgoing = self.outbox.try_recv().ok()?;
        if let Outgoing::Message(_, body) = &outgoing {
            let bytes = body.len() + MESSAGE_BYTES;
            let before = self.pipe.outbox_bytes.fetch_sub(bytes, Ordering::AcqRel);
            if before >= OUTBOX_BYTES && before - bytes < OUTBOX_BYTES {
                self.pipe.writer.wake();
            }
        }
        Some(outgoing)
    }
}

/// What a message costs in the outbox on top of its body: empty ones must count, too, or they would have no bound.
pub(super) const MESSAGE_BYTES: usize = 16;
