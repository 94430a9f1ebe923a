#!/usr/bin/env bash
# The documentation of every crate: no broken link, no missing page. The private items' too, since
# they are what a contributor reads.
set -eu
export RUSTDOCFLAGS="-D warnings"
cargo doc --workspace --no-deps --lib --quiet
cargo doc --workspace --no-deps --lib --quiet --document-private-items
