#!/usr/bin/env bash
# Clippy and the compiler over everything, tests included; a warning is an error here and nowhere else.
set -eu
cargo clippy --workspace --all-targets --quiet -- -D warnings
