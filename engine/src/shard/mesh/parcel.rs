//! What travels between shards.

use std::any::Any;

/// Something that goes to another shard and does something there.
pub(crate) trait Parcel: Any + Send {
    /// It has arrived from shard `from`, or from a thread outside the server; the mesh of this shard is
    /// [`Mesh::current`](super::Mesh::current).
    fn arrive(self: Box<Self>, from: Option<usize>);

    /// Bytes that it brings to whoever waits for it, and that are counted until they are taken.
    fn bytes(&self) -> usize {
        0
    }
}

pub(crate) type Boxed = Box<dyn Parcel>;
