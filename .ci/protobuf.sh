#!/usr/bin/env bash
# Messages against Python's official protobuf package, which is fetched from PyPI.
set -eu
folder="${CARGO_TARGET_DIR:-target}/ci-python"
if [ ! -x "$folder/bin/python" ]; then
    python3 -m venv "$folder" || { echo "protobuf: python3 has no module venv; install python3-venv" >&2; exit 1; }
fi
"$folder/bin/pip" install --quiet --disable-pip-version-check 'protobuf==7.36.2'
# The link's own path: resolved, it would be the Python without the package.
COREWIRE_PYTHON="$(cd "$folder/bin" && pwd)/python"
export COREWIRE_PYTHON
cargo test -p corewire --test messages_python -- --ignored
