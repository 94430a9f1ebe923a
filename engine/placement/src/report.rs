//! Why each CPU is what it is, for people.

use std::fmt;

use crate::choose::Choice;
use crate::facts::Facts;

/// A table of every CPU of a host: what it does under a choice, where it is, and why.
///
/// ```
/// use corewire_placement::{Facts, Policy, Report, Root};
///
/// let mut host = Root::system();
/// let facts = Facts::read(&mut host, None)?;
/// let choice = Policy::All.choose(&mut host, &facts)?;
/// let table = Report::new(&facts, &choice).to_string();
/// assert!(table.contains("shard 0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The CPUs in rising order.
    pub lines: Vec<CpuLine>,
    /// What holds for the whole: shards that are not pinned, the quota.
    pub notes: Vec<String>,
}

/// What one CPU is.
///
/// ```
/// # use corewire_placement::{Facts, Policy, Report, Root};
/// # let facts = Facts::read(&mut Root::system(), None)?;
/// # let choice = Policy::All.choose(&mut Root::system(), &facts)?;
/// for line in Report::new(&facts, &choice).lines {
///     println!("CPU {}: {}", line.cpu, line.role);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuLine {
    /// Its number.
    pub cpu: u32,
    /// What it does: `shard 3`, `interrupts`, `helpers`, `free`, or why nothing runs there.
    pub role: String,
    /// Its NUMA node and physical core; `None` where the host does not report them, or it is offline.
    pub node: Option<u32>,
    /// Its physical core, named by that core's lowest CPU; `None` if it is offline.
    pub core: Option<u32>,
    /// What is known about it, such as `sibling of 2`, `isolated`.
    pub why: Vec<String>,
}

impl Report {
    /// Explains a choice.
    #[must_use]
    pub fn new(facts: &Facts, choice: &Choice) -> Self {
        let cpus = facts.possible.or(&facts.online);
        let lines = cpus.iter().map(|cpu| line(cpu, facts, choice)).collect();
        let mut notes = Vec::new();
        let unpinned = choice.shards.iter().filter(|cpu| cpu.is_none()).count();
        if unpinned > 0 {
            notes
                .push(format!("{unpinned} shards are not pinned: they run on any CPU of the mask"));
        } else if choice.helpers.is_empty() {
            notes.push(
                "every CPU of the mask has a shard: interrupts and other threads share them"
                    .to_owned(),
            );
        }
        if let Some(quota) = facts.quota {
            notes.push(format!("the control group's quota is worth {quota} CPUs"));
        }
        Self { lines, notes }
    }
}

fn line(cpu: u32, facts: &Facts, choice: &Choice) -> CpuLine {
    let place = facts.topology.machine.iter().find(|place| place.cpu == cpu);
    let shard = choice.shards.iter().position(|placed| *placed == Some(cpu));
    let is_online = facts.online.contains(cpu);
    let mut why = Vec::new();
    let mut say = |holds: bool, what: &str| {
        if holds {
            why.push(what.to_owned());
        }
    };
    say(is_online, "online");
    say(is_online && facts.affinity.contains(cpu), "in the affinity mask");
    say(facts.isolated.contains(cpu), "isolated from the scheduler");
    say(facts.nohz_full.contains(cpu), "without a tick");
    say(facts.slow.contains(cpu), "of the slower kind");
    let siblings = facts.siblings(cpu);
    for other in siblings.iter().filter(|other| *other != cpu) {
        say(is_online, &format!("sibling of {other}"));
    }
    let role = match shard {
        Some(id) => format!("shard {id}"),
        None if !is_online => "offline".to_owned(),
        None if !facts.allowed.contains(cpu) => "not in this control group's cpuset".to_owned(),
        None if choice.interrupts.contains(cpu) && choice.helpers.contains(cpu) => {
            "interrupts, helpers".to_owned()
        }
        None if choice.interrupts.contains(cpu) => "interrupts".to_owned(),
        None if choice.helpers.contains(cpu) => "helpers".to_owned(),
        None if !facts.affinity.contains(cpu) && facts.isolated.contains(cpu) => {
            "unused: for those who name it".to_owned()
        }
        None if !facts.affinity.contains(cpu) => "not in the affinity mask".to_owned(),
        None => {
            let neighbour = siblings
                .iter()
                .find_map(|other| choice.shards.iter().position(|placed| *placed == Some(other)));
            match neighbour {
                Some(id) => format!("free: its core has shard {id}"),
                None => "free".to_owned(),
            }
        }
    };
    CpuLine {
        cpu,
        role,
        node: place.and_then(|place| place.node),
        core: place.map(|place| place.core),
        why,
    }
}

/// A table with a heading, and the notes below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.role.len()).max().unwrap_or(0).max(4);
        let shown =
            |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
        writeln!(f, "{:>4}  {:width$}  {:>4}  {:>4}  why", "CPU", "role", "node", "core")?;
        for line in &self.lines {
            let (node, core) = (shown(line.node), shown(line.core));
            let why = line.why.join(", ");
            let text =
                format!("{:>4}  {:width$}  {node:>4}  {core:>4}  {why}", line.cpu, line.role);
            writeln!(f, "{}", text.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
