//! Streams without a connection: what sender and reader see of each other.
#![allow(clippy::unwrap_used, reason = "tests")]
