#!/bin/sh
# The whole story on a real kernel: a veth pair with 4 x 4 queues whose receive side steers everything to one CPU; the doctor finds
# it, verify says FAIL under load, plan and apply fix it, verify says PASS, undo restores every byte. Then the same for a change of
# the number of queues, which recreates them, for an apply that nobody confirms, and for a value that the kernel refuses.
#
# Usage: sh tuning/tests/story.sh          (as root; builds the program if COREWIRE_TUNE and FLOOD do not name it; with ECHO_SERVER,
#        the example of that name, also that the engine's shards are where the placement puts them, and how many connections are
#        read on the CPU of their packets)
# Exit:  0 all as told, 1 something was not, 77 skipped: not root, no `ip`, no veth, or fewer than two CPUs.
#
# Everything happens in two network namespaces of its own, which are deleted at the end. The host's own cards are never touched.
set -eu

skip() { echo "SKIPPED: $1" >&2; exit 77; }
fail() { echo "STORY FAILED: $1" >&2; exit 1; }
say() { echo; echo "== $1"; }

[ "$(id -u)" = 0 ] || skip "not root"
command -v ip >/dev/null || skip "the program ip (iproute2) is missing"
[ "$(nproc)" -ge 2 ] || skip "one CPU alone cannot show a spread"

here=$(cd "$(dirname "$0")/../.." && pwd)
if [ -z "${COREWIRE_TUNE:-}" ] || [ -z "${FLOOD:-}" ]; then
    (cd "$here" && cargo build --quiet --release -p corewire-tune --bin corewire-tune --example flood --example locality)
    target=${CARGO_TARGET_DIR:-$here/target}
    COREWIRE_TUNE=$target/release/corewire-tune
    FLOOD=$target/release/examples/flood
fi
LOCALITY=${LOCALITY:-$(dirname "$FLOOD")/locality}

server=cwt-s-$$
client=cwt-c-$$
work=$(mktemp -d)
sink=
sender=
server_pid=
cleanup() {
    [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
    [ -z "$sender" ] || kill "$sender" 2>/dev/null || true
    [ -z "$sink" ] || kill "$sink" 2>/dev/null || true
    ip netns del "$server" 2>/dev/null || true
    ip netns del "$client" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

ip netns add "$server" 2>/dev/null || skip "network namespaces cannot be made here"
ip netns add "$client"
ip link add vs netns "$server" numtxqueues 4 numrxqueues 4 type veth \
    peer name vc netns "$client" numtxqueues 5 numrxqueues 4 2>/dev/null || skip "this kernel has no veth"
in_server() { ip netns exec "$server" "$@"; }
in_client() { ip netns exec "$client" "$@"; }
in_server ip addr add 198.18.0.1/30 dev vs
in_client ip addr add 198.18.0.2/30 dev vc
in_server ip link set vs up
in_client ip link set vc up
# A packet that was sent by queue k of a veth counts as received by queue k-1 of the other end, and so do those of queue 0, as
# queue 0 (seen on kernel 6.18). Sending by queues 1 to 4 alone feeds the four receive queues alike.
for queue in 1 2 3 4; do
    in_client sh -c "echo 1 > /sys/class/net/vc/queues/tx-$queue/xps_cpus"
done

tune() { in_server "$COREWIRE_TUNE" "$@"; }
state() {
    # shellcheck disable=SC2016 # the inner shell expands it
    in_server sh -c 'cd /sys/class/net/vs/queues && for f in */rps_cpus */rps_flow_cnt */xps_cpus; do echo "$f $(cat "$f")"; done'
}
load() { # seconds
    # Not by the function: then the process id would be a subshell's, and ending it would leave the program.
    ip netns exec "$client" "$FLOOD" send 198.18.0.1:9000 256 60000 "$1" >/dev/null &
    sender=$!
}
end_load() { kill "$sender" 2>/dev/null || true; wait "$sender" 2>/dev/null || true; sender=; }
# verify_says EXPECTED NAME: other traffic of the host shows in the same counters, so a verdict may need a second look.
verify_says() {
    for try in 1 2 3; do
        load 8
        code=0
        tune verify --iface vs --duration 4 --cpus 0-1 --flows 256 --json > "$work/$2.json" || code=$?
        end_load
        [ "$code" = "$1" ] && break
        echo "look $try said $code, expected $1: $(sed -n '/"reasons"/,/]/p' "$work/$2.json" | tr -d '\n')"
    done
    [ "$code" = "$1" ] || fail "verify $2 ended with $code, expected $1"
    grep -E '"(verdict|jain|max_over_mean|packets)":' "$work/$2.json" | tr -d '\n'
    echo
}

ip netns exec "$server" "$FLOOD" sink 198.18.0.1:9000 >/dev/null &
sink=$!

say "1. all four queues are steered to CPU 1"
for queue in 0 1 2 3; do
    in_server sh -c "echo 2 > /sys/class/net/vs/queues/rx-$queue/rps_cpus"
done
state > "$work/wrong"
cat "$work/wrong"

say "2. the doctor finds it, with evidence"
load 8
code=0
tune doctor --iface vs --sample-ms 2000 > "$work/doctor" || code=$?
end_load
cat "$work/doctor"
[ "$code" = 1 ] || fail "the doctor ended with $code, expected 1"
grep -q '^FAULT  RPS_PILE' "$work/doctor" || fail "the doctor did not find RPS_PILE"
grep -q 'rx-3/rps_cpus = 2' "$work/doctor" || fail "the doctor did not show the masks"

say "3. verify under load says FAIL"
verify_says 1 before

say "4. the plan"
tune plan --iface vs --only rps > "$work/plan.txt"
cat "$work/plan.txt"
tune plan --iface vs --only rps --format json > "$work/plan.json"
tune plan --iface vs --only rps --format sh > "$work/plan.sh"
in_server sh "$work/plan.sh" dry-run

say "5. apply --confirm"
tune apply "$work/plan.json" --confirm --state-dir "$work/state"
tune status --state-dir "$work/state"
tune apply "$work/plan.json" --confirm --state-dir "$work/state" | grep -q 'nothing to do' || fail "a second apply did something"
[ "$(tune plan --iface vs --only rps --sample-ms 0 | tail -n 1)" = "nothing to do" ] || fail "a second plan has steps"

say "6. verify under load says PASS"
verify_says 0 after
tune verify --before "$work/before.json" --after "$work/after.json"

say "7. undo restores every byte"
tune undo --state-dir "$work/state"
state > "$work/undone"
cmp "$work/wrong" "$work/undone" || fail "undo did not restore the state"
echo "equal"

say "8. the same by the script that the plan wrote"
in_server sh "$work/plan.sh" apply
in_server sh "$work/plan.sh" undo
state > "$work/undone"
cmp "$work/wrong" "$work/undone" || fail "the script's undo did not restore the state"
echo "equal"

say "9. fewer queues: they are recreated, and undo brings their masks back"
in_server sh -c 'echo 1 > /sys/class/net/vs/queues/tx-3/xps_cpus'
state > "$work/wrong"
tune plan --iface vs --queues 2 --only queues,rps,xps --sample-ms 0 --format json > "$work/queues.json"
tune apply "$work/queues.json" --confirm --state-dir "$work/state"
[ "$(in_server sh -c 'ls -d /sys/class/net/vs/queues/rx-* | wc -l')" = 2 ] || fail "there are not two receive queues"
tune undo --state-dir "$work/state"
state > "$work/undone"
cmp "$work/wrong" "$work/undone" || fail "undo did not restore what the change of queues forgot"
echo "equal"

say "10. an apply that nobody confirms takes itself back"
tune apply "$work/plan.json" --confirm-within 1 --state-dir "$work/state"
state > "$work/applied"
cmp -s "$work/wrong" "$work/applied" && fail "the apply did nothing"
tries=0
until state > "$work/undone" && cmp -s "$work/wrong" "$work/undone"; do
    tries=$((tries + 1))
    [ "$tries" -le 100 ] || fail "it was not taken back within 20 s"
    sleep 0.2
done
echo "equal"

say "11. a value that the kernel refuses, at the last step, takes everything back"
# The last step's mask becomes one of CPU 8191, which this machine does not have.
far=80000000$(printf ',00000000%.0s' $(seq 255))
line=$(grep -n '"new"' "$work/plan.json" | tail -n 1 | cut -d : -f 1)
sed "${line}s/\"new\": \"[^\"]*\"/\"new\": \"$far\"/" "$work/plan.json" > "$work/refused.json"
code=0
tune apply "$work/refused.json" --confirm --state-dir "$work/state" 2> "$work/refused" || code=$?
cat "$work/refused"
[ "$code" = 4 ] || fail "the apply ended with $code, expected 4"
grep -q 'rps_cpus: refused with' "$work/refused" || fail "the refusal does not name the file"
state > "$work/undone"
cmp "$work/wrong" "$work/undone" || fail "the refused apply left something behind"
echo "equal"

serve() { # cores
    # The background shell empties the file when it comes to it; what the last server said must be gone before.
    : >"$work/server"
    ip netns exec "$server" "$ECHO_SERVER" --addr 198.18.0.1:0 --cores "$1" >"$work/server" 2>&1 &
    server_pid=$!
    tries=0
    until grep -q '^listening ' "$work/server"; do
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || fail "the server does not listen: $(cat "$work/server")"
        sleep 0.1
    done
}

if [ -n "${ECHO_SERVER:-}" ]; then
    say "12. the engine on the CPUs of the same placement, and on others"
    tune plan --iface vs --sample-ms 0 --shards 1 --emit-placement "$work/placement.toml" >/dev/null
    ours=$(sed -n '/^\[\[shard\]\]/,/^\[\[queue\]\]/s/^cpu = //p' "$work/placement.toml" | paste -sd , -)
    [ -n "$ours" ] || fail "placement.toml names no CPU of a shard"
    for cores in "$ours" "$((1 - ours))"; do
        serve "$cores"
        # The shell's child becomes the server: its id is the server's own.
        code=0
        tune doctor --iface vs --sample-ms 0 --placement "$work/placement.toml" --engine-pid "$server_pid" >"$work/doctor" || code=$?
        kill "$server_pid" && wait "$server_pid" 2>/dev/null || true
        off=$(grep -c SHARD_OFF_PLACEMENT "$work/doctor" || true)
        echo "shards on CPUs $cores, placement says $ours: SHARD_OFF_PLACEMENT $off times"
        if [ "$cores" = "$ours" ]; then wanted=0; else wanted=1; fi
        [ "$off" = "$wanted" ] || fail "SHARD_OFF_PLACEMENT was said $off times: $(cat "$work/doctor")"
    done
    server_pid=

    say "13. how many connections are read on the CPU of their packets (the engine decides that, and the story only shows it)"
    tune plan --iface vs --sample-ms 0 --rps --only rps --emit-placement "$work/placement.toml" --format json > "$work/plan.json"
    tune apply "$work/plan.json" --confirm --state-dir "$work/state"
    ours=$(sed -n '/^\[\[shard\]\]/,/^\[\[queue\]\]/s/^cpu = //p' "$work/placement.toml" | paste -sd , -)
    serve "$ours"
    ip netns exec "$client" "$LOCALITY" "$(sed -n 's/^listening //p' "$work/server")" "$server_pid" 64
    kill "$server_pid" && wait "$server_pid" 2>/dev/null || true
    server_pid=
    tune undo --state-dir "$work/state"
fi

echo
echo "STORY PASSED"
