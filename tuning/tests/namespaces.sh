#!/bin/sh
# What goes wrong on real hosts, one by one, on a real kernel in network namespaces of its own: a table of outcomes. Whatever happens,
# no value may be left changed without somebody having confirmed it.
#
# Usage: sh tuning/tests/namespaces.sh     (as root; COREWIRE_TUNE names the program)
# Exit:  0 all as it should be, 1 something was not, 77 skipped: not root, no `ip`, no veth, or fewer than two CPUs.
#
# The host's own cards and settings are never touched; the namespaces and mounts are gone at the end.
set -eu

skip() { echo "SKIPPED: $1" >&2; exit 77; }
fail() { echo "FAILED: $1" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "not root"
command -v ip >/dev/null || skip "the program ip (iproute2) is missing"
[ "$(nproc)" -ge 2 ] || skip "fewer than two CPUs"
[ -n "${COREWIRE_TUNE:-}" ] || fail "COREWIRE_TUNE does not name the program"

space=cwt-n-$$
work=$(mktemp -d)
cleanup() {
    ip netns del "$space" 2>/dev/null || true
    umount "$work/small" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ip netns add "$space" 2>/dev/null || skip "network namespaces cannot be made here"
ip link add one netns "$space" type veth peer name one-peer netns "$space" 2>/dev/null || skip "this kernel has no veth"
ip link add many netns "$space" numtxqueues 4 numrxqueues 4 type veth peer name many-peer netns "$space" numtxqueues 4 numrxqueues 4
inside() { ip netns exec "$space" "$@"; }
for iface in one one-peer many many-peer; do inside ip link set "$iface" up; done
tune() { inside "$COREWIRE_TUNE" "$@"; }
state() { inside sh -c 'cd /sys/class/net && for f in one/queues/*/*ps_cpus many/queues/*/*ps_cpus; do echo "$f $(cat "$f" 2>/dev/null)"; done'; }
row() { printf '| %-44s | %-60s |\n' "$1" "$2"; }
# code COMMAND...: sets $code and keeps the output.
code() { code=0; "$@" >"$work/out" 2>"$work/err" || code=$?; }
# The watcher may need a moment.
restored() {
    tries=0
    until state >"$work/now" && cmp -s "$work/before" "$work/now"; do
        tries=$((tries + 1))
        [ "$tries" -le 200 ] || fail "$1: values were left changed: $(diff "$work/before" "$work/now" | tr '\n' ' ')"
        sleep 0.1
    done
}

row "what happens" "outcome"
row "---" "---"

state >"$work/before"
tune plan --iface one --rps --sample-ms 0 --format json >"$work/one.json"
code tune apply "$work/one.json" --confirm --state-dir "$work/one"
mask=$(inside cat /sys/class/net/one/queues/rx-0/rps_cpus)
all=$(inside "$COREWIRE_TUNE" plan --iface one --sample-ms 0 | sed -n 's/.*shards on CPUs \([^,]*\).*/\1/p')
[ "$code" = 0 ] || fail "single-queue veth: $(cat "$work/err")"
case $mask in *[!0,]*[!0,]* | *[3579bdf]*) ;; *) fail "single-queue veth: the mask $mask has one CPU" ;; esac
row "single-queue veth, plan --rps" "rps_cpus $mask for shards on CPUs $all; exit $code"
code tune undo --state-dir "$work/one"
restored "single-queue veth"

for queue in 0 1 2 3; do inside sh -c "echo 2 >/sys/class/net/many/queues/rx-$queue/rps_cpus"; done
state >"$work/before"
code tune doctor --iface many --sample-ms 0
grep -q RPS_PILE "$work/out" || fail "multi-queue veth: RPS_PILE was not found"
tune plan --iface many --only rps --sample-ms 0 --format json >"$work/many.json"
code tune apply "$work/many.json" --confirm --state-dir "$work/many"
[ "$code" = 0 ] || fail "multi-queue veth: $(cat "$work/err")"
code tune doctor --iface many --sample-ms 0
grep -q RPS_PILE "$work/out" && fail "multi-queue veth: RPS_PILE is still there"
code tune undo --state-dir "$work/many"
restored "multi-queue veth"
row "multi-queue veth, all steered to one CPU" "RPS_PILE found, fixed, gone; undo restores every byte"

# The signal comes with the first write, the second, and so on, until the apply is done before it: journal, watcher and machine
# are written by the same call, so that every step is met before and after.
ended=0 places=
if command -v strace >/dev/null; then
    for signal in TERM KILL HUP; do
        at=0 code=1
        while [ "$code" != 0 ]; do
            at=$((at + 1))
            [ "$at" -le 200 ] || fail "signal $signal: the apply never ends"
            rm -rf "$work/signal"
            code=0
            inside strace -qqq -o /dev/null -e "inject=write:signal=$signal:when=$at" "$COREWIRE_TUNE" apply "$work/many.json" \
                --confirm-within 600 --state-dir "$work/signal" >/dev/null 2>&1 || code=$?
            places="$places $(grep -c '"record":"intent"' "$work/signal/journal.jsonl" 2>/dev/null || true)"
            # Complete when the signal came: then it waits for its confirmation, and we take it back.
            if grep -q '"record":"complete"' "$work/signal/journal.jsonl" 2>/dev/null; then code=0; fi
            if [ "$code" = 0 ]; then tune undo --state-dir "$work/signal" >/dev/null 2>&1 || true; else ended=$((ended + 1)); fi
            restored "signal $signal at write $at"
        done
    done
    places=$(echo "$places" | tr ' ' '\n' | grep . | sort -nu | tr '\n' ' ')
    row "TERM, KILL, HUP at every write, --confirm-within" "$ended applies ended, with steps begun: $places; all taken back"
else
    row "TERM, KILL, HUP at every write, --confirm-within" "not run: strace is missing"
fi

tune apply "$work/many.json" --confirm-within 600 --state-dir "$work/a" >"$work/a.out" 2>&1 &
first=$!
tune apply "$work/many.json" --confirm-within 600 --state-dir "$work/b" >"$work/b.out" 2>&1 &
second=$!
one=0 two=0
wait "$first" || one=$?
wait "$second" || two=$?
case $one-$two in 0-3 | 3-0) ;; *) fail "two applies at once ended with $one and $two" ;; esac
row "two applies at once, two state directories" "one exit 0, the other exit 3"
for dir in a b; do tune undo --state-dir "$work/$dir" >/dev/null 2>&1 || true; done
restored "two applies"

mkdir "$work/small"
mount -t tmpfs -o size=16k none "$work/small"
dd if=/dev/zero of="$work/small/fill" bs=4k count=9 2>/dev/null || true
code tune apply "$work/many.json" --confirm-within 600 --state-dir "$work/small"
[ "$code" = 3 ] || fail "disk full before: exit $code, $(cat "$work/err")"
restored "disk full before"
row "disk full before the apply" "exit 3, nothing written"
umount "$work/small"
mount -t tmpfs -o size=64k none "$work/small"
code tune apply "$work/many.json" --confirm --state-dir "$work/small"
[ "$code" = 0 ] || fail "disk full after: exit $code, $(cat "$work/err")"
dd if=/dev/zero of="$work/small/fill" bs=4k count=99 2>/dev/null || true
code tune undo --state-dir "$work/small"
restored "disk full after"
row "disk full after the apply, then undo" "exit $code, everything put back"
umount "$work/small"

read_only() { inside unshare -m sh -c 'mount -o remount,ro,bind /sys 2>/dev/null || mount -o remount,ro /sys; exec "$@"' sh "$@"; }
code read_only "$COREWIRE_TUNE" apply "$work/many.json" --confirm-within 600 --state-dir "$work/ro"
[ "$code" = 4 ] || fail "read-only /sys: exit $code, $(cat "$work/err")"
grep -q EROFS "$work/err" || fail "read-only /sys: the cause is not named: $(cat "$work/err")"
restored "read-only /sys"
row "read-only /sys" "exit 4, EROFS named, nothing left behind"

masked() { inside unshare -m sh -c 'mount --bind /dev/null /proc/interrupts; exec "$@"' sh "$@"; }
code masked "$COREWIRE_TUNE" doctor --iface many --sample-ms 0
[ "$code" -le 1 ] || fail "masked /proc/interrupts: exit $code, $(cat "$work/err")"
grep -q 'a container hides it' "$work/out" || fail "masked /proc/interrupts: the report does not say it"
row "masked /proc/interrupts" "exit $code, the rest is judged, the report says what is hidden"

tune plan --iface many --sample-ms 0 --emit-placement "$work/placement.toml" >/dev/null
code tune doctor --iface many --sample-ms 0 --placement "$work/placement.toml"
free=$(grep -c CPUSET_MISMATCH "$work/out" || true)
code inside taskset -c 0 "$COREWIRE_TUNE" doctor --iface many --sample-ms 0 --placement "$work/placement.toml"
[ "$(grep -c CPUSET_MISMATCH "$work/out" || true)$free" = 00 ] || fail "under taskset: CPUSET_MISMATCH"
row "under taskset -c 0" "no CPUSET_MISMATCH, the same placement"

code tune doctor --iface many --engine-pid 4194304 --sample-ms 0
[ "$code" = 2 ] || fail "a process that is not there: exit $code"
row "a process id that does not exist" "exit 2: $(sed 's/^corewire-tune: //' "$work/err")"
echo
echo "ALL AS IT SHOULD BE"
