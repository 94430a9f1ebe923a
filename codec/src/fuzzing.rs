//! Bodies of fuzz targets, run over arbitrary bytes by property tests and by fuzzers.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a fuzz body reports by panicking")]
