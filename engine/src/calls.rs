//! Calls at a server, from the router's door to their end.

pub(crate) mod dispatch;
pub(crate) mod parked;
pub(crate) mod queue_delay;
