//! A machine in memory that behaves like the kernel where the tool writes, and that breaks when told to.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use corewire_tune::host::{Archive, Fault, FaultKind, Host, Knob, NicFacts};
use corewire_tune::journal::{Journal, Journaled, Record, line_of};
use corewire_tune::parse::{self, VectorName};
use corewire_tune::placement::CpuSet;

/// A machine in memory, made from an [`Archive`].
///
/// Writing follows the kernel's rules as far as the tool meets them: masks come back normalised to the machine's width, an
/// interrupt's mask sets its effective CPU, CPUs that do not exist are refused with EOVERFLOW, managed interrupts with EIO, and a
/// change of the number of channels makes new queues with empty masks and new interrupts with new numbers.
#[derive(Debug)]
pub struct FakeHost {
    state: RefCell<Archive>,
    sabotage: Sabotage,
    managed: BTreeSet<u32>,
    writes: Cell<u32>,
    traffic: RefCell<Option<(u64, Vec<String>)>>,
}

/// Breaks a fake machine at a chosen moment. Clones share their state, so that a journal and a host can die together.
#[derive(Debug, Clone, Default)]
pub struct Sabotage(Rc<SabotageState>);

#[derive(Debug, Default)]
struct SabotageState {
    fail_write: RefCell<Option<(u32, FaultKind)>>,
    steps_to_live: Cell<Option<u32>>,
}

impl Sabotage {
    /// Refuses the write that comes after `skip` others, once.
    pub fn fail_write_after(&self, skip: u32, kind: FaultKind) {
        *self.0.fail_write.borrow_mut() = Some((skip, kind));
    }

    /// Ends the program after this many more steps: writes to the machine and to the journal count as steps.
    pub fn kill_after(&self, steps: u32) {
        self.0.steps_to_live.set(Some(steps));
    }

    /// Lets everything work again, as after a restart of the program.
    pub fn lift(&self) {
        *self.0.fail_write.borrow_mut() = None;
        self.0.steps_to_live.set(None);
    }

    /// Whether the program has been ended.
    pub fn is_killed(&self) -> bool {
        self.0.steps_to_live.get() == Some(0)
    }

    /// Spends one step of the program's life.
    ///
    /// # Errors
    ///
    /// [`FaultKind::Killed`] when there is none left.
    pub fn step(&self, what: &str) -> Result<(), Fault> {
        match self.0.steps_to_live.get() {
            Some(0) => Err(Fault::new(what, FaultKind::Killed)),
            Some(left) => {
                self.0.steps_to_live.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn before_write(&self, what: &str) -> Result<(), Fault> {
        self.step(what)?;
        let mut slot = self.0.fail_write.borrow_mut();
        match slot.take() {
            Some((0, kind)) => Err(Fault::new(what, kind)),
            Some((skip, kind)) => {
                *slot = Some((skip - 1, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl FakeHost {
    /// A machine as it was at the first moment of the archive. A [`pause`](Host::pause) brings it to the later moment.
    pub fn new(archive: Archive) -> Self {
        Self {
            state: RefCell::new(archive),
            sabotage: Sabotage::default(),
            managed: BTreeSet::new(),
            writes: Cell::new(0),
            traffic: RefCell::new(None),
        }
    }

    /// Lets `packets` packets pass these interfaces at every pause, each where the machine's settings lead it.
    pub fn with_traffic(self, packets: u64, ifaces: &[String]) -> Self {
        *self.traffic.borrow_mut() = Some((packets, ifaces.to_vec()));
        self
    }

    /// Makes interrupts refuse to move, as the kernel does with those that it manages itself.
    pub fn with_managed_irqs(mut self, irqs: impl IntoIterator<Item = u32>) -> Self {
        self.managed.extend(irqs);
        self
    }

    /// The handle that breaks this machine.
    pub fn sabotage(&self) -> Sabotage {
        self.sabotage.clone()
    }

    /// Everything on the machine as it is now.
    pub fn contents(&self) -> Archive {
        self.state.borrow().clone()
    }

    /// How many writes reached the machine, refused ones included.
    pub fn write_count(&self) -> u32 {
        self.writes.get()
    }

    /// Replaces a file without asking the kernel's rules: somebody else at work.
    pub fn overwrite(&self, path: &str, text: &str) {
        self.state.borrow_mut().first.files.insert(path.to_owned(), text.to_owned());
    }

    fn cpus(&self, which: &str) -> CpuSet {
        let path = format!("/sys/devices/system/cpu/{which}");
        self.state
            .borrow()
            .first
            .files
            .get(&path)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// A mask as this machine's kernel prints it: as wide as its possible CPUs.
    fn mask_text(&self, set: &CpuSet) -> String {
        let width = self.cpus("possible").iter().last().map_or(1, |last| last as usize + 1);
        let digits = |bits: usize| bits.min(32).div_ceil(4);
        let short = set.to_mask();
        let mut groups: Vec<String> = short.split(',').map(str::to_owned).collect();
        while groups.len() < width.div_ceil(32) {
            groups.insert(0, "0".to_owned());
        }
        let count = groups.len();
        for (index, group) in groups.iter_mut().enumerate() {
            let bits = if index == 0 { width - (count - 1) * 32 } else { 32 };
            *group = format!("{group:0>width$}", width = digits(bits));
        }
        groups.join(",") + "\n"
    }

    fn put(&self, path: &str, text: String) {
        self.state.borrow_mut().first.files.insert(path.to_owned(), text);
    }

    fn write_irq(&self, irq: u32, path: &str, value: &str) -> Result<(), Fault> {
        let refuse = |reason: &str| Fault::new(path, FaultKind::Refused(reason.to_owned()));
        let set: CpuSet = value.parse().map_err(|_| refuse("EINVAL"))?;
        if !set.is_subset(&self.cpus("possible")) {
            return Err(refuse("EOVERFLOW"));
        }
        let online = set.and(&self.cpus("online"));
        let Some(effective) = online.first() else {
            return Err(refuse("EINVAL"));
        };
        if self.managed.contains(&irq) {
            return Err(refuse("EIO"));
        }
        self.put_irq_mask(irq, &set, effective);
        Ok(())
    }

    fn put_irq_mask(&self, irq: u32, set: &CpuSet, effective: u32) {
        let base = format!("/proc/irq/{irq}");
        self.put(&format!("{base}/smp_affinity_list"), format!("{set}\n"));
        self.put(&format!("{base}/effective_affinity_list"), format!("{effective}\n"));
    }

    fn write_mask(&self, path: &str, value: &str) -> Result<(), Fault> {
        let refuse = |reason: &str| Fault::new(path, FaultKind::Refused(reason.to_owned()));
        let set = CpuSet::from_mask(value).map_err(|_| refuse("EINVAL"))?;
        if !set.is_subset(&self.cpus("possible")) {
            return Err(refuse("EOVERFLOW"));
        }
        self.put(path, self.mask_text(&set));
        Ok(())
    }

    /// Recreates the queues and interrupts, as drivers do when the number of channels changes.
    fn remake_queues(&self, iface: &str, knob: Knob, count: u32) {
        let sides: &[&str] = match knob {
            Knob::ChannelsRx => &["rx"],
            Knob::ChannelsTx => &["tx"],
            _ => &["rx", "tx"],
        };
        let none = self.mask_text(&CpuSet::new());
        for side in sides {
            let base = format!("/sys/class/net/{iface}/queues/{side}-");
            {
                let mut state = self.state.borrow_mut();
                state.first.files.retain(|path, _| !path.starts_with(&base));
                state.dirs.retain(|path| !path.starts_with(&base));
            }
            for queue in 0..count {
                if *side == "rx" {
                    self.put(&format!("{base}{queue}/rps_cpus"), none.clone());
                    self.put(&format!("{base}{queue}/rps_flow_cnt"), "0\n".to_owned());
                } else {
                    self.put(&format!("{base}{queue}/xps_cpus"), none.clone());
                }
            }
        }
        if knob == Knob::ChannelsCombined {
            self.remake_irqs(iface, count);
        }
    }

    /// Gives the queues' interrupts new numbers and the default mask.
    fn remake_irqs(&self, iface: &str, count: u32) {
        let text = self.read("/proc/interrupts").unwrap_or_default();
        let Ok(table) = parse::interrupts(&text) else {
            return;
        };
        let device = self.link(&format!("/sys/class/net/{iface}/device")).unwrap_or_default();
        let own_name = device.rsplit('/').next().unwrap_or_default().to_owned();
        let parent = device.rsplit_once('/').map_or("", |(parent, _)| parent);
        let is_own = |irq: u32| {
            let state = self.state.borrow();
            [device.as_str(), parent]
                .iter()
                .any(|dir| state.dirs.contains(&format!("{dir}/msi_irqs/{irq}")))
        };
        let vectors: Vec<_> = table
            .iter()
            .filter(|line| is_own(line.irq))
            .filter_map(|line| match parse::vector_name(&line.name, &[iface, &own_name]) {
                VectorName::Queue(name) => Some((line.irq, name)),
                _ => None,
            })
            .collect();
        let old: BTreeSet<u32> = vectors.iter().map(|(irq, _)| *irq).collect();
        // One template for each direction that has interrupts of its own.
        let names = vectors
            .iter()
            .filter(|(_, name)| name.number == 0)
            .flat_map(|(_, name)| (0..count).map(|queue| name.named(queue)).collect::<Vec<_>>());
        // Numbers from a damaged table may be as high as a number can be.
        let first_fresh = table.iter().map(|line| line.irq).max().unwrap_or(0).min(1 << 20) + 1;
        let fresh: Vec<(u32, String)> = (first_fresh..).zip(names).collect();
        let is_old = |line: &&str| {
            let irq = line.split_once(':').and_then(|(irq, _)| irq.trim().parse().ok());
            irq.is_some_and(|irq| old.contains(&irq))
        };
        let online = self.cpus("online");
        let mut text: String =
            text.lines().filter(|line| !is_old(line)).map(|line| format!("{line}\n")).collect();
        for (irq, name) in &fresh {
            let zeros = " 0".repeat(online.len());
            text.push_str(&format!("{irq}:{zeros} PCI-MSIX {irq}-edge {name}\n"));
            self.put_irq_mask(*irq, &online, online.first().unwrap_or(0));
        }
        self.put("/proc/interrupts", text);
        self.forget_irqs(&old, &fresh, &device);
    }

    /// Removes the files of old interrupts, and lists the fresh ones where the device or its parent lists its own.
    fn forget_irqs(&self, old: &BTreeSet<u32>, fresh: &[(u32, String)], device: &str) {
        let mut state = self.state.borrow_mut();
        let is_old = |path: &str| {
            let irq = path.strip_prefix("/proc/irq/").and_then(|rest| rest.split_once('/'));
            irq.and_then(|(irq, _)| irq.parse().ok()).is_some_and(|irq: u32| old.contains(&irq))
        };
        // All at once: a damaged capture may have tens of thousands of them.
        state.first.files.retain(|path, _| !is_old(path));
        let parent = device.rsplit_once('/').map_or("", |(parent, _)| parent);
        for dir in [device, parent].map(|dir| format!("{dir}/msi_irqs")) {
            if !state.dirs.contains(&dir) {
                continue;
            }
            for irq in old {
                state.dirs.remove(&format!("{dir}/{irq}"));
            }
            state.dirs.extend(fresh.iter().map(|(irq, _)| format!("{dir}/{irq}")));
        }
    }
}

impl Host for FakeHost {
    fn read(&self, path: &str) -> Result<String, Fault> {
        self.state.borrow().read(path)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Fault> {
        self.writes.set(self.writes.get() + 1);
        self.sabotage.before_write(path)?;
        if !self.state.borrow().first.files.contains_key(path) {
            return Err(Fault::new(path, FaultKind::Missing));
        }
        let value = value.trim();
        if let Some(irq) =
            path.strip_prefix("/proc/irq/").and_then(|rest| rest.strip_suffix("/smp_affinity_list"))
        {
            let irq = irq.parse().map_err(|_| Fault::new(path, FaultKind::Missing))?;
            self.write_irq(irq, path, value)
        } else if path.ends_with("/rps_cpus") || path.ends_with("/xps_cpus") {
            self.write_mask(path, value)
        } else {
            self.put(path, format!("{value}\n"));
            Ok(())
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        self.state.borrow().list(path)
    }

    fn has_entry(&self, dir: &str, name: &str) -> bool {
        let (state, path) = (self.state.borrow(), format!("{dir}/{name}"));
        state.dirs.contains(&path) || state.first.files.contains_key(&path)
    }

    fn link(&self, path: &str) -> Result<String, Fault> {
        self.state
            .borrow()
            .links
            .get(path)
            .cloned()
            .ok_or_else(|| Fault::new(path, FaultKind::Missing))
    }

    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
        Ok(self.state.borrow().processes_named(prefixes))
    }

    fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        self.state.borrow().nic(iface)
    }

    fn nic_set(&self, iface: &str, knob: Knob, value: u32) -> Result<(), Fault> {
        self.writes.set(self.writes.get() + 1);
        let what = format!("netlink {knob} of {iface} = {value}");
        self.sabotage.before_write(&what)?;
        let mut facts = self.nic(iface)?;
        let Some(now) = facts.value(knob) else {
            return Err(Fault::new(what, FaultKind::Unsupported));
        };
        if facts.max(knob).is_some_and(|max| u64::from(value) > max)
            || (knob.is_channels() && value == 0)
        {
            return Err(Fault::new(
                what,
                FaultKind::Refused("EINVAL: requested count exceeds maximum".to_owned()),
            ));
        }
        if now == u64::from(value) {
            return Ok(());
        }
        facts.settings.insert(knob.name().to_owned(), u64::from(value));
        if knob.is_channels() {
            facts.queue_irqs.clear();
            facts.rss =
                if facts.rss.is_empty() { Vec::new() } else { vec![128 / value; value as usize] };
        }
        self.state.borrow_mut().first.nics.insert(iface.to_owned(), facts.to_text());
        if knob.is_channels() {
            self.remake_queues(iface, knob, value);
        }
        Ok(())
    }

    fn restart(&self, service: &str) -> Result<(), Fault> {
        self.sabotage.before_write(service)?;
        // As systemd does: the last line that sets the variable, without its quotes, in words.
        let text = self.read("/etc/default/irqbalance")?;
        let line = text.lines().rev().find_map(|line| line.strip_prefix("IRQBALANCE_ARGS="));
        let words = line.unwrap_or_default().trim_matches('"').replace(' ', "\0");
        self.put("/proc/811/cmdline", format!("/usr/sbin/irqbalance\0{words}\0"));
        let cpus = text.lines().rev().find(|line| line.starts_with("IRQBALANCE_BANNED_CPULIST="));
        let cpus = cpus.map_or_else(String::new, |line| line.replace('"', "") + "\0");
        self.put("/proc/811/environ", format!("LANG=C\0{cpus}"));
        Ok(())
    }

    fn pause(&self, _duration: Duration) {
        if let Some((packets, ifaces)) = self.traffic.borrow().as_ref() {
            // The traffic that was asked for, instead of what the archive saw.
            self.state.borrow_mut().later = None;
            let archive = self.contents();
            super::traffic::pass(&mut self.state.borrow_mut().first, *packets, ifaces, &archive);
        } else {
            self.state.borrow_mut().advance();
        }
    }
}

/// A journal in memory that can be ended in the middle of a line.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    text: Rc<RefCell<String>>,
    sabotage: Sabotage,
}

impl MemoryJournal {
    /// An empty journal that dies together with what else listens to `sabotage`.
    pub fn new(sabotage: Sabotage) -> Self {
        Self { text: Rc::default(), sabotage }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, record: &Record) -> Result<(), Fault> {
        let line = line_of(record)?;
        let mut text = self.text.borrow_mut();
        // What a real file would hold after the end is cut off when it is opened again.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        if let Err(fault) = self.sabotage.step("journal") {
            text.push_str(&line[..line.len() / 2]);
            return Err(fault);
        }
        text.push_str(&line);
        Ok(())
    }

    fn reserve(&mut self, _bytes: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn records(&self) -> Result<Journaled, Fault> {
        Ok(Journaled::from_text(&self.text.borrow()))
    }
}

/// Files of a machine whose interrupts were renumbered, by vector name instead: what undo has to bring back.
#[must_use]
pub fn settings_by_name(host: &FakeHost) -> BTreeMap<String, String> {
    let contents = host.contents();
    let table =
        parse::interrupts(contents.first.files.get("/proc/interrupts").map_or("", String::as_str))
            .unwrap_or_default();
    let mut settings = BTreeMap::new();
    for line in table {
        let path = format!("/proc/irq/{}/smp_affinity_list", line.irq);
        if let Some(mask) = contents.first.files.get(&path) {
            settings.insert(format!("irq {}", line.name), mask.clone());
        }
    }
    let kept =
        |path: &&String| !path.starts_with("/proc/irq/") && path.as_str() != "/proc/interrupts";
    for path in contents.first.files.keys().filter(kept) {
        settings.insert(path.clone(), contents.first.files[path].clone());
    }
    for (iface, facts) in &contents.first.nics {
        // The driver forgets which interrupt belongs to which queue when it recreates them; the names tell it again.
        let lines: Vec<&str> = facts
            .lines()
            .filter(|line| !line.starts_with("queue-irq") && !line.starts_with("rss"))
            .collect();
        settings.insert(format!("nic {iface}"), lines.join("\n"));
    }
    settings
}
