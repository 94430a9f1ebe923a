#!/bin/sh
# Keeps idle CPUs from sleeping deeper than so many microseconds, for as long as it runs.
#
# Usage: hold-cstate.sh [MICROSECONDS]     (root; default 10)
# The kernel honours /dev/cpu_dma_latency while a file handle on it is open and forgets it when the handle is closed, so ending this
# script is the undo. corewire-cstate.service runs it. Exit: 2 no such device, 64 usage; otherwise it runs until it is ended.
set -eu

microseconds=${1:-10}
case $microseconds in '' | *[!0-9]*) echo "usage: $0 [MICROSECONDS]" >&2; exit 64 ;; esac
[ -w /dev/cpu_dma_latency ] || { echo "/dev/cpu_dma_latency is not there or not writable" >&2; exit 2; }
# Ten hexadecimal digits are one of the two forms that the kernel takes; a decimal number is not.
exec 3> /dev/cpu_dma_latency
printf '0x%08x' "$microseconds" >&3
while :; do sleep 3600; done
