//! Reading and writing a machine's settings by their lasting names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::host::{Fault, FaultKind, Host};
use crate::parse;
use crate::plan::Setting;
use crate::snapshot::{action, setting_line, words};

/// The settings of a machine.
///
/// Interrupts are found by their device and their vector's name. The names are read once per device, and again after anything that
/// may have changed them, so that a plan of many interrupts takes a time that grows with their number and not with its square.
pub(super) struct Settings<'h> {
    host: &'h dyn Host,
    /// For each device, and for the whole machine under the empty name, the interrupts of each vector's name.
    vectors: RefCell<BTreeMap<String, Names>>,
}

type Names = BTreeMap<String, Vec<u32>>;

impl<'h> Settings<'h> {
    /// The settings of this machine.
    pub(super) fn new(host: &'h dyn Host) -> Self {
        Self { host, vectors: RefCell::default() }
    }

    /// The value now, without the newline.
    ///
    /// # Errors
    ///
    /// What the host refused; for an interrupt also that no vector of that name exists, or several.
    pub(super) fn read(&self, setting: &Setting) -> Result<String, Fault> {
        let host = self.host;
        match setting {
            Setting::File { path } | Setting::Mask { path } => {
                Ok(host.read(path)?.trim_end().to_owned())
            }
            Setting::Irqbalance { path, name } => {
                Ok(setting_line(&host.read(path)?, name).unwrap_or_default().to_owned())
            }
            Setting::Irq { vector, device, .. } => {
                Ok(host.read(&self.affinity_path(vector, device)?)?.trim_end().to_owned())
            }
            Setting::Card { iface, knob } => match host.nic(iface)?.value(*knob) {
                Some(value) => Ok(value.to_string()),
                None => Err(Fault::new(setting.to_string(), FaultKind::Unsupported)),
            },
        }
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// The host's error, and values that this setting cannot have.
    pub(super) fn write(&self, setting: &Setting, value: &str) -> Result<(), Fault> {
        let host = self.host;
        match setting {
            Setting::File { path } | Setting::Mask { path } => host.write(path, value),
            Setting::Irqbalance { path, name } => configure_irqbalance(host, path, name, value),
            Setting::Irq { vector, device, .. } => {
                host.write(&self.affinity_path(vector, device)?, value)
            }
            Setting::Card { iface, knob } => {
                let value = value.parse().map_err(|_| {
                    Fault::format(&setting.to_string(), format!("`{value}` is not a number"))
                })?;
                // The card may recreate its interrupts, whichever of its settings it was.
                self.vectors.borrow_mut().clear();
                host.nic_set(iface, *knob, value)
            }
        }
    }

    /// The file of the interrupt of this device that has this vector's name now.
    fn affinity_path(&self, vector: &str, device: &str) -> Result<String, Fault> {
        if let Some(irq) = self.known(vector, device)
            && self.is_still(irq, vector, device)
        {
            return Ok(affinity_of(irq));
        }
        let names = names(self.host, device)?;
        let irqs = names.get(vector).cloned().unwrap_or_default();
        self.vectors.borrow_mut().insert(device.to_owned(), names);
        let what = || {
            format!(
                "vector {vector} of {}",
                if device.is_empty() { "/proc/interrupts" } else { device }
            )
        };
        match irqs[..] {
            [irq] => Ok(affinity_of(irq)),
            [] => Err(Fault::new(what(), FaultKind::Missing)),
            _ => Err(Fault::new(
                what(),
                FaultKind::Refused(format!("an ambiguous name: interrupts {irqs:?} have it")),
            )),
        }
    }

    fn known(&self, vector: &str, device: &str) -> Option<u32> {
        match self.vectors.borrow().get(device)?.get(vector)?[..] {
            [irq] => Some(irq),
            _ => None,
        }
    }

    /// Whether the kernel still gives the interrupt this name and this device. Somebody else may have changed the card meanwhile.
    fn is_still(&self, irq: u32, vector: &str, device: &str) -> bool {
        let has_name = match self.host.read(&format!("/sys/kernel/irq/{irq}/actions")) {
            Ok(text) => action(&text).is_none_or(|name| name == vector),
            // An older kernel, or a capture: the table of all names is what there is.
            Err(_) => true,
        };
        let is_own = || self.host.has_entry(&format!("{device}/msi_irqs"), &irq.to_string());
        has_name && (device.is_empty() || is_own())
    }
}

fn affinity_of(irq: u32) -> String {
    format!("/proc/irq/{irq}/smp_affinity_list")
}

/// The interrupts of the device, or of the whole machine where its name is empty, by the names of their vectors.
fn names(host: &dyn Host, device: &str) -> Result<Names, Fault> {
    let own = own_irqs(host, device)?;
    let by_kernel = own.iter().flatten().filter_map(|irq| {
        let text = host.read(&format!("/sys/kernel/irq/{irq}/actions")).ok()?;
        Some((*irq, action(&text)?))
    });
    let mut named: Vec<(u32, String)> = by_kernel.collect();
    if named.is_empty() {
        let path = "/proc/interrupts";
        let table = parse::interrupts(&host.read(path)?).map_err(|why| Fault::format(path, why))?;
        let is_own = |irq: &u32| own.as_ref().is_none_or(|own| own.contains(irq));
        named = table
            .into_iter()
            .filter(|line| is_own(&line.irq))
            .map(|line| (line.irq, line.name))
            .collect();
    }
    let mut names = Names::new();
    for (irq, name) in named {
        names.entry(name).or_default().push(irq);
    }
    Ok(names)
}

/// The interrupts of a device; `None` where no device is known and the name must be the only one on the machine.
fn own_irqs(host: &dyn Host, device: &str) -> Result<Option<BTreeSet<u32>>, Fault> {
    if device.is_empty() {
        return Ok(None);
    }
    let names = host.list(&format!("{device}/msi_irqs"))?;
    Ok(Some(names.iter().filter_map(|name| name.parse().ok()).collect()))
}

/// Replaces the line, restarts irqbalance, and checks whether it was started with the line's words.
fn configure_irqbalance(host: &dyn Host, path: &str, name: &str, line: &str) -> Result<(), Fault> {
    let text = host.read(path)?;
    let old = setting_line(&text, name);
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|other| Some(*other) == old);
    match (at, line) {
        (Some(at), "") => drop(lines.remove(at)),
        (Some(at), _) => lines[at] = line,
        (None, "") => {}
        (None, _) => lines.push(line),
    }
    host.write(path, &lines.join("\n"))?;
    host.restart("irqbalance.service")?;
    // A service manager returns before its service has become a process of that name.
    let find = |_| {
        let found = host
            .processes(&["irqbalance"])
            .ok()?
            .into_iter()
            .find(|(_, name)| name == "irqbalance");
        found.or_else(|| {
            host.pause(Duration::from_millis(100));
            None
        })
    };
    let Some((pid, _)) = (0..20).find_map(find) else { return Ok(()) };
    // Its arguments are one variable, in words; any other variable is passed on as it is.
    let words = words(line).unwrap_or_default();
    let (file, wanted) = if name.starts_with("IRQBALANCE_BANNED") {
        ("environ", words.iter().map(|word| format!("{name}={word}")).collect())
    } else {
        ("cmdline", words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let started = host.read(&format!("/proc/{pid}/{file}"))?;
    let is_there = |word: &&String| started.split('\0').any(|other| other == *word);
    match wanted.iter().find(|word| !is_there(word)) {
        None => Ok(()),
        Some(word) => Err(Fault::format(
            path,
            format!(
                "irqbalance was started without {word}, so its unit does not read {name} from this file"
            ),
        )),
    }
}
