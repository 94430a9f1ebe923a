#!/bin/sh
# Doubles a card's receive ring, once, up to its limit, and prints the command that takes it back.
#
# Usage: grow-ring.sh [--dry-run] IF        (root)
# Only after show-ring.sh showed a counter that grows, and only if the CPU of that queue is not full: a bigger ring in front of a
# full CPU delays the drops and adds latency. A new size restarts the card's queues for some milliseconds.
# Exit: 0 done, 2 the card says no size, 3 already at the limit, 4 refused, 64 usage.
set -eu

DRY=
IF=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) DRY=1; shift ;;
        -*) echo "usage: $0 [--dry-run] IF" >&2; exit 64 ;;
        *) IF=$1; shift ;;
    esac
done
[ -n "$IF" ] || { echo "usage: $0 [--dry-run] IF" >&2; exit 64; }

# ethtool prints the limits first and the current sizes second, under the same names.
rx=$(ethtool -g "$IF" 2>/dev/null | sed -n 's/^RX:[[:space:]]*\([0-9][0-9]*\).*/\1/p')
most=$(echo "$rx" | sed -n 1p)
now=$(echo "$rx" | sed -n 2p)
[ -n "$now" ] || { echo "$IF does not say its ring size" >&2; exit 2; }
[ "$now" -lt "$most" ] || { echo "the ring of $IF is at its limit of $most; spread the work instead" >&2; exit 3; }
next=$((now * 2))
[ "$next" -le "$most" ] || next=$most
echo "ethtool -G $IF rx $next"
echo "# undo: ethtool -G $IF rx $now"
[ -n "$DRY" ] || ethtool -G "$IF" rx "$next" || { echo "refused" >&2; exit 4; }
