#!/usr/bin/env bash
# Clippy and the compiler over everything, tests included; a warning is an error here and nowhere else.
set -eu
cargo clippy --workspace --all-targets --quiet -- -D warnings
# Clients without shards, each alone: what the others need must not be missed.
for features in "" blocking tokio; do
    cargo clippy -p corewire --no-default-features --features "$features" --quiet -- -D warnings
done
for features in "" remote; do
    cargo clippy -p corewire-client --features "$features" --quiet -- -D warnings
done
cargo clippy -p corewire-engine --quiet -- -D warnings
