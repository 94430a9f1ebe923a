//! The caller's side: generated clients, their options and their results.
//!
//! Metadata, attachment, priority, trace and timeout are options of a caller (`options.rs`): `client.with(options)`
//! is a client that sends them with every call. They go into the request's head, and around the body through the
//! closure that writes it, so every kind of channel carries them. A call without any pays one comparison.
//! `call.with_response()` returns what came with the reply.
//!
//! `client.in_context(&context)` calls on behalf of a handler's own caller: with what is left of its time, its
//! priority, and its trace under a new span. Cancelling needs no call for it: a handler that is dropped drops its
//! calls, and each of those cancels the next. `services/tests/chain.rs` follows both through three servers.

pub(crate) mod caller;
pub(crate) mod one_way;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod request;
pub(crate) mod response;
