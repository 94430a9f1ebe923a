//! Where a call leaves the shard of its connection for the shard that owns its key.
//!
//! SEAM: this does not hand over anything yet. The call runs on the shard of its connection, and the reply does not say
//! FORWARDED. What is to come here: `Incoming::take`, the way to the owner, the owner's dispatcher (which runs the
//! call, because it owns the key), and `ReplySlot::set_forwarded` before the reply is given.

use corewire_engine::{Dispatched, Incoming, ReplySlot};
use corewire_proto::ShardId;
use std::task::Context;

use super::slot::Method;

/// A call whose key belongs to `owner`, which is another shard than this one. `method` is what serves it here.
pub(super) fn forward(
    method: &Method,
    call: &mut Incoming<'_>,
    owner: ShardId,
    context: &mut Context<'_>,
    reply: &mut ReplySlot<'_>,
) -> Dispatched {
    let _ = owner;
    method.call(call, context, reply)
}
