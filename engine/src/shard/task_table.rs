//! Where the tasks of a shard are kept.

use slab::Slab;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;

use crate::shard::wakes::ShardWaker;

/// The tasks of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(super) table: RefCell<Slab<Place>>,
}

#[derive(Debug)]
pub(super) enum Place {
    Idle(Work),
    /// It is being polled.
    Running,
    /// Its handle was dropped while it was being polled.
    Cancelled,
}

pub(super) struct Work {
    pub(super) future: Pin<Box<dyn Future<Output = ()>>>,
    pub(super) waker: Waker,
    pub(super) source: Arc<ShardWaker>,
    /// For the warning about one that holds its shard.
    pub(super) spawned_at: &'static Location<'static>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("source", &self.source).finish_non_exhaustive()
    }
}
