#!/usr/bin/env bash
# Is everything here that the checks need? What Debian has is installed, if that is allowed here; the
# rest is asked for in a sentence.
set -eu

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc gcc
need make make
need ip iproute2
need git git
need python3 python3

if [ -n "$missing" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086  # one word per package
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "ci: these packages are missing:$missing; install them and run again" >&2
        exit 1
    fi
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "ci: cargo is missing; install rustup, which then fetches the toolchain of rust-toolchain.toml" >&2
    exit 1
fi
# rustup fetches the pinned toolchain here, if it is not there yet.
if ! cargo --version; then
    echo "ci: the toolchain that rust-toolchain.toml pins cannot be had; fetch it with: rustup toolchain install" >&2
    exit 1
fi
for component in clippy fmt; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        echo "ci: the pinned toolchain has no 'cargo $component'; add it with: rustup component add clippy rustfmt" >&2
        exit 1
    fi
done
