#!/usr/bin/env bash
# The layout of all Rust code, by rustfmt.toml. To fix it: cargo fmt --all
set -eu
cargo fmt --all --check
