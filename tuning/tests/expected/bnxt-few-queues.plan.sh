#!/bin/sh
# Written by corewire-tune. Usage: sh THIS dry-run|apply|undo (apply and undo as root).
# Exit codes: 0 done, 3 the machine is not as the plan expects, 4 a write was refused, 64 usage.
set -eu
ROOT=${ROOT:-}

# irq_of NAME DEVICE: the number of the device's interrupt with this name. Numbers change, names do not; two cards may give the
# same names, so the device decides, and what is still ambiguous is refused.
irq_of() {
    found=
    while read -r number rest; do
        case " $rest" in *" $1") ;; *) continue ;; esac
        number=${number%:}
        [ -z "$2" ] || [ -e "$ROOT$2/msi_irqs/$number" ] || continue
        [ -z "$found" ] || { echo "interrupts $found and $number are both named $1" >&2; return 1; }
        found=$number
    done < "$ROOT/proc/interrupts"
    [ -n "$found" ] || { echo "no interrupt of $2 is named $1" >&2; return 1; }
    echo "$found"
}

# A mask without commas and leading zeros: the kernel prints masks wider than they were written.
plain_mask() { printf '%s' "$1" | tr -d ',' | sed 's/^0*//'; }

same() { # kind, one, other
    case $1 in
        mask) [ "$(plain_mask "$2")" = "$(plain_mask "$3")" ] ;;
        *) [ "$2" = "$3" ] ;;
    esac
}

# check KIND PATH OLD NEW: refuses when somebody changed the value since the plan was made.
check() {
    now=$(cat "$ROOT$2")
    same "$1" "$now" "$3" || same "$1" "$now" "$4" || {
        echo "$2 is $now, the plan expected $3; make a new plan" >&2
        exit 3
    }
}

# put KIND PATH VALUE: writes and reads back.
put() {
    [ -e "$ROOT$2" ] || { echo "$2 is not there" >&2; exit 4; }
    now=$(cat "$ROOT$2")
    if same "$1" "$now" "$3"; then return 0; fi
    if [ "$MODE" = dry-run ]; then echo "echo $3 > $2"; return 0; fi
    echo "$2: $now -> $3"
    printf '%s\n' "$3" > "$ROOT$2" || { echo "$2 refused $3; run this script with 'undo'" >&2; exit 4; }
    now=$(cat "$ROOT$2")
    same "$1" "$now" "$3" || { echo "$2 reads $now after writing $3; run this script with 'undo'" >&2; exit 4; }
}

# config FILE NAME LINE: LINE takes the place of the last one that sets NAME, and irqbalance is restarted to read it.
config() {
    echo "$1: $3"
    [ "$MODE" = dry-run ] && return 0
    text=$(NAME=$2= LINE=$3 awk '
        { text[NR] = $0; sub(/^[ \t]*/, ""); if (index($0, ENVIRON["NAME"]) == 1) at = NR }
        END {
            if (!at) at = ++NR
            text[at] = ENVIRON["LINE"]
            for (i = 1; i <= NR; i++) if (i != at || text[i] != "") print text[i]
        }' "$ROOT$1")
    printf '%s\n' "$text" > "$ROOT$1"
    [ -n "$ROOT" ] || systemctl try-restart irqbalance.service || { echo "irqbalance does not start; run this script with 'undo'" >&2; exit 4; }
}

run() {
    echo "$*"
    [ "$MODE" = dry-run ] || "$@" || { echo "refused; run this script with 'undo'" >&2; exit 4; }
}

check_all() {
    [ "$(cat "$ROOT/proc/sys/kernel/random/boot_id")" = 00000000-0000-4000-8000-000000000001 ] || { echo 'the machine was restarted since the plan was made' >&2; exit 3; }
}

apply() {
    check_all
    # QUEUES_LT_SHARDS: 16 queues are placed, the card has 8
    run ethtool -L eth0 combined 16
    # IRQ_WIDE: queue 0 belongs to CPU 0
    put value "/proc/irq/$(irq_of eth0-TxRx-0 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 0
    # IRQ_WIDE: queue 1 belongs to CPU 1
    put value "/proc/irq/$(irq_of eth0-TxRx-1 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 1
    # IRQ_WIDE: queue 2 belongs to CPU 2
    put value "/proc/irq/$(irq_of eth0-TxRx-2 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 2
    # IRQ_WIDE: queue 3 belongs to CPU 3
    put value "/proc/irq/$(irq_of eth0-TxRx-3 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 3
    # IRQ_WIDE: queue 4 belongs to CPU 4
    put value "/proc/irq/$(irq_of eth0-TxRx-4 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 4
    # IRQ_WIDE: queue 5 belongs to CPU 5
    put value "/proc/irq/$(irq_of eth0-TxRx-5 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 5
    # IRQ_WIDE: queue 6 belongs to CPU 6
    put value "/proc/irq/$(irq_of eth0-TxRx-6 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 6
    # IRQ_WIDE: queue 7 belongs to CPU 7
    put value "/proc/irq/$(irq_of eth0-TxRx-7 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 7
    # IRQ_WIDE: queue 8 belongs to CPU 8
    put value "/proc/irq/$(irq_of eth0-TxRx-8 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 8
    # IRQ_WIDE: queue 9 belongs to CPU 9
    put value "/proc/irq/$(irq_of eth0-TxRx-9 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 9
    # IRQ_WIDE: queue 10 belongs to CPU 10
    put value "/proc/irq/$(irq_of eth0-TxRx-10 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 10
    # IRQ_WIDE: queue 11 belongs to CPU 11
    put value "/proc/irq/$(irq_of eth0-TxRx-11 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 11
    # IRQ_WIDE: queue 12 belongs to CPU 12
    put value "/proc/irq/$(irq_of eth0-TxRx-12 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 12
    # IRQ_WIDE: queue 13 belongs to CPU 13
    put value "/proc/irq/$(irq_of eth0-TxRx-13 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 13
    # IRQ_WIDE: queue 14 belongs to CPU 14
    put value "/proc/irq/$(irq_of eth0-TxRx-14 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 14
    # IRQ_WIDE: queue 15 belongs to CPU 15
    put value "/proc/irq/$(irq_of eth0-TxRx-15 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 15
    # XPS_MISALIGNED: CPU 0 sends by queue 0
    put mask /sys/class/net/eth0/queues/tx-0/xps_cpus 1
    # XPS_MISALIGNED: CPU 1 sends by queue 1
    put mask /sys/class/net/eth0/queues/tx-1/xps_cpus 2
    # XPS_MISALIGNED: CPU 2 sends by queue 2
    put mask /sys/class/net/eth0/queues/tx-2/xps_cpus 4
    # XPS_MISALIGNED: CPU 3 sends by queue 3
    put mask /sys/class/net/eth0/queues/tx-3/xps_cpus 8
    # XPS_MISALIGNED: CPU 4 sends by queue 4
    put mask /sys/class/net/eth0/queues/tx-4/xps_cpus 10
    # XPS_MISALIGNED: CPU 5 sends by queue 5
    put mask /sys/class/net/eth0/queues/tx-5/xps_cpus 20
    # XPS_MISALIGNED: CPU 6 sends by queue 6
    put mask /sys/class/net/eth0/queues/tx-6/xps_cpus 40
    # XPS_MISALIGNED: CPU 7 sends by queue 7
    put mask /sys/class/net/eth0/queues/tx-7/xps_cpus 80
    # XPS_MISALIGNED: CPU 8 sends by queue 8
    put mask /sys/class/net/eth0/queues/tx-8/xps_cpus 100
    # XPS_MISALIGNED: CPU 9 sends by queue 9
    put mask /sys/class/net/eth0/queues/tx-9/xps_cpus 200
    # XPS_MISALIGNED: CPU 10 sends by queue 10
    put mask /sys/class/net/eth0/queues/tx-10/xps_cpus 400
    # XPS_MISALIGNED: CPU 11 sends by queue 11
    put mask /sys/class/net/eth0/queues/tx-11/xps_cpus 800
    # XPS_MISALIGNED: CPU 12 sends by queue 12
    put mask /sys/class/net/eth0/queues/tx-12/xps_cpus 1000
    # XPS_MISALIGNED: CPU 13 sends by queue 13
    put mask /sys/class/net/eth0/queues/tx-13/xps_cpus 2000
    # XPS_MISALIGNED: CPU 14 sends by queue 14
    put mask /sys/class/net/eth0/queues/tx-14/xps_cpus 4000
    # XPS_MISALIGNED: CPU 15 sends by queue 15
    put mask /sys/class/net/eth0/queues/tx-15/xps_cpus 8000
    :
}

undo() {
    run ethtool -L eth0 combined 8
    put mask /sys/class/net/eth0/queues/rx-0/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-0/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-1/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-1/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-2/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-2/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-3/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-3/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-4/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-4/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-5/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-5/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-6/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-6/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/rx-7/rps_cpus 0000
    put value /sys/class/net/eth0/queues/rx-7/rps_flow_cnt 0
    put mask /sys/class/net/eth0/queues/tx-0/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-1/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-2/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-3/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-4/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-5/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-6/xps_cpus 0000
    put mask /sys/class/net/eth0/queues/tx-7/xps_cpus 0000
    put value "/proc/irq/$(irq_of eth0-TxRx-0 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 0
    put value "/proc/irq/$(irq_of eth0-TxRx-1 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 1
    put value "/proc/irq/$(irq_of eth0-TxRx-2 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 2
    put value "/proc/irq/$(irq_of eth0-TxRx-3 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 3
    put value "/proc/irq/$(irq_of eth0-TxRx-4 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 4
    put value "/proc/irq/$(irq_of eth0-TxRx-5 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 5
    put value "/proc/irq/$(irq_of eth0-TxRx-6 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 6
    put value "/proc/irq/$(irq_of eth0-TxRx-7 /sys/devices/pci0000:40/0000:41:00.0)/smp_affinity_list" 7
    :
}

MODE=${1:-}
case $MODE in
    dry-run | apply) apply ;;
    undo) undo ;;
    *) echo "usage: $0 dry-run|apply|undo" >&2; exit 64 ;;
esac
