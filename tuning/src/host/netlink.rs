//! Queries cards through netlink: families `ethtool` (settings), `netdev` (queue map, statistics) and the route family
//! (link kind).
//!
//! The numbers below are those of the kernel's `linux/ethtool_netlink.h` and `linux/netdev.h`; both are stable interfaces.

mod wire;

use super::{Fault, FaultKind, Knob, NicFacts};
use wire::{Attrs, Connection, Message};

const NETLINK_ROUTE: isize = 0;
const NETLINK_NETFILTER: isize = 12;
const NETLINK_GENERIC: isize = 16;
/// Subsystem 10 (nftables), message 7 (get a rule).
const NFT_GET_RULE: u16 = 10 << 8 | 7;
const RTM_GETLINK: u16 = 18;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

const RINGS_GET: u8 = 15;
const CHANNELS_GET: u8 = 17;
const COALESCE_GET: u8 = 19;
const PAUSE_GET: u8 = 21;
const FEATURES_GET: u8 = 11;
/// In a reply about features: those that can be changed, and those that are on. In a request, what is wanted.
const FEATURES_CHANGEABLE: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const RSS_GET: u8 = 38;
const RSS_INDIRECTION: u16 = 4;

const QUEUE_GET: u8 = 10;
const NAPI_GET: u8 = 11;
const QSTATS_GET: u8 = 12;

/// One setting group of the `ethtool` family: its request, and (attribute, name) of what the reply holds.
struct Group {
    get: u8,
    attributes: &'static [(u16, &'static str)],
}

const GROUPS: [Group; 4] = [
    Group {
        get: RINGS_GET,
        attributes: &[(2, "ring.rx.max"), (6, "ring.rx"), (5, "ring.tx.max"), (9, "ring.tx")],
    },
    Group {
        get: CHANNELS_GET,
        attributes: &[
            (2, "channels.rx.max"),
            (3, "channels.tx.max"),
            (5, "channels.combined.max"),
            (6, "channels.rx"),
            (7, "channels.tx"),
            (9, "channels.combined"),
        ],
    },
    Group {
        get: COALESCE_GET,
        attributes: &[
            (2, "coalesce.rx-usecs"),
            (6, "coalesce.tx-usecs"),
            (11, "coalesce.adaptive-rx"),
        ],
    },
    Group { get: PAUSE_GET, attributes: &[(3, "pause.rx"), (4, "pause.tx")] },
];

/// The kernel's names of the offloads that the tool knows.
const OFFLOADS: [(Knob, &str); 2] =
    [(Knob::OffloadGro, "rx-gro"), (Knob::OffloadTso, "tx-tcp-segmentation")];

const QSTATS: [(u16, &str); 6] = [
    (8, "qstats.rx-packets"),
    (10, "qstats.tx-packets"),
    (12, "qstats.rx-alloc-fail"),
    (13, "qstats.rx-hw-drops"),
    (14, "qstats.rx-hw-drop-overruns"),
    (22, "qstats.tx-hw-drops"),
];

/// How many rules nftables has in this network namespace. Needs CAP_NET_ADMIN.
pub(super) fn nftables_rules() -> Result<usize, Fault> {
    let what = "netlink nftables rules";
    let mut connection = Connection::open(NETLINK_NETFILTER, what)?;
    // A body of four zero bytes asks about all families.
    connection.dump(Message::generic(NFT_GET_RULE, 0, 0), what).map(|rules| rules.len())
}

/// Everything that netlink reports about a card. What cannot be asked becomes a note.
pub(super) fn facts(iface: &str, index: u32) -> NicFacts {
    let mut facts = NicFacts::default();
    match link_kind(index) {
        Ok(kind) => facts.kind = kind,
        Err(fault) => facts.notes.push(fault.to_string()),
    }
    if let Err(fault) = ethtool_facts(iface, &mut facts) {
        facts.notes.push(fault.to_string());
    }
    if let Err(fault) = netdev_facts(index, &mut facts)
        && fault.kind != FaultKind::Missing
    {
        facts.notes.push(fault.to_string());
    }
    facts
}

/// Sets one setting of a card.
pub(super) fn set(iface: &str, knob: Knob, value: u32) -> Result<(), Fault> {
    let (set, attribute) = match knob {
        Knob::RingRx => (RINGS_GET + 1, 6),
        Knob::ChannelsRx => (CHANNELS_GET + 1, 6),
        Knob::ChannelsTx => (CHANNELS_GET + 1, 7),
        Knob::ChannelsCombined => (CHANNELS_GET + 1, 9),
        Knob::CoalesceRxUsecs => (COALESCE_GET + 1, 2),
        Knob::CoalesceAdaptiveRx => (COALESCE_GET + 1, 11),
        Knob::OffloadGro | Knob::OffloadTso => (FEATURES_GET + 1, FEATURES_WANTED),
    };
    let what = format!("netlink {knob} of {iface} = {value}");
    let mut connection = Connection::open(NETLINK_GENERIC, &what)?;
    let family = connection.family("ethtool", &what)?;
    let mut message = ethtool_request(family, set, iface);
    if let Some((_, name)) = OFFLOADS.iter().find(|(other, _)| *other == knob) {
        message.put_nested(attribute, &one_bit(name, value != 0));
    } else if knob == Knob::CoalesceAdaptiveRx {
        message.put(attribute, &[u8::from(value != 0)]);
    } else {
        message.put_u32(attribute, value);
    }
    connection.request(message, &what).map(|_| ())
}

/// A set of bits that concerns only one bit.
fn one_bit(name: &str, is_on: bool) -> Message {
    let (mut bit, mut bits, mut set) =
        (Message::attributes(), Message::attributes(), Message::attributes());
    bit.put_str(2, name);
    if is_on {
        bit.put(3, &[]);
    }
    bits.put_nested(1, &bit);
    set.put_nested(3, &bits);
    set
}

/// Whether a set of bits has the bit of this name.
fn has_bit(set: &[u8], name: &str) -> bool {
    let nested = |bytes: &[u8], number: u16| -> Vec<Vec<u8>> {
        let own = Attrs::new(bytes).filter(|(attribute, _)| *attribute == number);
        own.map(|(_, value)| value.to_vec()).collect()
    };
    let is_named = |bit: &Vec<u8>| {
        nested(bit, 2).iter().any(|other| other.strip_suffix(&[0]) == Some(name.as_bytes()))
    };
    nested(set, 3).iter().flat_map(|bits| nested(bits, 1)).any(|bit| is_named(&bit))
}

fn ethtool_request(family: u16, command: u8, iface: &str) -> Message {
    let mut header = Message::attributes();
    header.put_str(2, iface);
    let mut message = Message::generic(family, command, 1);
    message.put_nested(1, &header);
    message
}

fn ethtool_facts(iface: &str, facts: &mut NicFacts) -> Result<(), Fault> {
    let what = format!("netlink ethtool {iface}");
    let mut connection = Connection::open(NETLINK_GENERIC, &what)?;
    let family = connection.family("ethtool", &what)?;
    for group in &GROUPS {
        match connection.request(ethtool_request(family, group.get, iface), &what) {
            Ok(answers) => {
                for (attribute, value) in
                    answers.iter().flat_map(|answer| Attrs::of_generic(answer))
                {
                    if let Some((_, name)) =
                        group.attributes.iter().find(|(number, _)| *number == attribute)
                        && let Some(value) = wire::number(value)
                    {
                        facts.settings.insert((*name).to_owned(), value);
                    }
                }
            }
            Err(fault) if fault.kind == FaultKind::Unsupported => {}
            Err(fault) => facts.notes.push(fault.to_string()),
        }
    }
    if let Ok(answers) = connection.request(ethtool_request(family, FEATURES_GET, iface), &what) {
        for (attribute, set) in answers.iter().flat_map(|answer| Attrs::of_generic(answer)) {
            for (knob, name) in OFFLOADS {
                let bit = u64::from(has_bit(set, name));
                match attribute {
                    FEATURES_CHANGEABLE => facts.settings.insert(format!("{knob}.max"), bit),
                    FEATURES_ACTIVE => facts.settings.insert(knob.to_string(), bit),
                    _ => None,
                };
            }
        }
    }
    // The hash table came to netlink in 6.3; older kernels reply that they do not know the request.
    if let Ok(answers) = connection.request(ethtool_request(family, RSS_GET, iface), &what) {
        for (attribute, value) in answers.iter().flat_map(|answer| Attrs::of_generic(answer)) {
            if attribute == RSS_INDIRECTION {
                facts.rss = entries_per_queue(value);
            }
        }
    }
    Ok(())
}

/// Counts how many entries of a hash table point to each queue.
fn entries_per_queue(table: &[u8]) -> Vec<u32> {
    let mut counts: Vec<u32> = Vec::new();
    for entry in table.chunks_exact(4).filter_map(wire::number) {
        // No card has more than a few thousand queues; the limit keeps a broken reply from asking for memory.
        let Some(queue) = usize::try_from(entry).ok().filter(|queue| *queue < 8192) else {
            continue;
        };
        if counts.len() <= queue {
            counts.resize(queue + 1, 0);
        }
        counts[queue] += 1;
    }
    counts
}

/// The queue map and the statistics of the `netdev` family (kernel 6.8 and later).
fn netdev_facts(index: u32, facts: &mut NicFacts) -> Result<(), Fault> {
    let what = "netlink netdev";
    let mut connection = Connection::open(NETLINK_GENERIC, what)?;
    let family = connection.family("netdev", what)?;
    let dump = |connection: &mut Connection, command, attribute| {
        let mut message = Message::generic(family, command, 1);
        message.put_u32(attribute, index);
        connection.dump(message, what)
    };
    let queues = dump(&mut connection, QUEUE_GET, 2).unwrap_or_default();
    let napis = dump(&mut connection, NAPI_GET, 1).unwrap_or_default();
    let field = |answer: &[u8], number: u16| {
        Attrs::of_generic(answer)
            .find(|(attribute, _)| *attribute == number)
            .and_then(|(_, value)| wire::number(value))
    };
    let irq_of = |napi: u64| {
        napis
            .iter()
            .find(|answer| field(answer, 2) == Some(napi))
            .and_then(|answer| field(answer, 3))
    };
    for queue in queues.iter().filter(|answer| field(answer, 3) == Some(0)) {
        if let (Some(id), Some(irq)) = (field(queue, 1), field(queue, 4).and_then(irq_of))
            && let (Ok(id), Ok(irq)) = (u32::try_from(id), u32::try_from(irq))
        {
            facts.queue_irqs.insert(id, irq);
        }
    }
    for answer in dump(&mut connection, QSTATS_GET, 1).unwrap_or_default() {
        for (number, name) in QSTATS {
            if let Some(value) = field(&answer, number) {
                facts.stats.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// The kind of a virtual link; `None` for hardware.
fn link_kind(index: u32) -> Result<Option<String>, Fault> {
    let what = "netlink link kind";
    let mut connection = Connection::open(NETLINK_ROUTE, what)?;
    let answers = connection.request(Message::get_link(RTM_GETLINK, index), what)?;
    // `struct ifinfomsg` is 16 bytes, then the attributes.
    let info = answers.iter().flat_map(|answer| Attrs::new(answer.get(16..).unwrap_or_default()));
    let kind = info
        .filter(|(attribute, _)| *attribute == IFLA_LINKINFO)
        .flat_map(|(_, nested)| Attrs::new(nested))
        .find(|(attribute, _)| *attribute == IFLA_INFO_KIND)
        .map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
    Ok(kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn loopback_answers_without_root() {
        // Every Linux has `lo`; what the kernel does not offer for it is absent, which is not an error.
        let index =
            std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().parse().unwrap();
        let facts = facts("lo", index);
        assert_eq!(facts.kind, None);
        assert!(facts.queue_irqs.is_empty());
        assert!(facts.value(Knob::OffloadGro).is_some_and(|on| on <= 1), "{:?}", facts.settings);
    }

    #[test]
    fn bits_are_found_by_name() {
        let set = one_bit("rx-gro", true).body;
        assert!(has_bit(&set, "rx-gro") && !has_bit(&set, "rx") && !has_bit(&set, "rx-gro-list"));
        assert!(!has_bit(&[7, 0, 3, 0, 1], "rx-gro"));
    }

    #[test]
    fn a_refused_setting_names_the_request() {
        let fault = set("no-such-card0", Knob::RingRx, 512).unwrap_err();
        assert!(fault.to_string().contains("ring.rx of no-such-card0 = 512"), "{fault}");
    }

    #[test]
    fn hash_tables_are_counted_and_broken_ones_bounded() {
        let table: Vec<u8> =
            [0_u32, 1, 1, u32::MAX].iter().flat_map(|entry| wire::bytes_of(*entry)).collect();
        assert_eq!(entries_per_queue(&table), [1, 2]);
        assert!(entries_per_queue(&[1, 2]).is_empty());
    }
}
