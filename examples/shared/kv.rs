//! A small key-value service: state per shard, no locks, nothing `Send`.

use corewire::{Context, Status, Streaming};
use futures_lite::stream;
use std::cell::RefCell;
use std::collections::HashMap;

/// Keys and values, each shard for itself: a client sees the keys of the shard it is connected to.
#[corewire::service]
pub trait KeyValue {
    /// The value of a key.
    #[corewire(key = "key")]
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status>;
    /// Sets a key; returns the value that it had before.
    #[corewire(key = "key")]
    async fn put(&self, key: String, value: Vec<u8>) -> Result<Option<Vec<u8>>, Status>;
    /// Removes a key.
    #[corewire(key = "key")]
    async fn remove(&self, key: String) -> Result<(), Status>;
    /// The keys that begin with this, in their order.
    async fn keys(&self, prefix: String) -> Result<Streaming<String>, Status>;
    /// How many keys the shard that answers holds, and which shard it is.
    async fn size(&self, context: &Context) -> Result<(u16, u64), Status>;
}

/// The longest key.
pub const KEY_BYTES_MAX: usize = 1024;

/// One shard's part.
#[derive(Debug, Default)]
pub struct Store {
    values: RefCell<HashMap<String, Vec<u8>>>,
}

impl KeyValue for Store {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status> {
        Ok(self.values.borrow().get(&key).cloned())
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let bytes = key.len();
            return Err(Status::invalid_argument(format!(
                "the key has {bytes} bytes; it must have between 1 and {KEY_BYTES_MAX}"
            )));
        }
        Ok(self.values.borrow_mut().insert(key, value))
    }

    async fn remove(&self, key: String) -> Result<(), Status> {
        match self.values.borrow_mut().remove(&key) {
            Some(_) => Ok(()),
            None => Err(Status::not_found("the key is not here")),
        }
    }

    async fn keys(&self, prefix: String) -> Result<Streaming<String>, Status> {
        let values = self.values.borrow();
        let mut keys: Vec<_> =
            values.keys().filter(|it| it.starts_with(&prefix)).cloned().collect();
        keys.sort_unstable();
        // It is sent as the caller reads.
        Ok(Streaming::from_stream(stream::iter(keys.into_iter().map(Ok))))
    }

    async fn size(&self, context: &Context) -> Result<(u16, u64), Status> {
        Ok((context.shard().0, self.values.borrow().len() as u64))
    }
}
