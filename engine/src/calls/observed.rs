//! Calls whose first poll is measured.
//!
//! Who looks for what holds the shard, counts what methods cost, or shares the shard out among classes wants to know how long
//! polls take (`shard/polls.rs`). While anybody does, the driver gives calls to this dispatcher in place of the one inside,
//! so that otherwise a call pays nothing for it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::calls::dispatch::{Dispatch, Dispatched, Incoming, ReplySlot};
use crate::classes::ServiceClass;
use crate::shard::context::ShardContext;
use crate::shard::counters::ShardCounters;
use crate::shard::holds::Holder;
use corewire_client::MethodName;
use corewire_codec::MethodId;

/// Measures the calls of another dispatcher.
pub(crate) struct ObservedDispatch {
    pub(crate) inner: Rc<dyn Dispatch>,
    pub(crate) local: Rc<ShardContext>,
    pub(crate) counters: Arc<ShardCounters>,
}

impl Dispatch for ObservedDispatch {
    fn dispatch(
        &self,
        call: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        self.local.start_poll(Some(call.request.method), false);
        let _measured = Measured(self);
        self.inner.dispatch(call, context, reply)
    }

    fn methods(&self) -> Vec<(MethodId, MethodName)> {
        self.inner.methods()
    }

    fn has_classes(&self) -> bool {
        self.inner.has_classes()
    }
}

/// Ends the measurement, also when the handler panics.
struct Measured<'a>(&'a ObservedDispatch);

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let ObservedDispatch { local, counters, .. } = self.0;
        end_poll(local, counters, local.classes.current(), false);
    }
}

/// The poll of a handler was measured: that of the call which began last. `again` if it was not its first.
#[cold]
pub(super) fn end_poll(
    local: &ShardContext,
    counters: &ShardCounters,
    class: ServiceClass,
    again: bool,
) {
    local.end_call_poll(class, again, || {
        let current = counters.current.get();
        let named = |(connection, call, method)| Holder::Call { connection, call, method };
        current.map_or(Holder::AnyOf(1), named)
    });
}
