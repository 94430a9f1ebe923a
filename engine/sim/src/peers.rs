//! Peers that break the protocol.

pub(crate) mod hostile;
pub(crate) mod impostor;
