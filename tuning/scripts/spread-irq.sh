#!/bin/sh
# Puts the interrupts of a card's queues on CPUs, one after the other, and prints the commands that take it back.
#
# Usage: spread-irq.sh [--root DIR] [--dry-run] IF CPU[,CPU...]      (root)
# Example: spread-irq.sh eth0 0,1,2,3     queue 0 to CPU 0, queue 1 to CPU 1, ...; further queues begin again at the first CPU.
# Interrupts are found by name (IF-TxRx-N and its kin); for virtio give the device's name (virtio2), for mlx5 mlx5_comp.
# Exit: 0 done, 2 no interrupt has such a name, 3 irqbalance runs and would move them again, 4 refused, 64 usage.
set -eu

ROOT=
DRY=
IF=
CPUS=
while [ $# -gt 0 ]; do
    case $1 in
        --root) ROOT=${2:?}; shift 2 ;;
        --dry-run) DRY=1; shift ;;
        -*) echo "usage: $0 [--root DIR] [--dry-run] IF CPU[,CPU...]" >&2; exit 64 ;;
        *) if [ -z "$IF" ]; then IF=$1; else CPUS=$1; fi; shift ;;
    esac
done
[ -n "$CPUS" ] || { echo "usage: $0 [--root DIR] [--dry-run] IF CPU[,CPU...]" >&2; exit 64; }
case $CPUS in *[!0-9,]*) echo "CPUs are numbers with commas between: $CPUS" >&2; exit 64 ;; esac
if [ -z "$ROOT" ] && [ -z "$DRY" ] && pidof irqbalance >/dev/null 2>&1; then
    echo "irqbalance runs and would move the interrupts again; see irqbalance.d" >&2
    exit 3
fi

# number name, for every interrupt whose last word belongs to the card and ends in a queue's number.
irqs=$(while read -r number rest; do
    name=${rest##* }
    case $name in
        "$IF"-*[0-9] | *-"$IF"-*[0-9] | "$IF"-*.[0-9]* | "$IF"[0-9]*@*) echo "${number%:} $name" ;;
    esac
done < "$ROOT/proc/interrupts")
[ -n "$irqs" ] || { echo "no interrupt is named after $IF" >&2; exit 2; }

rest=$CPUS
echo "$irqs" | while read -r irq name; do
    [ -n "$rest" ] || rest=$CPUS
    cpu=${rest%%,*}
    case $rest in *,*) rest=${rest#*,} ;; *) rest= ;; esac
    file=$ROOT/proc/irq/$irq/smp_affinity_list
    old=$(cat "$file")
    echo "echo $cpu > /proc/irq/$irq/smp_affinity_list   # $name; undo: echo $old > /proc/irq/$irq/smp_affinity_list"
    [ -z "$DRY" ] || continue
    # EIO here means that the kernel manages this interrupt itself.
    echo "$cpu" > "$file" || { echo "$file refused $cpu" >&2; exit 4; }
    [ "$(cat "$file")" = "$cpu" ] || { echo "$file reads $(cat "$file") after $cpu was written" >&2; exit 4; }
done
