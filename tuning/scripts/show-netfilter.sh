#!/bin/sh
# Shows what filters cost: how many rules there are, whether connections are tracked and how full that table is.
#
# Usage: show-netfilter.sh [--root DIR] [--port N] [--dry-run]
# With --port it prints the pair of rules that would keep that port's packets from being tracked, and the pair that takes them
# back. It never changes a rule. Without tracking, rules that ask for a connection's state no longer match that port: allow it
# outright first. Exit: 0 shown, 64 usage.
set -eu

ROOT=
PORT=
while [ $# -gt 0 ]; do
    case $1 in
        --root) ROOT=${2:?}; shift 2 ;;
        --port) PORT=${2:?}; shift 2 ;;
        --dry-run) shift ;;
        *) echo "usage: $0 [--root DIR] [--port N] [--dry-run]" >&2; exit 64 ;;
    esac
done
case $PORT in *[!0-9]*) echo "a port is a number: $PORT" >&2; exit 64 ;; esac

show() { if [ -r "$ROOT$1" ]; then echo "$1: $(tr '\n' ' ' < "$ROOT$1")"; else echo "$1: not there"; fi; }
show /proc/sys/net/netfilter/nf_conntrack_count
show /proc/sys/net/netfilter/nf_conntrack_max
show /proc/net/ip_tables_names
show /proc/net/ip6_tables_names
if [ -z "$ROOT" ]; then
    for program in iptables-save ip6tables-save; do
        command -v "$program" >/dev/null && echo "$program: $("$program" 2>/dev/null | grep -c '^-A') rules (0 may mean: not root)"
    done
    command -v nft >/dev/null && echo "nft: $(nft list ruleset 2>/dev/null | grep -cE '^[[:space:]]+(ip|tcp|udp|ct|meta|iif|oif|counter|accept|drop)') rule lines (0 may mean: not root)"
fi
if [ -n "$PORT" ]; then
    for verb in A D; do
        [ "$verb" = A ] && echo "# not tracked:" || echo "# undo:"
        echo "iptables -t raw -$verb PREROUTING -p tcp --dport $PORT -j CT --notrack"
        echo "iptables -t raw -$verb OUTPUT -p tcp --sport $PORT -j CT --notrack"
    done
fi
