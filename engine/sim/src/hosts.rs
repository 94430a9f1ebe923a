//! Clients, servers, and the handlers between them.

pub(crate) mod blocking;
pub(crate) mod chain;
pub(crate) mod client;
pub(crate) mod errand;
pub(crate) mod host;
pub(crate) mod lane;
pub(crate) mod runtime;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod stream_call;
pub(crate) mod task;
pub(crate) mod thread;
