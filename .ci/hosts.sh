#!/usr/bin/env bash
# The tests in which a shard's host matters, on the plain host; the check `test` has run them on the default one.
# The hosts' own tests, in services/tests/hosts.rs, choose for themselves.
set -eu

run() {
    # Cold builds included; a test that hangs must not hold up the run.
    COREWIRE_HOST=plain timeout --kill-after=30 1800 "$@" || {
        echo "hosts: on the plain host, this failed or took more than 30 minutes: COREWIRE_HOST=plain $*" >&2
        exit 1
    }
}

# Over the whole workspace, as in the check `test`, so that nothing is built a second time.
tests=""
for name in shells stream_shells drain closing start stops panics idle_cpu nested_shards \
    names server_handle affinity streams client_threads outcomes; do
    [ -f "services/tests/$name.rs" ] || {
        echo "hosts: services/tests/$name.rs is gone; correct the list in .ci/hosts.sh" >&2
        exit 1
    }
    tests="$tests --test $name"
done
# shellcheck disable=SC2086  # names and their flags
run cargo test --workspace $tests
run cargo test --workspace --lib -- driver:: host::
echo "hosts: the plain host does what the default one does"
