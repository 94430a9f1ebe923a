#!/usr/bin/env bash
# Every program that people are told to run, run for a moment: does it do what its page says, and end
# as it should? Speed is not looked at here.
set -eu

target=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
bin="$target/release"
work=$(mktemp -d)
children=""
cleanup() {
    for pid in $children; do kill -KILL "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf -- '--- %s\n' "$1"; }
fail() {
    echo "smoke: $1" >&2
    for file in "$work"/*; do
        [ -s "$file" ] && { echo "  $(basename "$file"):"; tail -n 20 "$file" | sed 's/^/    /'; } >&2
    done
    exit 1
}

# within SECONDS COMMAND...: asks ten times a second until the command succeeds.
within() {
    local tries=$(($1 * 10)) try
    shift
    for ((try = 0; try < tries; try++)); do
        "$@" && return 0
        sleep 0.1
    done
    return 1
}

# serve NAME PROGRAM FLAGS...: starts a server on a port of the system's choice; sets `pid` and `addr`.
serve() {
    local name=$1
    shift
    # An earlier server of this name must not be read for this one.
    : >"$work/$name.out"
    "$@" >"$work/$name.out" 2>"$work/$name.err" &
    pid=$!
    children="$children $pid"
    ready_or_gone() { grep -q '^listening ' "$work/$name.out" || ! kill -0 "$pid" 2>/dev/null; }
    within 30 ready_or_gone || fail "$name did not say that it listens within 30 s"
    addr=$(sed -n 's/^listening //p' "$work/$name.out" | head -n 1)
    [ -n "$addr" ] || fail "$name ended before it listened"
}

# stop NAME: SIGTERM ends it within 40 s (the drain deadline is 25), with exit code 0.
stop() {
    kill -TERM "$pid"
    gone() { ! kill -0 "$pid" 2>/dev/null; }
    within 40 gone || fail "$1 runs 40 s after SIGTERM"
    local code=0
    wait "$pid" || code=$?
    [ "$code" -eq 0 ] || fail "$1 ended with exit code $code after SIGTERM"
}

# refuses CODE LINES PROGRAM FLAGS...: ends at once with this code and as many lines of error; at
# LINES = any, what the flag parser adds to its sentence is not counted. Nothing goes to stdout.
refuses() {
    local wanted=$1 lines=$2 code=0
    shift 2
    timeout 30 "$@" >"$work/refused.out" 2>"$work/refused.err" || code=$?
    [ "$code" -eq "$wanted" ] || fail "'${*##*/}' ended with exit code $code, not $wanted"
    head -n 1 "$work/refused.err" | grep -q '^error: ' || fail "'${*##*/}' does not begin with 'error: '"
    [ ! -s "$work/refused.out" ] || fail "'${*##*/}' writes to standard output when it refuses"
    if [ "$lines" != any ] && [ "$(wc -l <"$work/refused.err")" -ne "$lines" ]; then
        fail "'${*##*/}' says more than $lines line(s)"
    fi
}

# A CPU that this process may use.
cpu=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\([0-9]*\).*/\1/p' /proc/self/status)
cpus=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)

say "build"
# All packages at once, here and below: a smaller selection turns on fewer features of what they share,
# and so compiles it again.
cargo build --release --workspace --bins --examples

say "10,000 seeds of the simulation over all kinds of channels, one in eight with a mesh as well, and the bugs that it must find"
# As many seeds of each kind as take about the same time. What a blocking channel does crosses between two threads.
for share in shard=3000 tokio=2500 thread=2500 blocking=1500 mixed=500; do
    shell=${share%=*}
    timeout 600 "$bin/corewire-sim" --seeds "${share#*=}" --shell "$shell" --jobs "$(nproc)" >"$work/sim.out" 2>&1 ||
        fail "a seed broke a rule with channels of the kind $shell"
    tail -n 1 "$work/sim.out"
done
# The planted bugs are in a build of their own, which takes the place of the one that was run above.
cargo build --release --quiet --workspace --bin corewire-sim --features corewire-sim/canary
timeout 300 "$bin/corewire-sim" --canary --seeds 5000 || fail "a planted bug was not found"
for shell in tokio thread blocking; do
    timeout 300 "$bin/corewire-sim" --canary --at-clients --shell "$shell" --seeds 1000 ||
        fail "a planted bug was not found at clients with channels of the kind $shell"
done

say "quickstart"
timeout 60 "$bin/examples/quickstart" --secs 1 >"$work/quickstart.out" 2>"$work/quickstart.err" ||
    fail "quickstart failed"
cat "$work/quickstart.out"
shards=$(sed -n 's/^serving on .* with \([0-9]*\) shards.*/\1/p' "$work/quickstart.out")
grep -q '^shard  cpu  keys       calls    calls/s   p50 µs   p99 µs$' "$work/quickstart.out" ||
    fail "quickstart prints no table"
rows=$(grep -cE '^ +[0-9]+ ' "$work/quickstart.out" || true)
[ "$rows" -eq "${shards:-0}" ] && [ "$rows" -gt 0 ] || fail "quickstart has $shards shards and prints $rows rows"

say "echo_server and corewire bench"
serve echo_server "$bin/examples/echo_server" --addr 127.0.0.1:0 --cores "$cpu"
timeout 60 "$bin/corewire" bench "$addr" --payload 64 --conns 4 --inflight 8 --secs 1 --cpu "$cpu" \
    --server-pid "$pid" --json >"$work/bench.out" 2>"$work/bench.err" || fail "corewire bench failed"
cat "$work/bench.out"
[ "$(wc -l <"$work/bench.out")" -eq 1 ] || fail "--json prints more than one line"
for key in payload conns inflight secs calls errors rps p50_us p90_us p99_us p999_us max_us \
    client_cpu_s server_cpu_s server_rss_mb; do
    grep -qE "\"$key\":[0-9]" "$work/bench.out" || fail "the JSON line has no number '$key'"
done
grep -qE '"errors":0[,}]' "$work/bench.out" || fail "calls failed"
grep -qE '"calls":[1-9]' "$work/bench.out" || fail "no call was made"
timeout 60 "$bin/corewire" bench "$addr" --payload 65536 --conns 2 --inflight 4 --secs 0.3 --spin \
    >"$work/bench.out" 2>"$work/bench.err" || fail "corewire bench with 64 KiB bodies failed"
grep -qE '^calls +[1-9][0-9]* \(0 failed\)$' "$work/bench.out" || fail "the table does not say that no call failed"
timeout 60 "$bin/corewire" bench "$addr" --conns 4 --rate 2000 --arrivals poisson --secs 0.5 --json \
    >"$work/bench.out" 2>"$work/bench.err" || fail "corewire bench --rate failed"
cat "$work/bench.out"
for key in rate offered offered_rps missed late_p50_us late_p99_us late_max_us; do
    grep -qE "\"open\":\{.*\"$key\":[0-9]" "$work/bench.out" || fail "the JSON line of an open loop has no number '$key'"
done
# While it still serves: the same address again is refused, in one sentence.
refuses 2 1 "$bin/examples/echo_server" --addr "$addr" --cores "$cpu"
grep -q 'in use' "$work/refused.err" || fail "a taken address is not called in use"
stop echo_server
# Nobody is there any more: that is one sentence, too.
refuses 2 1 "$bin/corewire" bench "$addr" --secs 0.1 --json

say "echo_server, spinning"
serve echo_server "$bin/examples/echo_server" --addr 127.0.0.1:0 --cores "$cpu" --spin 200
timeout 60 "$bin/corewire" bench "$addr" --secs 0.3 --json >"$work/bench.out" 2>"$work/bench.err" ||
    fail "corewire bench against a spinning server failed"
stop echo_server

say "kv_server and kv_client"
serve kv_server "$bin/examples/kv_server" --addr 127.0.0.1:0 --cores "$cpus"
kv() { timeout 30 "$bin/examples/kv_client" --addr "$addr" "$@" 2>"$work/kv_client.err"; }
kv put colour green || fail "put failed"
[ "$(kv get colour)" = green ] || fail "get does not give back what was put"
for key in a b c d e f g h; do kv put "letter-$key" "$key" || fail "put failed"; done
# Each run is another connection, which lands on any shard: there is one store.
for key in a b c d e f g h; do [ "$(kv get "letter-$key")" = "$key" ] || fail "a key is not seen by the next connection"; done
[ "$(kv keys letter- | wc -l)" -eq 8 ] || fail "keys does not list the keys of all shards"
kv sizes | awk '{ sum += $4 } END { exit sum != 9 }' || fail "sizes does not count nine keys"
kv remove colour || fail "remove failed"
[ "$(kv get colour)" = '(no value)' ] || fail "a removed key has a value"
code=0
kv remove colour || code=$?
[ "$code" -eq 1 ] || fail "removing an absent key ends with exit code $code, not 1"
grep -q '^error: ' "$work/kv_client.err" || fail "removing an absent key gives no error"
stop kv_server

say "from_threads and from_tokio"
serve kv_server "$bin/examples/kv_server" --addr "unix:$work/kv.sock" --cores "$cpu"
for name in from_threads from_tokio; do
    timeout 60 "$bin/examples/$name" >"$work/$name.out" 2>"$work/$name.err" || fail "$name failed"
    timeout 60 "$bin/examples/$name" --addr "$addr" >"$work/$name.out" 2>"$work/$name.err" ||
        fail "$name failed over a Unix socket"
    [ -s "$work/$name.out" ] || fail "$name prints nothing"
done
stop kv_server
[ ! -e "$work/kv.sock" ] || fail "kv_server leaves its socket's file behind"

say "the examples that stream, sharded, and layers"
for name in chat tail upload sharded layers; do
    timeout 60 "$bin/examples/$name" </dev/null >"$work/$name.out" 2>"$work/$name.err" || fail "$name failed"
    [ -s "$work/$name.out" ] || fail "$name prints nothing"
done
grep -qE '^[0-9]+ calls served: p50 [1-9][0-9]* ns, p99 [1-9][0-9]* ns$' "$work/layers.out" || fail "layers does not say how long calls took"
grep -q 'line 19 of 20' "$work/tail.out" || fail "tail does not follow to the last line"
grep -q '67108864 bytes' "$work/upload.out" || fail "upload does not say how much arrived"

say "offload"
timeout 60 "$bin/examples/offload" >"$work/offload.out" 2>"$work/offload.err" || fail "offload failed"
grep -q '^[1-9][0-9]* hashes were offloaded, on 1 threads$' "$work/offload.out" || fail "offload does not say what it offloaded"
grep -q 'held its shard.*Archive/hash_inline' "$work/offload.err" || fail "offload: nobody names the handler that holds the shard"

say "simulated"
timeout 120 "$bin/examples/simulated" >"$work/simulated.out" 2>"$work/simulated.err" || fail "simulated failed"
grep -q '^200 seeds: ' "$work/simulated.out" || fail "simulated does not say how many seeds it ran"
if timeout 120 "$bin/examples/simulated" --careless >"$work/careless.out" 2>"$work/careless.err"; then
    fail "simulated does not find the bug of the careless till"
fi
grep -q 'COREWIRE_SEED=[0-9]' "$work/careless.err" || fail "simulated does not say how to see a failure again"

say "corewire-tune"
code=0
timeout 60 "$bin/corewire-tune" doctor --sample-ms 200 --format json >"$work/tune.out" 2>"$work/tune.err" || code=$?
# Where no card is up that is said, and is no clean report.
if [ "$code" -eq 2 ]; then
    grep -q 'no network card' "$work/tune.err" || fail "corewire-tune doctor could not judge this machine"
else
    [ "$code" -le 1 ] || fail "corewire-tune doctor ended with exit code $code"
fi
grep -q '"version": 2' "$work/tune.out" || fail "corewire-tune doctor writes no version"
code=0
timeout 60 "$bin/corewire-tune" doctor --from tuning/tests/cases/18-wrapped.txt >"$work/tune.out" 2>"$work/tune.err" || code=$?
[ "$code" -eq 2 ] || fail "corewire-tune takes a wrapped file for a whole one"
timeout 60 "$bin/corewire-tune" plan --from tuning/tests/cases/14-two-vfs-one-name.txt --only irq >"$work/tune.out" 2>"$work/tune.err" ||
    fail "corewire-tune plan failed"
timeout 60 "$bin/examples/fuzz" 5 >"$work/tune.out" 2>"$work/tune.err" || fail "a damaged capture makes corewire-tune panic"

say "no colours in files"
if coloured=$(grep -lF $'\033' "$work"/*.out "$work"/*.err); then
    fail "terminal colours in: $(basename -a $coloured | tr '\n' ' ')"
fi

say "wrong flags"
refuses 2 any "$bin/examples/echo_server" --spin never
refuses 2 any "$bin/examples/kv_server" --cores 3-1
refuses 2 any "$bin/examples/quickstart" --secs 0
refuses 2 any "$bin/corewire" bench 127.0.0.1:1 --secs forever
refuses 2 any "$bin/corewire" bench 127.0.0.1:1 --rate 0
refuses 2 any "$bin/corewire" bench
refuses 2 1 "$bin/examples/echo_server" --addr nowhere
refuses 2 any "$bin/examples/from_tokio" --addr unix:
refuses 2 1 "$bin/examples/echo_server" --addr 127.0.0.1:0 --cores 1023
refuses 2 1 "$bin/examples/echo_server" --addr 127.0.0.1:0 --cores "$cpu,$cpu"
refuses 2 1 "$bin/corewire" bench 127.0.0.1:1 --server-pid 2147483647

# What the benches package offers, with the programs that were built above; each has --quick: once,
# briefly, measuring nothing. floor takes about 13 s, compare 50 s, slow_reader 10 s, each other 5 s.
for words in "floor --no-build" "compare --no-build" "overload --no-build" kinds mixed slow_reader deadlines mesh "scaling --no-build"; do
    name=${words%% *}
    if [ "$(nproc)" -lt 2 ]; then
        echo "SKIPPED: $name wants two CPUs"
        continue
    fi
    say "$name --quick"
    # shellcheck disable=SC2086  # a name and its flags
    timeout 900 "$bin/"$words --quick || fail "$name --quick failed"
done
say "criterion benches, each once"
timeout 900 cargo bench --quiet --workspace --bench '*' -- --test || fail "a bench failed"
echo "smoke: every program did what its page says"
