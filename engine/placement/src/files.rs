//! Where the facts of a host are read from: its own `/proc` and `/sys`, or a tree of files in their place.

use std::fs;
use std::path::PathBuf;

/// The files of a host. Paths are absolute paths of a Linux system, such as `/sys/devices/system/cpu/online`.
///
/// ```
/// use corewire_placement::{Files, Root};
///
/// let mut host = Root::system();
/// assert!(host.read("/no/such/file").is_none());
/// assert!(host.list("/no/such/folder").is_empty());
/// ```
pub trait Files {
    /// The text of a file that not every host has; `None` where it is absent, may not be read, or is not text. A reader that
    /// reports refusals remembers them.
    fn read(&mut self, path: &str) -> Option<String>;

    /// The same for a file whose absence or refusal says nothing.
    fn read_quietly(&mut self, path: &str) -> Option<String> {
        self.read(path)
    }

    /// The names in a folder, in any order; none where it is absent or may not be read.
    fn list(&mut self, path: &str) -> Vec<String>;

    /// A file has a form that is not understood, and counts as absent.
    fn note(&mut self, _path: &str, _why: &str) {}
}

/// The files under a folder: `/` for this host, or a copy of another host's `/proc` and `/sys`.
///
/// ```
/// use corewire_placement::{Files, Root};
///
/// let mut empty = Root::new("/no/such/tree");
/// assert!(empty.read("/sys/devices/system/cpu/online").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The files under this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// This host's own files.
    #[must_use]
    pub fn system() -> Self {
        Self::new("/")
    }

    fn real(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }
}

impl Files for Root {
    fn read(&mut self, path: &str) -> Option<String> {
        fs::read_to_string(self.real(path)).ok()
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.real(path)) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}
