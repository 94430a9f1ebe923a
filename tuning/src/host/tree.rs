//! A machine's files, copied under a directory: for fixtures, and for trying a plan where nothing can break.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::real::{list_sorted, no_card, write_existing};
use super::{Fault, Host, Knob, NicFacts};

/// Files under a directory in place of a machine's `/proc` and `/sys`.
///
/// Cards are read from `DIR/nic/IFACE` (the form of [`NicFacts::to_text`]) and processes from `DIR/processes`. There is
/// no kernel behind the files: a value that is written is simply there.
#[derive(Debug)]
pub struct TreeHost {
    root: PathBuf,
}

impl TreeHost {
    /// A machine made of the files under `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn real(&self, path: &str) -> String {
        self.root.join(path.trim_start_matches('/')).to_string_lossy().into_owned()
    }
}

impl Host for TreeHost {
    fn read(&self, path: &str) -> Result<String, Fault> {
        fs::read_to_string(self.real(path)).map_err(|error| Fault::from_io(path, &error))
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Fault> {
        write_existing(&self.real(path), path, value)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        list_sorted(&self.real(path), path)
    }

    fn link(&self, path: &str) -> Result<String, Fault> {
        let fail = |error: std::io::Error| Fault::from_io(path, &error);
        let root = fs::canonicalize(&self.root).map_err(fail)?;
        let target = fs::canonicalize(self.real(path)).map_err(fail)?;
        // A link that leads out of the copy is the copying machine's own path, and means nothing here.
        let inside = target
            .strip_prefix(&root)
            .map_err(|_| Fault::format(path, "the link leads out of the tree"))?;
        Ok(format!("/{}", inside.to_string_lossy()))
    }

    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
        let text = self.read("/processes").unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(pid, name)| Some((pid.parse().ok()?, name.to_owned())))
            .filter(|(_, name)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .collect())
    }

    fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        let path = format!("/nic/{iface}");
        let text = self.read(&path).map_err(|_| no_card(iface))?;
        NicFacts::from_text(&text).map_err(|why| Fault::format(&path, why))
    }

    fn nic_set(&self, iface: &str, knob: Knob, value: u32) -> Result<(), Fault> {
        let mut facts = self.nic(iface)?;
        facts.settings.insert(knob.name().to_owned(), u64::from(value));
        let path = format!("/nic/{iface}");
        fs::write(self.real(&path), facts.to_text()).map_err(|error| Fault::from_io(&path, &error))
    }

    fn restart(&self, _service: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn pause(&self, _duration: Duration) {}
}
