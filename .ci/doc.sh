#!/usr/bin/env bash
# The documentation of every crate: no broken link, no missing page. The private items' too, since
# they are what a contributor reads. And the public API is what docs/public-api.txt lists; with --write
# the list is written again.
set -eu
export RUSTDOCFLAGS="-D warnings"
target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)

# In a folder of its own, where no page of a private or a former item lies.
rm -rf "$target/api/doc"
cargo doc -p corewire --all-features --no-deps --lib --quiet --target-dir "$target/api"
python3 .ci/api.py "$target/api/doc" "$@"

cargo doc --workspace --no-deps --lib --quiet
cargo doc --workspace --no-deps --lib --quiet --document-private-items
