//! What `bell.rs` is made of; a test under loom has others.

pub(super) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
