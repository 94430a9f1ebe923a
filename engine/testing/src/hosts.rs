//! The hosts of a user's simulation: what runs on them, and their shards.

pub(crate) mod machine;
mod observed;
