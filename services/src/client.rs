//! The caller's side: generated clients, their options and their results.

pub(crate) mod caller;
pub(crate) mod one_way;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod request;
pub(crate) mod response;
