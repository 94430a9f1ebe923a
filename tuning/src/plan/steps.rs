//! The steps, in the only order that works: channels first, because they recreate queues and interrupts and reset their
//! masks; then rings and moderation; then interrupts, receive and transmit steering; then the host's own values.

use crate::doctor::Report;
use crate::host::Knob;
use crate::parse::{VectorName, VectorRole};
use crate::snapshot::{Config, Nic, Snapshot, Vector, modules_to_ban, words};
use corewire_placement::{CpuSet, Layout, Placement, Shard};

use super::form::{Kept, Step};
use super::setting::Setting;
use super::wishes::{Goal, PlanOptions, Topic};

/// The fixed interrupt delay for latency, in microseconds: short compared with a call's own time, long enough to batch
/// a burst.
const LATENCY_RX_USECS: u64 = 8;

/// The variable of irqbalance's configuration that names the CPUs it should not use.
const BANNED_CPULIST: &str = "IRQBALANCE_BANNED_CPULIST";

/// Findings that moving interrupts fixes, the most important first.
const IRQ_FINDINGS: [&str; 5] =
    ["IRQ_DRIFT", "IRQ_ON_ISOLATED", "IRQ_PILE", "IRQ_REMOTE_NODE", "IRQ_ON_SMT_PEER"];

fn irq_setting(nic: &Nic, vector: &str, device: &str) -> Setting {
    Setting::Irq { iface: nic.name.clone(), vector: vector.to_owned(), device: device.to_owned() }
}

/// A plan under construction.
pub(super) struct Builder<'p> {
    snapshot: &'p Snapshot,
    options: &'p PlanOptions,
    placement: &'p Placement,
    report: &'p Report,
    pub(super) steps: Vec<Step>,
    pub(super) kept: Vec<Kept>,
    pub(super) left_out: Vec<String>,
}

impl<'p> Builder<'p> {
    pub(super) fn new(
        snapshot: &'p Snapshot,
        options: &'p PlanOptions,
        placement: &'p Placement,
        report: &'p Report,
    ) -> Self {
        Self {
            snapshot,
            options,
            placement,
            report,
            steps: Vec::new(),
            kept: Vec::new(),
            left_out: Vec::new(),
        }
    }

    pub(super) fn build(&mut self) {
        let cards: Vec<Nic> = self.snapshot.cards().cloned().collect();
        for nic in &cards {
            let remade = self.channels(nic);
            self.ring(nic);
            self.coalesce(nic);
            self.offloads(nic);
            self.interrupts(nic, remade);
            self.receive_steering(nic, remade);
            self.transmit_steering(nic, remade);
        }
        self.others();
        self.irqbalance();
        self.sysctls();
        self.power();
    }

    fn push(
        &mut self,
        finding: &str,
        setting: Setting,
        old: Option<String>,
        new: impl Into<String>,
        why: impl Into<String>,
    ) {
        let new = new.into();
        if old.as_ref().is_some_and(|old| setting.same(old, &new)) {
            return;
        }
        let disturbs = match &setting {
            Setting::Card { knob: Knob::RingRx, .. } => "queue-reset",
            Setting::Irqbalance { .. } => "restart",
            setting if setting.remakes_queues() => "queue-reset",
            _ => "no",
        };
        self.steps.push(Step {
            finding: finding.to_owned(),
            setting,
            old,
            new,
            why: why.into(),
            disturbs: disturbs.to_owned(),
            may_refuse: false,
        });
    }

    /// A step for a setting that the card has.
    fn card(&mut self, finding: &str, nic: &Nic, knob: Knob, new: u64, why: &str) {
        if let Some(old) = nic.facts.value(knob) {
            let setting = Setting::Card { iface: nic.name.clone(), knob };
            self.push(finding, setting, Some(old.to_string()), new.to_string(), why);
        }
    }

    /// A step for a file with one number.
    fn number(&mut self, finding: &str, path: &str, next: impl Fn(u64) -> u64, why: &str) {
        if let Some(now) = self.snapshot.value_number(path).filter(|_| self.report.has(finding)) {
            let setting = Setting::File { path: path.to_owned() };
            self.push(finding, setting, Some(now.to_string()), next(now).to_string(), why);
        }
    }

    /// How many queues the placement gives to a card.
    fn queues_wanted(&self, nic: &Nic) -> u32 {
        let count = self.placement.queues.iter().filter(|map| map.iface == nic.name).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Plans the number of queues. Returns the new number when the queues will be recreated.
    fn channels(&mut self, nic: &Nic) -> Option<u32> {
        let wanted = self.queues_wanted(nic);
        let (knob, now, max) = nic.channels()?;
        let is_asked = self.options.derive.queues.is_some()
            || self.options.given.is_some()
            || self.placement.layout != Layout::Aligned;
        let wanted = wanted.min(max);
        // Stopping all queues for a moment needs a reason: more of them for more shards, or the operator's request.
        let has_reason = is_asked || (nic.has_vectors() && wanted > now);
        if !self.options.wants(Topic::Queues) || wanted == 0 || wanted == now || !has_reason {
            return None;
        }
        self.keep_queues(nic);
        let id = if now < wanted { "QUEUES_LT_SHARDS" } else { "QUEUES_GT_SHARDS" };
        let why = format!("{wanted} queues are placed, the card has {now}");
        self.card(id, nic, knob, u64::from(wanted), &why);
        if knob == Knob::ChannelsRx {
            let most =
                nic.facts.max(Knob::ChannelsTx).or_else(|| nic.facts.value(Knob::ChannelsTx));
            self.card(id, nic, Knob::ChannelsTx, u64::from(wanted).min(most.unwrap_or(0)), &why);
        }
        Some(wanted)
    }

    /// Records everything that a change of channels resets.
    fn keep_queues(&mut self, nic: &Nic) {
        let dir = format!("/sys/class/net/{}/queues", nic.name);
        for queue in &nic.rx {
            let path = format!("{dir}/rx-{}/rps_cpus", queue.index);
            self.kept.push(Kept { setting: Setting::Mask { path }, old: queue.rps_text.clone() });
            let path = format!("{dir}/rx-{}/rps_flow_cnt", queue.index);
            self.kept
                .push(Kept { setting: Setting::File { path }, old: queue.rps_flows.to_string() });
        }
        for queue in &nic.tx {
            if queue.xps.is_some() {
                let path = format!("{dir}/tx-{}/xps_cpus", queue.index);
                self.kept
                    .push(Kept { setting: Setting::Mask { path }, old: queue.xps_text.clone() });
            }
        }
        for vector in nic.vectors.iter().filter(|vector| !vector.is_ambiguous) {
            let setting = irq_setting(nic, &vector.name, &vector.device);
            self.kept.push(Kept { setting, old: vector.affinity.to_string() });
        }
    }

    /// Doubles a ring that overflowed, unless the CPU behind it is full: then a bigger ring only delays the drops.
    fn ring(&mut self, nic: &Nic) {
        let overflowed =
            self.report.findings.iter().find(|f| f.id == "RING_DROPS" && f.subject == nic.name);
        let (Some(finding), true) = (overflowed, self.options.wants(Topic::Ring)) else {
            return;
        };
        if finding.evidence.iter().any(|evidence| evidence.source.starts_with("/proc/stat")) {
            self.left_out.push(format!(
                "ring of {}: its CPU is full, so the work must be spread first",
                nic.name
            ));
            return;
        }
        if let (Some(ring), Some(max)) =
            (nic.facts.value(Knob::RingRx), nic.facts.max(Knob::RingRx))
        {
            let why = format!("packets were dropped with {ring} descriptors; at most {max}");
            self.card("RING_DROPS", nic, Knob::RingRx, ring.saturating_mul(2).min(max), &why);
        }
    }

    fn coalesce(&mut self, nic: &Nic) {
        let (Some(goal), true) = (self.options.goal, self.options.wants(Topic::Coalesce)) else {
            return;
        };
        let adaptive = Knob::CoalesceAdaptiveRx;
        if goal == Goal::Throughput {
            let why = "the driver chooses the delay by the load";
            self.card("goal throughput", nic, adaptive, 1, why);
            return;
        }
        let why = "a delay that changes with the load is a latency that does";
        self.card("goal latency", nic, adaptive, 0, why);
        let usecs = nic.facts.value(Knob::CoalesceRxUsecs);
        if let Some(now) = usecs.filter(|now| *now > LATENCY_RX_USECS) {
            let why = format!("an interrupt may wait {now} µs before the packet is seen");
            self.card("goal latency", nic, Knob::CoalesceRxUsecs, LATENCY_RX_USECS, &why);
        }
    }

    fn offloads(&mut self, nic: &Nic) {
        for knob in nic.offloads_off().into_iter().filter(|_| self.options.wants(Topic::Offload)) {
            let why = "the card offers it, and it saves work for each packet";
            self.card("OFFLOAD_OFF", nic, knob, 1, why);
        }
    }

    /// Moves other devices' interrupts to CPUs without shards.
    fn others(&mut self) {
        if !self.options.wants(Topic::Irq) || !self.report.has("IRQ_OTHERS_ON_SHARDS") {
            return;
        }
        let id = "IRQ_OTHERS_ON_SHARDS";
        let (outside, shards) =
            (self.snapshot.cpus_outside(self.placement), self.placement.shard_cpus());
        let ban = self.banned_cpus();
        let count = self.steps.len();
        for other in &self.snapshot.others {
            let named = format!("interrupt {} ({})", other.irq, other.name);
            if other.affinity.and(&shards).is_empty() {
                continue;
            }
            if let Some(why) = other.fixed.or_else(|| ban.as_ref().err().copied()) {
                self.left_out.push(format!("{named}: {why}"));
            } else if outside.is_empty() {
                self.left_out.push(format!("{named}: there is no CPU without a shard"));
            } else {
                let setting = Setting::Irq {
                    iface: "another device".to_owned(),
                    vector: other.name.clone(),
                    device: other.device.clone(),
                };
                let why = "it interrupts shards; if the kernel refuses, it stays";
                self.push(id, setting, Some(other.affinity.to_string()), outside.to_string(), why);
                self.steps.last_mut().into_iter().for_each(|step| step.may_refuse = true);
            }
        }
        if let (Ok(Some((config, cpus))), true) = (ban, self.steps.len() > count) {
            let why = "it would put them on shards again; it is restarted to read this";
            self.configure(id, config, BANNED_CPULIST, &cpus.to_string(), why);
        }
    }

    /// Writes the ban, before any interrupt is moved. The daemon must not be restarted for a plan that moves no
    /// interrupts.
    fn irqbalance(&mut self) {
        let fought = self.snapshot.fought();
        let is_fought = |step: &Step| matches!(&step.setting, Setting::Irq { iface, .. } if fought.iter().any(|nic| nic.name == *iface));
        let is_meant = self.options.names(Topic::Irqbalance)
            || (self.options.wants(Topic::Irqbalance)
                && (self.options.given.is_some() || self.steps.iter().any(is_fought)));
        let config = self.snapshot.irqbalance.as_ref().and_then(|found| found.config.as_ref());
        let (Some(config), false, true) = (config, fought.is_empty(), is_meant) else { return };
        let Some(old) = words(config.line(&config.name)) else {
            let left =
                "has quotes or escapes that the tool does not rewrite; write the ban by hand";
            self.left_out.push(format!("{} in {}: it {left}", config.name, config.path));
            return;
        };
        let mut new: Vec<String> = old.into_iter().map(str::to_owned).collect();
        for ban in fought.iter().flat_map(|nic| modules_to_ban(nic)) {
            let ban = format!("--banmod={ban}");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@=".contains(&byte);
            if !new.contains(&ban) && ban.bytes().all(is_plain) {
                new.push(ban);
            }
        }
        let why = "it would move the interrupts again; it is restarted to read this";
        self.configure("IRQBALANCE_FIGHT", config, &config.name, &new.join(" "), why);
    }

    /// A step for irqbalance's configuration, before all others.
    fn configure(&mut self, finding: &str, config: &Config, name: &str, value: &str, why: &str) {
        let setting = Setting::Irqbalance { path: config.path.clone(), name: name.to_owned() };
        let old = Some(config.line(name).to_owned());
        let count = self.steps.len();
        self.push(finding, setting, old, format!("{name}=\"{value}\""), why);
        if self.steps.len() > count {
            self.steps.rotate_right(1);
        }
    }

    /// The CPUs that irqbalance should not use, if it runs: otherwise it would put other devices' interrupts on shards
    /// again. `Err` says why its configuration cannot be changed.
    fn banned_cpus(&self) -> Result<Option<(&'p Config, CpuSet)>, &'static str> {
        let Some(irqbalance) = &self.snapshot.irqbalance else { return Ok(None) };
        let config = irqbalance.config.as_ref().filter(|_| self.options.wants(Topic::Irqbalance));
        let config =
            config.ok_or("irqbalance would move it again, and the plan does not configure it")?;
        if !config.line("IRQBALANCE_BANNED_CPUS").is_empty() {
            return Err(
                "IRQBALANCE_BANNED_CPUS is set, and the tool only writes IRQBALANCE_BANNED_CPULIST",
            );
        }
        let old = words(config.line(BANNED_CPULIST)).and_then(|words| words.concat().parse().ok());
        let old: CpuSet = old.ok_or("IRQBALANCE_BANNED_CPULIST is set to no list of CPUs")?;
        // Without the list, irqbalance leaves these alone by itself.
        let quiet = self.snapshot.cpus.isolated.or(&self.snapshot.cpus.nohz_full);
        let old = if old.is_empty() { quiet } else { old };
        Ok(Some((config, old.or(&self.placement.shard_cpus()))))
    }

    fn interrupts(&mut self, nic: &Nic, remade: Option<u32>) {
        if !self.options.wants(Topic::Irq) || !nic.has_vectors() {
            return;
        }
        let id = IRQ_FINDINGS
            .into_iter()
            .find(|id| self.report.findings.iter().any(|f| f.id == *id && f.subject == nic.name))
            .unwrap_or("IRQ_WIDE");
        let id = if self.options.derive.cpus.is_some() { "asked for by --cpus" } else { id };
        let why = |queue: u32, cpu: u32| format!("queue {queue} belongs to CPU {cpu}");
        for vector in &nic.vectors {
            // A vector beyond the new number of queues will be gone.
            if remade.is_some_and(|count| vector.queue >= count) {
                continue;
            }
            let Some(cpu) = self.placement.queue_cpu(&nic.name, vector.queue) else {
                continue;
            };
            if vector.is_ambiguous {
                self.left_out.push(format!(
                    "interrupt {} ({}) of {}: another interrupt has the same name, so it cannot be told which is meant",
                    vector.irq, vector.name, nic.name
                ));
                continue;
            }
            let old = remade.is_none().then(|| vector.affinity.to_string());
            let setting = irq_setting(nic, &vector.name, &vector.device);
            self.push(id, setting, old, cpu.to_string(), why(vector.queue, cpu));
        }
        let Some(count) = remade else { return };
        let present = nic.vectors.iter().map(|vector| vector.queue + 1).max().unwrap_or(0);
        if present >= count {
            return;
        }
        let Some((first, name)) = self.new_names(nic) else {
            self.left_out.push(format!(
                "interrupts of the new queues of {}: plan again once they exist",
                nic.name
            ));
            return;
        };
        for queue in present..count {
            let Some(cpu) = self.placement.queue_cpu(&nic.name, queue) else {
                continue;
            };
            self.push(
                id,
                irq_setting(nic, &name.named(queue), &first.device),
                None,
                cpu.to_string(),
                why(queue, cpu),
            );
        }
    }

    /// The pattern by which the driver will name the vectors of new queues, if there is one vector for each queue and
    /// its number is the queue's.
    fn new_names<'n>(&self, nic: &'n Nic) -> Option<(&'n Vector, crate::parse::QueueName)> {
        let is_simple = nic.driver.as_deref() != Some("gve")
            && nic.vector_method != "order"
            && nic
                .vectors
                .iter()
                .all(|vector| vector.role == VectorRole::Receive && !vector.is_ambiguous);
        let first = nic.vectors.first().filter(|_| is_simple)?;
        let own =
            nic.device.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        match crate::parse::vector_name(&first.name, &[&nic.name, own]) {
            VectorName::Queue(name) if name.number == first.queue => Some((first, name)),
            _ => None,
        }
    }

    /// The RPS mask that each queue should have; `None` to leave RPS as it is.
    fn rps_wanted(&self, nic: &Nic, queue_count: u32) -> Option<(&'static str, Vec<CpuSet>)> {
        let found =
            |id: &str| self.report.findings.iter().any(|f| f.id == id && f.subject == nic.name);
        let shards: Vec<&Shard> = self.placement.fed_from(nic.node);
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let is_asked = self.options.rps || found("RPS_MISSING") || found("RPS_PILE");
        if nic.has_vectors() {
            if queue_count >= count {
                return Some(("RPS_REDUNDANT", vec![CpuSet::new(); queue_count as usize]));
            }
        } else if queue_count >= count {
            // Virtual pairs have no interrupt to place: only RPS chooses the CPU.
            let id = if found("RPS_PILE") { "RPS_PILE" } else { "SOFTIRQ_SKEW" };
            let cpu_of = |queue| self.placement.queue_cpu(&nic.name, queue);
            let masks = (0..queue_count)
                .map(|queue| cpu_of(queue).map(CpuSet::single).unwrap_or_default())
                .collect();
            return (is_asked || self.report.has("SOFTIRQ_SKEW")).then_some((id, masks));
        }
        let id = ["RPS_PILE", "RPS_MISSING"]
            .into_iter()
            .find(|id| found(id))
            .unwrap_or(if self.options.rps { "asked for by --rps" } else { "SOFTIRQ_SKEW" });
        if !(is_asked || (!nic.has_vectors() && self.report.has("SOFTIRQ_SKEW"))) {
            return None;
        }
        let masks = (0..queue_count).map(|queue| {
            // The shards are distributed over the queues; each queue feeds its own share, and a single queue feeds
            // all of them.
            let share: CpuSet = shards
                .iter()
                .zip(0..)
                .filter(|(_, at)| at % queue_count == queue)
                .map(|(shard, _)| shard.cpu)
                .collect();
            // The interrupt's CPU already does the card's part, so a large share leaves it out.
            match self.placement.queue_cpu(&nic.name, queue) {
                Some(cpu) if nic.has_vectors() && share.len() >= 4 => {
                    share.minus(&CpuSet::single(cpu))
                }
                _ => share,
            }
        });
        Some((id, masks.collect()))
    }

    fn receive_steering(&mut self, nic: &Nic, remade: Option<u32>) {
        if !self.options.wants(Topic::Rps) {
            return;
        }
        let present = u32::try_from(nic.rx.len()).unwrap_or(u32::MAX);
        let Some((id, masks)) = self.rps_wanted(nic, remade.unwrap_or(present)) else {
            return;
        };
        for (mask, index) in masks.into_iter().zip(0_u32..) {
            let path = format!("/sys/class/net/{}/queues/rx-{index}/rps_cpus", nic.name);
            let now = nic.rx.iter().find(|queue| queue.index == index);
            // Recreated queues start without RPS.
            if mask.is_empty() && (remade.is_some() || now.is_none_or(|queue| queue.rps.is_empty()))
            {
                continue;
            }
            let old = if remade.is_some() { None } else { now.map(|queue| queue.rps_text.clone()) };
            let why = if mask.is_empty() {
                "this queue has a CPU of its own".to_owned()
            } else {
                format!("packets of this queue go to CPUs {mask}")
            };
            self.push(id, Setting::Mask { path }, old, mask.to_mask(), why);
        }
    }

    fn transmit_steering(&mut self, nic: &Nic, remade: Option<u32>) {
        let is_meant = nic.has_vectors() || self.options.names(Topic::Xps);
        if !self.options.wants(Topic::Xps) || !is_meant {
            return;
        }
        let count = remade.unwrap_or_else(|| u32::try_from(nic.tx.len()).unwrap_or(u32::MAX));
        // The kernel has no map for a card with one transmit queue; there is nothing to choose.
        if count < 2 {
            return;
        }
        let senders = self.placement.senders(&nic.name);
        for index in 0..count {
            let Some(cpus) = senders.get(&index) else {
                continue;
            };
            let now = nic.tx.iter().find(|queue| queue.index == index && queue.xps.is_some());
            if remade.is_none() && now.is_none() {
                continue;
            }
            let path = format!("/sys/class/net/{}/queues/tx-{index}/xps_cpus", nic.name);
            let old = if remade.is_some() { None } else { now.map(|queue| queue.xps_text.clone()) };
            let why = format!("CPU {cpus} sends by queue {index}");
            self.push("XPS_MISALIGNED", Setting::Mask { path }, old, cpus.to_mask(), why);
        }
    }

    /// Values of the host, each only with its evidence.
    fn sysctls(&mut self) {
        if !self.options.wants(Topic::Sysctl) {
            return;
        }
        let doubled = [
            ("SQUEEZE", "/proc/sys/net/core/netdev_budget"),
            ("SQUEEZE", "/proc/sys/net/core/netdev_budget_usecs"),
            ("BACKLOG_DROP", "/proc/sys/net/core/netdev_max_backlog"),
            ("LISTEN_OVERFLOW", "/proc/sys/net/core/somaxconn"),
            ("SYN_DROP", "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        ];
        for (id, path) in doubled {
            // Not less than what SOMAXCONN_LOW would ask for next.
            let least = |now: u64| {
                if id == "LISTEN_OVERFLOW" { 4096.min(now.saturating_mul(32)) } else { 0 }
            };
            let next = |now: u64| now.saturating_mul(2).max(least(now));
            self.number(id, path, next, "the counter of the finding grew");
        }
        if !self.report.has("LISTEN_OVERFLOW") {
            let why = "bursts of connections need room";
            self.number("SOMAXCONN_LOW", "/proc/sys/net/core/somaxconn", |_| 4096, why);
        }
    }

    fn power(&mut self) {
        let is_meant = self.options.goal == Some(Goal::Latency) || self.options.names(Topic::Power);
        if !is_meant || !self.options.wants(Topic::Power) || !self.report.has("GOVERNOR") {
            return;
        }
        for cpu in self.placement.all_cpus().iter() {
            let Some(governor) = self.snapshot.cpus.governors.get(&cpu).cloned() else {
                continue;
            };
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            self.push(
                "GOVERNOR",
                Setting::File { path },
                Some(governor),
                "performance",
                "a shard runs here",
            );
        }
    }
}
