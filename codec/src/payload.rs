//! Codecs: how a value becomes the body of a frame.

pub(crate) mod codec;
