//! Packets for a machine in memory, led by its settings as a kernel would: a queue's packets are taken from the card on the CPU of
//! its interrupt, handed over by RPS where that is on, and counted where they are processed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use corewire_tune::host::{Archive, ArchiveHost, Moment};
use corewire_tune::placement::CpuSet;
use corewire_tune::snapshot::{Scope, Snapshot};

/// Ticks that a CPU has while the packets pass, and packets that fill it.
const TICKS: u64 = 1000;
const PACKETS_OF_A_FULL_CPU: u64 = 60_000;

/// Lets `packets` packets pass, evenly over the queues of these interfaces.
pub fn pass(moment: &mut Moment, packets: u64, ifaces: &[String], archive: &Archive) {
    let still =
        Scope { ifaces: ifaces.to_vec(), sample: std::time::Duration::ZERO, engine_pid: None };
    let Ok(snapshot) = Snapshot::take(&ArchiveHost::new(archive.clone()), &still) else { return };
    let cards: Vec<_> = snapshot.cards().collect();
    let online: Vec<u32> = snapshot.cpus.online.iter().collect();
    let (mut processed, mut handed, mut served) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut fired: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for nic in &cards {
        // Without a queue of its own a share of the hash table is empty.
        let queues: Vec<u32> = nic
            .rx
            .iter()
            .map(|queue| queue.index)
            .filter(|queue| {
                nic.facts.rss.is_empty()
                    || nic.facts.rss.get(*queue as usize).is_some_and(|entries| *entries > 0)
            })
            .collect();
        let each = packets / (cards.len() * queues.len().max(1)) as u64;
        for queue in queues {
            let vector = nic.vectors.iter().find(|vector| vector.queue == queue);
            let cpu = vector.and_then(|vector| vector.served_on().first()).unwrap_or(online[0]);
            if let Some(vector) = vector {
                fired.insert(vector.irq, (cpu, each / 10));
            }
            *served.entry(cpu).or_insert(0) += each;
            let rps = nic
                .rx
                .iter()
                .find(|other| other.index == queue)
                .map(|queue| queue.rps.clone())
                .unwrap_or_default();
            let targets = if rps.is_empty() { CpuSet::single(cpu) } else { rps };
            for target in targets.iter() {
                *processed.entry(target).or_insert(0) += each / targets.len() as u64;
                if target != cpu {
                    *handed.entry(target).or_insert(0) += each / targets.len() as u64 / 10;
                }
            }
        }
    }
    others(&snapshot, moment, &mut fired);
    count(moment, &online, &processed, &handed, &served);
    interrupts(moment, &fired);
}

/// Disks are busy wherever their interrupts are served.
fn others(snapshot: &Snapshot, moment: &Moment, fired: &mut BTreeMap<u32, (u32, u64)>) {
    for line in &snapshot.first.interrupts {
        let path = format!("/proc/irq/{}/effective_affinity_list", line.irq);
        let cpu = moment.files.get(&path).and_then(|text| text.trim().parse().ok());
        if let (Some(cpu), true) =
            (cpu, ["nvme", "megasas"].iter().any(|disk| line.name.starts_with(disk)))
        {
            fired.insert(line.irq, (cpu, 5000));
        }
    }
}

fn count(
    moment: &mut Moment,
    online: &[u32],
    processed: &BTreeMap<u32, u64>,
    handed: &BTreeMap<u32, u64>,
    served: &BTreeMap<u32, u64>,
) {
    let of = |map: &BTreeMap<u32, u64>, cpu: u32| map.get(&cpu).copied().unwrap_or(0);
    let old = corewire_tune::parse::softnet(&moment.files["/proc/net/softnet_stat"]).unwrap();
    let before = |at: usize| {
        old.get(at).map_or((0, 0), |row| (u64::from(row.processed), u64::from(row.received_rps)))
    };
    let (mut softnet, mut stat) = (String::new(), String::from("cpu 0 0 0 0 0 0 0 0 0 0\n"));
    let ticks = corewire_tune::parse::stat(&moment.files["/proc/stat"]).unwrap();
    for (at, cpu) in online.iter().copied().enumerate() {
        let (packets, rps) = before(at);
        let _ = writeln!(
            softnet,
            "{:08x} 0 0 0 0 0 0 0 0 {:08x} 0 0 {cpu:08x} 0 0",
            packets + of(processed, cpu),
            rps + of(handed, cpu)
        );
        // Taking a packet from the card costs as much as bringing it up the stack.
        let work = of(processed, cpu) + of(served, cpu);
        let soft = (work * TICKS / 2 / PACKETS_OF_A_FULL_CPU).min(TICKS);
        let now = ticks.cpus.get(&cpu).copied().unwrap_or_default();
        let idle = now.total - now.softirq + TICKS - soft;
        let _ = writeln!(stat, "cpu{cpu} 0 0 0 {idle} 0 0 {} 0 0 0", now.softirq + soft);
    }
    stat.push_str("ctxt 1000\n");
    moment.files.insert("/proc/net/softnet_stat".to_owned(), softnet);
    moment.files.insert("/proc/stat".to_owned(), stat);
}

fn interrupts(moment: &mut Moment, fired: &BTreeMap<u32, (u32, u64)>) {
    let Some(text) = moment.files.get("/proc/interrupts") else { return };
    let Ok(table) = corewire_tune::parse::interrupts(text) else { return };
    let mut new = format!("{}\n", text.lines().next().unwrap_or_default());
    for line in table {
        let _ = write!(new, "{}:", line.irq);
        for (cpu, count) in &line.counts {
            let more = fired
                .get(&line.irq)
                .filter(|(served, _)| served == cpu)
                .map_or(0, |(_, count)| *count);
            let _ = write!(new, " {}", count + more);
        }
        let chip = line
            .address
            .map_or_else(|| "PCI-MSI".to_owned(), |address| format!("PCI-MSIX-{address}"));
        let _ = writeln!(new, " {chip} 0-edge {}", line.name);
    }
    moment.files.insert("/proc/interrupts".to_owned(), new);
}
