#!/usr/bin/env bash
# The README's test command, to the letter.
set -eu
cargo test --workspace
