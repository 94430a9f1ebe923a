//! One text file that holds what the tool read of a machine: for bug reports and fixtures.
//!
//! ```text
//! corewire-tune capture 1
//! #recorded on a two-CPU virtual machine
//! @file /proc/net/softnet_stat
//! |000007a5 00000000 ...
//! @link /sys/class/net/eth0/device
//! |/sys/devices/pci0000:00/0000:00:03.0/virtio2
//! @later 1000
//! @file /proc/net/softnet_stat
//! |00000a11 00000000 ...
//! ```
//!
//! Plain text, because people must be able to see what they are about to send, and because a fixture is reviewed by its
//! diff.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::real::no_card;
use super::{Fault, FaultKind, Host, Knob, NicFacts};

/// The first line of every archive.
const TITLE: &str = "corewire-tune capture 1";

/// What was read of a machine, at one moment or two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Where the content comes from, for people.
    pub comment: String,
    /// What was read first.
    pub first: Moment,
    /// What was read again later and had changed, and after how many milliseconds.
    pub later: Option<(u64, Moment)>,
    /// Symbolic links and where they lead.
    pub links: BTreeMap<String, String>,
    /// Directories that are empty, or whose content was not read.
    pub dirs: BTreeSet<String>,
    /// Processes: (process id, name).
    pub processes: Vec<(u32, String)>,
    /// Paths that could not be read, with the error's name.
    pub refused: BTreeMap<String, String>,
}

/// Files and cards at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// File contents by path. Each ends with a newline unless it is empty.
    pub files: BTreeMap<String, String>,
    /// Cards' facts in the form of [`NicFacts::to_text`](super::NicFacts::to_text), by interface.
    pub nics: BTreeMap<String, String>,
}

/// Why a text is not an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ArchiveError {}

impl Archive {
    /// Writes the archive.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{TITLE}\n");
        for line in self.comment.lines() {
            text.push_str(&format!("#{line}\n"));
        }
        for (pid, name) in &self.processes {
            text.push_str(&format!("@process {pid} {name}\n"));
        }
        for path in &self.dirs {
            text.push_str(&format!("@dir {path}\n"));
        }
        for (path, reason) in &self.refused {
            put(&mut text, "refused", path, reason);
        }
        for (path, target) in &self.links {
            put(&mut text, "link", path, target);
        }
        put_moment(&mut text, &self.first);
        if let Some((ms, moment)) = &self.later {
            text.push_str(&format!("@later {ms}\n"));
            put_moment(&mut text, moment);
        }
        text
    }

    /// Reads an archive.
    ///
    /// # Errors
    ///
    /// Names the first line that does not have the right form.
    pub fn from_text(text: &str) -> Result<Self, ArchiveError> {
        let mut lines = text.lines().zip(1..).peekable();
        let fail = |line, why: &str| ArchiveError { line, why: why.to_owned() };
        match lines.next() {
            Some((TITLE, _)) => {}
            _ => return Err(fail(1, &format!("the first line is not `{TITLE}`"))),
        }
        let mut archive = Self::default();
        while let Some((line, number)) = lines.next() {
            if let Some(comment) = line.strip_prefix('#') {
                archive.comment.push_str(comment);
                archive.comment.push('\n');
                continue;
            }
            let mut body = String::new();
            while let Some((content, _)) = lines.next_if(|(line, _)| line.starts_with('|')) {
                body.push_str(&content[1..]);
                body.push('\n');
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if rest.is_empty() {
                return Err(fail(number, "an entry without a name"));
            }
            archive.entry(word, rest, body).map_err(|why| fail(number, &why))?;
        }
        Ok(archive)
    }

    /// A file at the present moment.
    ///
    /// # Errors
    ///
    /// When it is not in the archive, or its reading was refused.
    pub fn read(&self, path: &str) -> Result<String, Fault> {
        if let Some(reason) = self.refused.get(path) {
            let kind = if reason == "EACCES" {
                FaultKind::Denied
            } else {
                FaultKind::Refused(reason.clone())
            };
            return Err(Fault::new(path, kind));
        }
        self.first.files.get(path).cloned().ok_or_else(|| Fault::new(path, FaultKind::Missing))
    }

    /// The names in a directory.
    ///
    /// # Errors
    ///
    /// When the archive has no such directory.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        let base = format!("{}/", path.trim_end_matches('/'));
        let below = |known: &String| {
            known.strip_prefix(&base).and_then(|rest| rest.split('/').next()).map(str::to_owned)
        };
        let names: BTreeSet<String> = self
            .dirs
            .range(base.clone()..)
            .take_while(|known| known.starts_with(&base))
            .chain(
                self.first
                    .files
                    .range(base.clone()..)
                    .map(|(path, _)| path)
                    .take_while(|known| known.starts_with(&base)),
            )
            .chain(
                self.links
                    .range(base.clone()..)
                    .map(|(path, _)| path)
                    .take_while(|known| known.starts_with(&base)),
            )
            .filter_map(below)
            .collect();
        if names.is_empty() && !self.dirs.contains(path) {
            return Err(Fault::new(path, FaultKind::Missing));
        }
        Ok(names.into_iter().collect())
    }

    /// The processes whose name starts with one of the prefixes.
    #[must_use]
    pub fn processes_named(&self, prefixes: &[&str]) -> Vec<(u32, String)> {
        let is_named =
            |(_, name): &&(u32, String)| prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.processes.iter().filter(is_named).cloned().collect()
    }

    /// What a card reported about itself.
    ///
    /// # Errors
    ///
    /// When the archive has no such card, or its text does not have the right form.
    pub fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        let text = self.first.nics.get(iface).ok_or_else(|| no_card(iface))?;
        NicFacts::from_text(text).map_err(|why| Fault::format(&format!("card {iface}"), why))
    }

    /// Moves on to the later moment.
    pub fn advance(&mut self) {
        if let Some((_, mut later)) = self.later.take() {
            self.first.files.append(&mut later.files);
            self.first.nics.append(&mut later.nics);
        }
    }

    fn entry(&mut self, word: &str, rest: &str, body: String) -> Result<(), String> {
        let name = rest.to_owned();
        let moment = match &mut self.later {
            Some((_, moment)) => moment,
            None => &mut self.first,
        };
        match word {
            "@file" => {
                moment.files.insert(name, body);
            }
            "@nic" => {
                moment.nics.insert(name, body);
            }
            "@link" => {
                self.links.insert(name, body.trim_end().to_owned());
            }
            "@refused" => {
                self.refused.insert(name, body.trim_end().to_owned());
            }
            "@dir" => {
                self.dirs.insert(name);
            }
            "@process" => {
                let (pid, comm) = rest.split_once(' ').ok_or("a process without a name")?;
                let pid = pid.parse().map_err(|_| "a process id is not a number")?;
                self.processes.push((pid, comm.to_owned()));
            }
            "@later" => {
                let ms = rest.parse().map_err(|_| "the time is not a number of milliseconds")?;
                self.later = Some((ms, Moment::default()));
            }
            _ => {
                return Err(format!(
                    "`{}` is not a kind of entry",
                    word.chars().take(30).collect::<String>()
                ));
            }
        }
        Ok(())
    }
}

fn put_moment(text: &mut String, moment: &Moment) {
    for (iface, facts) in &moment.nics {
        put(text, "nic", iface, facts);
    }
    for (path, content) in &moment.files {
        put(text, "file", path, content);
    }
}

fn put(text: &mut String, kind: &str, name: &str, body: &str) {
    text.push_str(&format!("@{kind} {name}\n"));
    for line in body.lines() {
        text.push_str(&format!("|{line}\n"));
    }
}

/// The machine that an archive was made of, read-only.
#[derive(Debug)]
pub struct ArchiveHost(RefCell<Archive>);

impl ArchiveHost {
    /// The machine as it was at the first moment. A [`pause`](Host::pause) brings it to the later moment.
    #[must_use]
    pub fn new(archive: Archive) -> Self {
        Self(RefCell::new(archive))
    }
}

impl Host for ArchiveHost {
    fn read(&self, path: &str) -> Result<String, Fault> {
        self.0.borrow().read(path)
    }

    fn write(&self, path: &str, _value: &str) -> Result<(), Fault> {
        Err(Fault::new(path, FaultKind::Denied))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        self.0.borrow().list(path)
    }

    fn link(&self, path: &str) -> Result<String, Fault> {
        self.0.borrow().links.get(path).cloned().ok_or_else(|| Fault::new(path, FaultKind::Missing))
    }

    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
        Ok(self.0.borrow().processes_named(prefixes))
    }

    fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        self.0.borrow().nic(iface)
    }

    fn nic_set(&self, iface: &str, knob: Knob, _value: u32) -> Result<(), Fault> {
        Err(Fault::new(format!("{knob} of {iface}"), FaultKind::Denied))
    }

    fn restart(&self, service: &str) -> Result<(), Fault> {
        Err(Fault::new(format!("service {service}"), FaultKind::Denied))
    }

    fn pause(&self, _duration: Duration) {
        self.0.borrow_mut().advance();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_archive_round_trips() {
        let mut archive = Archive { comment: "made by hand\n".to_owned(), ..Archive::default() };
        archive.first.files.insert("/proc/stat".to_owned(), "cpu 1\n@file x\n".to_owned());
        archive.first.files.insert("/sys/empty".to_owned(), String::new());
        archive.links.insert("/a".to_owned(), "/b".to_owned());
        archive.dirs.insert("/d".to_owned());
        archive.refused.insert("/r".to_owned(), "EIO".to_owned());
        archive.processes.push((7, "irqbalance".to_owned()));
        let mut later = Moment::default();
        later.files.insert("/proc/stat".to_owned(), "cpu 2\n".to_owned());
        archive.later = Some((1000, later));
        assert_eq!(Archive::from_text(&archive.to_text()).unwrap(), archive);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(corewire-tune capture 1\n)?(([@#|]?(file|later|link|process|nic)? ?)?[ -~]{0,8}\n){0,6}") {
            let _ = Archive::from_text(&text);
        }
    }
}
