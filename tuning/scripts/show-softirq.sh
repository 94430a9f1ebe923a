#!/bin/sh
# Shows where packets are processed: /proc/net/softnet_stat by CPU, and how much it grew in a while.
#
# Usage: show-softirq.sh [--root DIR] [--seconds N] [--dry-run]
# Column 1 is the one that counts: packets that this CPU took up the stack. NET_RX in /proc/softirqs counts runs, not packets.
# Changes nothing; --dry-run is accepted so that all scripts take the same words. Exit: 0 shown, 2 not readable, 64 usage.
set -eu

ROOT=
SECONDS_BETWEEN=1
while [ $# -gt 0 ]; do
    case $1 in
        --root) ROOT=${2:?}; shift 2 ;;
        --seconds) SECONDS_BETWEEN=${2:?}; shift 2 ;;
        --dry-run) shift ;;
        *) echo "usage: $0 [--root DIR] [--seconds N] [--dry-run]" >&2; exit 64 ;;
    esac
done
file=$ROOT/proc/net/softnet_stat
[ -r "$file" ] || { echo "$file cannot be read" >&2; exit 2; }

# One line for each CPU: number, processed, dropped, squeezed, handed over by RPS. Kernels before 5.10 do not name the CPU; then
# the row's number stands for it, which is wrong where a CPU is offline.
sample() {
    row=0
    # The unnamed columns are fields that the kernel keeps at zero.
    # shellcheck disable=SC2034
    while read -r processed dropped squeezed c4 c5 c6 c7 c8 c9 rps c11 c12 cpu rest; do
        echo "$((0x${cpu:-$(printf '%x' "$row")})) $((0x$processed)) $((0x$dropped)) $((0x$squeezed)) $((0x${rps:-0}))"
        row=$((row + 1))
    done < "$file"
}

before=$(sample)
[ "$SECONDS_BETWEEN" = 0 ] || sleep "$SECONDS_BETWEEN"
after=$(sample)
printf '%-6s %12s %10s %10s %10s   (in %s s)\n' cpu packets dropped squeezed by-rps "$SECONDS_BETWEEN"
echo "$after" | while read -r cpu processed dropped squeezed rps; do
    old=$(echo "$before" | grep "^$cpu " || echo "$cpu 0 0 0 0")
    # The fields of one line of our own making.
    # shellcheck disable=SC2086
    set -- $old
    # The kernel's counters are 32 bits wide and wrap.
    printf '%-6s %12s %10s %10s %10s\n' "$cpu" $(((processed - $2) & 0xffffffff)) $(((dropped - $3) & 0xffffffff)) \
        $(((squeezed - $4) & 0xffffffff)) $(((rps - $5) & 0xffffffff))
done
