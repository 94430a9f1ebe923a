#!/bin/sh
# Shows a card's rings and every counter that says that a packet was dropped.
#
# Usage: show-ring.sh [--root DIR] [--dry-run] IF
# Read it twice: a counter that stands still since boot is history, one that grows is the fault. `overruns` of ifconfig is
# rx_fifo_errors and can stay 0 while a ring overflows. Changes nothing. Exit: 0 shown, 2 no such interface, 64 usage.
set -eu

ROOT=
IF=
while [ $# -gt 0 ]; do
    case $1 in
        --root) ROOT=${2:?}; shift 2 ;;
        --dry-run) shift ;;
        -*) echo "usage: $0 [--root DIR] [--dry-run] IF" >&2; exit 64 ;;
        *) IF=$1; shift ;;
    esac
done
[ -n "$IF" ] || { echo "usage: $0 [--root DIR] [--dry-run] IF" >&2; exit 64; }
dir=$ROOT/sys/class/net/$IF
[ -d "$dir" ] || { echo "$dir is not there" >&2; exit 2; }

for name in rx_missed_errors rx_fifo_errors rx_over_errors rx_dropped; do
    [ -r "$dir/statistics/$name" ] && echo "$name $(cat "$dir/statistics/$name")"
done
# Rings and the driver's own counters come from the card, which a copied tree does not have.
if [ -z "$ROOT" ] && command -v ethtool >/dev/null; then
    ethtool -g "$IF" 2>/dev/null || echo "the driver offers no ring size"
    ethtool -S "$IF" 2>/dev/null | grep -iE 'drop|discard|miss|no_buf|out_of_buf|no_dma|overrun|allowance' || echo "no drop counter of the driver"
fi
