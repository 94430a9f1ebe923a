#!/usr/bin/env bash
# The layers hold: which crate may know which, where `unsafe` and the runtime's name may stand, and
# that no lock is near a call's path. docs/ARCHITECTURE.md says why.
set -eu

failed=0
fail() { echo "layers: $1" >&2; failed=1; }

# Every crate that a crate reaches, by name, tests and build scripts left out; with flags for cargo.
reach() {
    local crate=$1
    shift
    cargo tree --quiet --locked -p "$crate" "$@" -e normal --prefix none --format '{p}' |
        cut -d' ' -f1 | sort -u | grep -vx "$crate" || true
}

# may_not CRATE NAME...: none of these is reached.
may_not() {
    local crate=$1 reached name
    shift
    reached=$(reach "$crate")
    for name in "$@"; do
        if grep -qx "$name" <<<"$reached"; then
            fail "$crate must not depend on $name; see: cargo tree -p $crate -e normal -i $name"
        fi
    done
}

# Bytes know nothing but bytes; the protocol knows bytes; clients know the protocol, and shards know both.
may_not corewire-codec corewire-proto corewire-client corewire-engine corewire corewire-macros \
    glommio-ng glommio rustix nix tokio flume tracing
may_not corewire-proto corewire-client corewire-engine corewire corewire-macros \
    glommio-ng glommio rustix nix tokio flume tracing
may_not corewire-client corewire-engine corewire corewire-macros glommio-ng glommio rustix tokio flume
may_not corewire-engine corewire corewire-macros tokio
may_not corewire-testing corewire corewire-macros corewire-sim tokio
may_not corewire-sim corewire corewire-macros tokio
may_not corewire corewire-testing tokio
may_not corewire-macros corewire-codec corewire-proto corewire-client corewire-engine corewire glommio-ng
may_not corewire-placement corewire-codec corewire-proto corewire-client corewire-engine corewire corewire-macros \
    glommio-ng glommio rustix nix tokio flume tracing
may_not corewire-tune corewire-codec corewire-proto corewire-client corewire-engine corewire glommio-ng

# Nobody knows the simulator. It, and what users test with, open the engine's door for simulations; nobody else does.
if found=$(git ls-files -co --exclude-standard -- '*Cargo.toml' | grep -v '^engine/sim/' | xargs grep -n 'corewire-sim'); then
    fail "corewire-sim is a dependency of another package:"$'\n'"$found"
fi
if found=$(git ls-files -co --exclude-standard -- '*Cargo.toml' | grep -vE '^engine/((sim|testing)/)?Cargo\.toml$' | xargs grep -nE 'features *= *\[[^]]*"(sim|canary)"'); then
    fail "the engine's features for the simulator are used by another package:"$'\n'"$found"
fi

# A client without shards brings no runtime but the one it is for. The first check can see: with
# shards there is glommio.
grep -qx glommio-ng <<<"$(reach corewire)" || fail "corewire reaches no glommio-ng; fix the search"
for features in blocking tokio blocking,tokio; do
    reached=$(reach corewire --no-default-features --features "$features")
    banned="corewire-engine glommio-ng rustix io-uring signal-hook"
    [ "$features" = blocking ] && banned="$banned tokio flume oneshot"
    for name in $banned; do
        if grep -qx "$name" <<<"$reached"; then
            fail "corewire with only $features must not depend on $name"
        fi
    done
done

# Whoever can do without `unsafe` says so where nobody can overrule it.
for root in codec/src/lib.rs engine/proto/src/lib.rs engine/client/src/lib.rs engine/placement/src/lib.rs engine/testing/src/lib.rs engine/sim/src/lib.rs services/src/lib.rs services/macros/src/lib.rs \
    services/cli/src/main.rs examples/shared/lib.rs tuning/src/lib.rs; do
    grep -q '^#!\[forbid(unsafe_code)\]' "$root" || fail "$root lacks #![forbid(unsafe_code)]"
done

# Product code, without tests and the macro's own words about `unsafe`.
product() { git ls-files -co --exclude-standard -- "$@" | grep -E '\.rs$' | grep -vE '(^|/)tests(/|\.rs$)|/fuzz/|/snapshots/' || true; }

unsafe_code='\bunsafe[[:space:]]*(\{|fn\b|impl\b|extern\b)'
if found=$(product '*.rs' | grep -vE '^engine/src/(net/epoll|host/trim)\.rs$' | xargs grep -nE "$unsafe_code"); then
    fail "unsafe outside engine/src/net/epoll.rs and engine/src/host/trim.rs:"$'\n'"$found"
fi
# The check above can see: the block that is there is found by it.
grep -qE "$unsafe_code" engine/src/net/epoll.rs || fail "the search for unsafe finds none in engine/src/net/epoll.rs; fix the search"

# One file knows the runtime by name. Comments may speak of it.
if found=$(product '*.rs' | grep -v '^engine/src/driver/runtime\.rs$' | xargs grep -nE '(\bglommio::|use glommio\b)'); then
    fail "glommio is named outside engine/src/driver/runtime.rs:"$'\n'"$found"
fi
if found=$(git ls-files -co --exclude-standard -- '*Cargo.toml' | grep -vE '^(Cargo|engine/Cargo)\.toml$' | xargs grep -n '^glommio'); then
    fail "glommio is a dependency outside engine/Cargo.toml:"$'\n'"$found"
fi

# Shared nothing: no lock where calls pass.
locks='\b(Mutex|RwLock|Condvar|OnceLock|LazyLock)\b'
if found=$(product codec engine services/src examples | xargs grep -nE "$locks"); then
    fail "a lock near a call's path:"$'\n'"$found"
fi

# The layers without I/O cannot reach a clock, a thread or a socket: clippy's bans are in place.
for folder in codec engine/proto; do
    for banned in std::time::Instant::now std::time::SystemTime::now std::thread::spawn std::thread::sleep \
        std::sync::Mutex std::sync::RwLock std::net::TcpStream std::net::TcpListener std::net::UdpSocket; do
        grep -q "\"$banned\"" "$folder/clippy.toml" || fail "$folder/clippy.toml does not ban $banned"
    done
done

# Inside the crates: no files import one another, but for those that are listed.
python3 .ci/arrows.py codec/src engine/placement/src engine/proto/src engine/client/src engine/src engine/testing/src engine/sim/src services/src services/cli/src services/macros/src \
    benches/src tuning/src || failed=1

[ "$failed" -eq 0 ] || exit 1
echo "layers: the arrows, the unsafe blocks, the runtime's name and the locks are where they belong"
