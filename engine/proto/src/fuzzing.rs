//! Bodies of fuzz targets: properties of whole connections over arbitrary bytes.
//!
//! Each function takes any bytes, runs one property on them and panics when it does not hold. Property
//! tests (`tests/properties.rs`), the replay of the committed corpus (`tests/corpus.rs`) and the fuzz
//! targets (`fuzz/`) call the same functions.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a fuzz body reports by panicking"
)]

mod hostile;
mod model;
mod world;

pub use hostile::{client, server};
pub use world::pair;

use std::time::Instant;

use corewire_codec::fuzzing::Target;
use corewire_codec::{
    ConnectionCredit, FrameBytes, InFlight, Limits, MetadataBytes, RecvBuffer, SendBuffer,
    StreamCredit,
};

/// Every target by the name of its file in `fuzz/fuzz_targets` and its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 3] = [("server", server), ("client", client), ("pair", pair)];

/// The least limits, so that every bound is reached with few bytes.
fn limits() -> Limits {
    Limits {
        in_flight: InFlight::MIN,
        stream_credit: StreamCredit::MIN,
        connection_credit: ConnectionCredit::MIN,
        metadata_bytes: MetadataBytes::MIN,
        frame_bytes: FrameBytes::MIN,
    }
}

#[allow(clippy::disallowed_methods, reason = "a virtual clock must begin somewhere")]
fn start() -> Instant {
    Instant::now()
}

/// Moves at most `count` bytes from one side's buffer to the other's; returns how many.
pub(crate) fn carry(from: &mut SendBuffer, to: &mut RecvBuffer, count: usize) -> usize {
    let mut left = count.min(from.len());
    let moved = left;
    while left > 0 {
        let chunk = from.first_chunk();
        let step = chunk.len().min(left);
        to.extend_from_slice(&chunk[..step]);
        from.advance(step);
        left -= step;
    }
    moved
}
