//! One apply at a time on one host, whatever directories the journals are in.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::host::Fault;
use crate::journal::{FileJournal, lock_exclusively};

/// The host's lock, held until it is dropped. It is in `/run`, which is cleared at a restart, as the
/// settings are.
#[derive(Debug)]
pub struct HostLock {
    dir: PathBuf,
    _file: File,
}

impl HostLock {
    /// Takes the lock of the machine, or of the copy of one under `root`.
    ///
    /// # Errors
    ///
    /// When another run holds it, or its directory cannot be made.
    pub fn take(root: Option<&Path>) -> Result<Self, Fault> {
        let dir = root.unwrap_or_else(|| Path::new("/")).join("run/corewire-tune");
        let path = dir.join("lock");
        let fail = |error: std::io::Error| Fault::from_io(&path.to_string_lossy(), &error);
        fs::create_dir_all(&dir).map_err(fail)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        lock_exclusively(&file, &path)?;
        Ok(Self { dir, _file: file })
    }

    /// Records where the journal of the apply that begins now is.
    ///
    /// # Errors
    ///
    /// When it cannot be stored.
    pub fn begin(&self, state_dir: &Path) -> Result<(), Fault> {
        let path = self.dir.join("journal-at");
        let fail = |error: std::io::Error| Fault::from_io(&path.to_string_lossy(), &error);
        let state_dir = std::path::absolute(state_dir).map_err(fail)?;
        fs::write(&path, state_dir.to_string_lossy().as_bytes()).map_err(fail)
    }

    /// Why no apply may begin: an apply of another journal is not settled in this boot.
    #[must_use]
    pub fn open_elsewhere(&self, state_dir: &Path, boot_id: &str) -> Option<String> {
        let other = PathBuf::from(fs::read_to_string(self.dir.join("journal-at")).ok()?);
        if std::path::absolute(state_dir).is_ok_and(|own| own == other) {
            return None;
        }
        let applies = FileJournal::peek(&other).ok()?.applies();
        applies.iter().find_map(|applied| {
            let why = applied.is_open(boot_id)?;
            Some(format!(
                "{} in {} {why} (--state-dir {})",
                applied.id,
                other.display(),
                other.display()
            ))
        })
    }
}
