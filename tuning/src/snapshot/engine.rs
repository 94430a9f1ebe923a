//! The engine's process: its limits and where its threads may run.

use crate::host::{Fault, FaultKind};
use crate::parse;
use corewire_placement::CpuSet;

use super::reader::Reader;

/// The bit of this capability in `CapEff`.
const CAP_SYS_ADMIN: u32 = 21;

/// The engine's process.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    /// Its process id.
    pub pid: u32,
    /// Memory that it may lock, in bytes; `None` for no limit or when it could not be read.
    pub memlock_bytes: Option<u64>,
    /// Files that it may open; `None` for no limit or when it could not be read.
    pub open_files: Option<u64>,
    /// Whether the limits could be read.
    pub limits_known: bool,
    /// The groups that it is in.
    pub groups: Vec<u64>,
    /// Whether it has CAP_SYS_ADMIN.
    pub is_admin: bool,
    /// Its threads.
    pub threads: Vec<EngineThread>,
}

/// One thread of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineThread {
    /// The thread's name.
    pub name: String,
    /// The CPUs that it may run on.
    pub allowed: CpuSet,
}

impl Engine {
    pub(super) fn read(reader: &mut Reader<'_>, pid: u32) -> Result<Self, Fault> {
        let mut engine = Self { pid, ..Self::default() };
        let status = reader
            .optional(&format!("/proc/{pid}/status"))
            .ok_or_else(|| Fault::new(format!("process {pid}"), FaultKind::Missing))?;
        let own =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        engine.groups = [own("Gid:"), own("Groups:")]
            .into_iter()
            .flatten()
            .flat_map(str::split_whitespace)
            .filter_map(|id| id.parse().ok())
            .collect();
        let capabilities =
            own("CapEff:").and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        engine.is_admin = capabilities & (1 << CAP_SYS_ADMIN) != 0;
        match reader.optional(&format!("/proc/{pid}/limits")) {
            Some(text) => {
                engine.limits_known = true;
                engine.memlock_bytes = parse::limit(&text, "Max locked memory").flatten();
                engine.open_files = parse::limit(&text, "Max open files").flatten();
            }
            None => reader.note(Fault::new(format!("/proc/{pid}/limits"), FaultKind::Missing)),
        }
        for tid in reader.list(&format!("/proc/{pid}/task")) {
            let Some(status) = reader.optional(&format!("/proc/{pid}/task/{tid}/status")) else {
                continue;
            };
            let field =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(name), Some(Ok(allowed))) =
                (field("Name:"), field("Cpus_allowed_list:").map(str::parse))
            {
                engine.threads.push(EngineThread { name: name.to_owned(), allowed });
            }
        }
        Ok(engine)
    }
}
