//! Calls by key at a server: which shard owns a call, and that a call which says so says the truth.
//!
//! Only methods with a key, on servers with more than one shard, are served through [`Routed`]; all others pay nothing.
//! The decision is made once for each method, when the shard's router is made.

use corewire_codec::Status;
use corewire_engine::{Dispatched, Incoming, ReplySlot};
use corewire_proto::owner_of;
use std::rc::Rc;
use std::task;

use super::incoming::{Arguments, IncomingCall, KeyOf};
use super::slot::{Method, Methods, ServeCall};

impl Methods {
    /// Has the methods that have a key served by its owner, on one of `shards` shards.
    pub(crate) fn route_keys(&mut self, shards: u16) {
        if shards < 2 {
            return;
        }
        self.replace_some(0, |inner| {
            let key_of = inner.key_of?;
            Some(Box::new(Routed { inner: Rc::clone(inner), key_of, shards }))
        });
    }
}

/// A method whose calls belong to the shards that own their keys.
struct Routed {
    inner: Rc<Method>,
    key_of: KeyOf,
    shards: u16,
}

impl ServeCall for Routed {
    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut task::Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        // A body without a readable key is refused by the method itself, wherever it runs (REQ-100).
        let key = incoming.request.key().or_else(|| (self.key_of)(Arguments::of(incoming)));
        if let Some(hash) = key {
            let owner = owner_of(hash, self.shards);
            if owner != incoming.shard {
                return incoming.forward(owner, context, reply);
            }
        }
        self.inner.call(incoming, context, reply)
    }
}

impl IncomingCall<'_, '_> {
    /// Checks that the request named the key with this hash, if it named one: it came here by what it named (REQ-100).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when it named another one.
    #[inline]
    pub fn check_key(&self, hash: impl FnOnce() -> u64) -> Result<(), Status> {
        let Some(named) = self.incoming.request.key() else { return Ok(()) };
        match hash() {
            found if found == named => Ok(()),
            found => Err(wrong_key(named, found)),
        }
    }
}

#[cold]
fn wrong_key(named: u64, found: u64) -> Status {
    Status::invalid_argument(format!(
        "the request says that its key has the hash {named:016x}, but the key in it has {found:016x}"
    ))
}
