#!/bin/sh
# Policy script of irqbalance: keeps it away from the interrupts of the engine's card.
#
# Install: copy to the directory of irqbalance's --policyscript and make it executable; write the card's PCI address below.
# Undo:    remove it and restart irqbalance.
#
# irqbalance calls it for every interrupt with two arguments: the device's path in /sys and the interrupt's number. The path is
# compared and not the number, because numbers change at every boot and with every change of channels.
set -eu

# As in: readlink -f /sys/class/net/eth0/device
CARD=${COREWIRE_CARD:-0000:00:00.0}

case ${1:-} in
    *"/$CARD" | *"/$CARD/"*) echo "ban=true" ;;
esac
exit 0
