//! What the bytes of the wire mean: headers, frames, limits, statuses.

pub(crate) mod cursor;
pub(crate) mod encoding;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod limits;
pub(crate) mod metadata;
pub(crate) mod method;
pub(crate) mod rule;
pub(crate) mod status;
pub(crate) mod trace;
