//! What stands for a shard's channel where there are no shards, so that `Streaming<T>` in a service's trait
//! has a meaning there, too.

use corewire_client::{Message, ReadMessages, StreamFailure};
use std::task::{Context, Poll};

/// A shard's channel, of which there are none without the feature `shard`.
#[derive(Clone, Copy, Debug)]
pub enum Channel {}

/// What a shard reads a stream from.
#[derive(Clone, Copy, Debug)]
pub enum StreamReader {}

impl ReadMessages for StreamReader {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, StreamFailure>>> {
        match *self {}
    }
}
