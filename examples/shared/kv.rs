//! A small key-value service: one store over all shards. Each shard has the keys that it owns, without locks, and nothing
//! is `Send`.

use corewire::{OnShardError, Sharded, Status, Streaming};
use futures_lite::stream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Keys and values. A call with a key runs on the shard that owns the key, whichever connection it came on.
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
    /// The keys that begin with this, in their order, of all shards.
    async fn keys(&self, prefix: String) -> Result<Streaming<String>, Status>;
    /// How many keys each shard holds.
    async fn sizes(&self) -> Result<Vec<u64>, Status>;
}

/// The longest key.
pub const KEY_BYTES_MAX: usize = 1024;

/// One shard's part of the store.
pub type Part = RefCell<HashMap<String, Vec<u8>>>;

/// The store, as one shard serves it.
#[derive(Debug)]
pub struct Store {
    parts: Sharded<Part>,
    /// This shard's part.
    here: Rc<Part>,
}

impl Store {
    /// The store whose parts these are; to be made on a shard.
    #[must_use]
    pub fn new(parts: &Sharded<Part>) -> Self {
        Self { parts: parts.clone(), here: parts.here() }
    }

    /// The parts of an empty store.
    #[must_use]
    pub fn parts() -> Sharded<Part> {
        Sharded::new(|_shard| Part::default())
    }
}

impl KeyValue for Store {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status> {
        Ok(self.here.borrow().get(&key).cloned())
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let bytes = key.len();
            return Err(Status::invalid_argument(format!(
                "the key has {bytes} bytes; it must have between 1 and {KEY_BYTES_MAX}"
            )));
        }
        Ok(self.here.borrow_mut().insert(key, value))
    }

    async fn remove(&self, key: String) -> Result<(), Status> {
        match self.here.borrow_mut().remove(&key) {
            Some(_) => Ok(()),
            None => Err(Status::not_found("there is no such key")),
        }
    }

    async fn keys(&self, prefix: String) -> Result<Streaming<String>, Status> {
        let matching = move |part: &Part| -> Vec<String> {
            part.borrow().keys().filter(|it| it.starts_with(&prefix)).cloned().collect()
        };
        let parts = self.parts.map_all(matching).await;
        let parts: Vec<Vec<String>> = parts.into_iter().collect::<Result<_, OnShardError>>()?;
        let mut keys = parts.concat();
        keys.sort_unstable();
        // It is sent as the caller reads.
        Ok(Streaming::from_stream(stream::iter(keys.into_iter().map(Ok))))
    }

    async fn sizes(&self) -> Result<Vec<u64>, Status> {
        let sizes = self.parts.map_all(|part| part.borrow().len() as u64).await;
        Ok(sizes.into_iter().collect::<Result<_, OnShardError>>()?)
    }
}
