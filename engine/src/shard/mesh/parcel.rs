//! What travels between shards.

use std::any::Any;

/// Something that goes to another shard and does something there.
pub(crate) trait Parcel: Any + Send {
    /// It has arrived from shard `from`, or from a thread outside the server; the mesh of this shard is
    /// [`Mesh::current`](super::Mesh::current).
    fn arrive(self: Box<Self>, from: Option<usize>);
}

pub(crate) type Boxed = Box<dyn Parcel>;
