//! What was done to the machine, recorded before it is done.
//!
//! One JSON object per line in `journal.jsonl`, each flushed to the disk before the write that it announces. A program
//! that is ended at any point therefore leaves at most one announced write that did not happen; undo notices that by
//! reading the value.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::host::{Fault, FaultKind};
use crate::plan::Setting;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// An apply begins.
    Begin {
        /// Its name: `apply-1`, `apply-2`, ….
        id: String,
        /// The boot in which it was done.
        boot_id: String,
        /// Seconds since 1970, for people.
        unix_seconds: u64,
    },
    /// A value that the next change of channels resets.
    Keep {
        /// The apply.
        id: String,
        /// The number of the step that resets it.
        step: u32,
        /// What is kept.
        setting: Setting,
        /// Its value.
        old: String,
    },
    /// A write is about to happen.
    Intent {
        /// The apply.
        id: String,
        /// The number of the step, from 0.
        step: u32,
        /// What is written.
        setting: Setting,
        /// The value before.
        old: String,
        /// The value to write.
        new: String,
    },
    /// The write happened and was read back.
    Done {
        /// The apply.
        id: String,
        /// The number of the step.
        step: u32,
    },
    /// All steps are done.
    Complete {
        /// The apply.
        id: String,
    },
    /// The operator can still reach the machine.
    Confirmed {
        /// The apply.
        id: String,
    },
    /// A step is about to be undone.
    Undoing {
        /// The apply.
        id: String,
        /// The number of the step.
        step: u32,
    },
    /// A step, with everything that it reset, has been undone.
    Undone {
        /// The apply.
        id: String,
        /// The number of the step.
        step: u32,
    },
    /// The whole apply has been undone.
    Ended {
        /// The apply.
        id: String,
    },
}

/// Where records go.
pub trait Journal {
    /// Adds a record, for good: when this returns, it survives the end of the program.
    ///
    /// # Errors
    ///
    /// When it cannot be stored. Then the write that it announces must not happen.
    fn append(&mut self, record: &Record) -> Result<(), Fault>;

    /// Reserves `bytes` for records to come, so that a disk that fills up meanwhile cannot stop an undo.
    ///
    /// # Errors
    ///
    /// When there is no room. Then nothing must be written to the machine.
    fn reserve(&mut self, bytes: u64) -> Result<(), Fault>;

    /// All records so far.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn records(&self) -> Result<Journaled, Fault>;
}

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journaled {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Numbers of lines, from 1, that are not records. Something damaged them: what they announced is not known.
    pub damaged: Vec<usize>,
}

impl Journaled {
    /// Reads a journal's text. A last line without its newline was cut off by the end of a program and is left out: the
    /// write that it announces did not happen.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut journaled = Self::default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        for (line, number) in text[..whole].lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(record) => journaled.records.push(record),
                Err(_) => journaled.damaged.push(number),
            }
        }
        journaled
    }

    /// The applies, in order.
    #[must_use]
    pub fn applies(&self) -> Vec<Applied> {
        applies(&self.records)
    }

    /// A message about damaged lines; `None` when there are none.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let lines: Vec<String> = self.damaged.iter().map(usize::to_string).collect();
        (!lines.is_empty()).then(|| {
            format!("journal.jsonl is damaged in line {}: what it says is not known and cannot be taken back by the tool", lines.join(", "))
        })
    }
}

/// The journal in a directory, locked against other runs of the program.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
    _lock: File,
}

impl FileJournal {
    /// Opens the journal in `dir`, making the directory if needed.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or written, or another run holds the lock.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join("journal.jsonl");
        let shown = path.to_string_lossy().into_owned();
        let fail = |error: std::io::Error| Fault::from_io(&shown, &error);
        fs::create_dir_all(dir).map_err(fail)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(fail)?;
        lock_exclusively(&lock, &dir.join("lock"))?;
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        // A line that was cut off must not swallow the next one.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(fail)?;
        }
        Ok(Self { path, file, _lock: lock })
    }

    /// The records in `dir` without taking the lock; none if there is no journal.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be read.
    pub fn peek(dir: &Path) -> Result<Journaled, Fault> {
        let path = dir.join("journal.jsonl");
        match fs::read(&path) {
            Ok(bytes) => Ok(Journaled::from_text(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Journaled::default()),
            Err(error) => Err(Fault::from_io(&path.to_string_lossy(), &error)),
        }
    }
}

/// Takes the lock on a file, until the file is closed.
pub(crate) fn lock_exclusively(file: &File, path: &Path) -> Result<(), Fault> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        let shown = path.to_string_lossy();
        if errno == Errno::WOULDBLOCK {
            Fault::new(shown, FaultKind::Refused(HELD.to_owned()))
        } else {
            Fault::from_io(&shown, &errno.into())
        }
    })
}

/// The message of a fault when another run holds a lock.
pub(crate) const HELD: &str = "another run holds the lock";

/// A record as one line of a journal.
///
/// # Errors
///
/// Never for a record of this program.
pub fn line_of(record: &Record) -> Result<String, Fault> {
    let line = serde_json::to_string(record)
        .map_err(|error| Fault::format("journal", error.to_string()))?;
    Ok(line + "\n")
}

impl Journal for FileJournal {
    fn append(&mut self, record: &Record) -> Result<(), Fault> {
        let line = line_of(record)?;
        let result = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        result.map_err(|error| Fault::from_io(&self.path.to_string_lossy(), &error))
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), Fault> {
        let fail = |error: std::io::Error| Fault::from_io(&self.path.to_string_lossy(), &error);
        let end = self.file.metadata().map_err(fail)?.len();
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, bytes) {
            // Not every file system can reserve space; on those it only means that there was some.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(errno) => Err(fail(errno.into())),
        }
    }

    fn records(&self) -> Result<Journaled, Fault> {
        let bytes = fs::read(&self.path)
            .map_err(|error| Fault::from_io(&self.path.to_string_lossy(), &error))?;
        Ok(Journaled::from_text(&String::from_utf8_lossy(&bytes)))
    }
}

/// One apply, assembled from its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub id: String,
    /// The boot in which it was done.
    pub boot_id: String,
    /// When it began, in seconds since 1970.
    pub unix_seconds: u64,
    /// Its steps in order: number, setting, old, new.
    pub steps: Vec<(u32, Setting, String, String)>,
    /// What steps reset: number of the step, setting, old.
    pub kept: Vec<(u32, Setting, String)>,
    /// Whether all steps were done.
    pub is_complete: bool,
    /// Whether the operator confirmed it.
    pub is_confirmed: bool,
    /// Steps whose undo has begun.
    pub undoing: Vec<u32>,
    /// Steps that are undone.
    pub undone: Vec<u32>,
    /// Whether all of it is undone.
    pub is_ended: bool,
}

impl Applied {
    /// Why no other apply may begin before this one is settled; `None` when it is.
    #[must_use]
    pub fn is_open(&self, boot_id: &str) -> Option<&'static str> {
        if self.is_ended || self.boot_id != boot_id || (self.is_complete && self.is_confirmed) {
            None
        } else if self.is_complete {
            Some("waits for `corewire-tune confirm` or `corewire-tune undo`")
        } else {
            Some("was cut off; run `corewire-tune undo`")
        }
    }
}

/// All applies of a journal, in order.
#[must_use]
pub fn applies(records: &[Record]) -> Vec<Applied> {
    let mut all: Vec<Applied> = Vec::new();
    for record in records {
        if let Record::Begin { id, boot_id, unix_seconds } = record {
            let applied = Applied {
                id: id.clone(),
                boot_id: boot_id.clone(),
                unix_seconds: *unix_seconds,
                ..Applied::default()
            };
            all.push(applied);
            continue;
        }
        let id = match record {
            Record::Begin { .. } => continue,
            Record::Keep { id, .. }
            | Record::Intent { id, .. }
            | Record::Done { id, .. }
            | Record::Complete { id }
            | Record::Confirmed { id }
            | Record::Undoing { id, .. }
            | Record::Undone { id, .. }
            | Record::Ended { id } => id,
        };
        let Some(applied) = all.iter_mut().rev().find(|applied| applied.id == *id) else {
            continue;
        };
        match record {
            Record::Begin { .. } | Record::Done { .. } => {}
            Record::Keep { step, setting, old, .. } => {
                applied.kept.push((*step, setting.clone(), old.clone()))
            }
            Record::Intent { step, setting, old, new, .. } => {
                applied.steps.push((*step, setting.clone(), old.clone(), new.clone()))
            }
            Record::Complete { .. } => applied.is_complete = true,
            Record::Confirmed { .. } => applied.is_confirmed = true,
            Record::Undoing { step, .. } => applied.undoing.push(*step),
            Record::Undone { step, .. } => applied.undone.push(*step),
            Record::Ended { .. } => applied.is_ended = true,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_cut_line_is_left_out_and_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("journal.jsonl"),
            "{\"record\":\"complete\",\"id\":\"a\"}\n{\"record\":\"con",
        )
        .unwrap();
        let mut journal = FileJournal::open(dir.path()).unwrap();
        let ended = Record::Ended { id: "a".to_owned() };
        journal.append(&ended).unwrap();
        let journaled = journal.records().unwrap();
        assert_eq!(journaled.records, [Record::Complete { id: "a".to_owned() }, ended]);
        assert_eq!(journaled.damage(), None);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = "{\"record\":\"complete\",\"id\":\"a\"}\ngarbage\n{\"record\":\"confirmed\",\"id\":\"a\"}\n";
        let journaled = Journaled::from_text(text);
        assert_eq!((journaled.records.len(), journaled.damaged.as_slice()), (2, &[2][..]));
        assert!(journaled.damage().unwrap().contains("line 2"));
    }

    #[test]
    fn a_second_run_is_locked_out() {
        let dir = tempfile::tempdir().unwrap();
        let held = FileJournal::open(dir.path()).unwrap();
        assert!(
            FileJournal::open(dir.path())
                .unwrap_err()
                .to_string()
                .contains("another run holds the lock")
        );
        drop(held);
        FileJournal::open(dir.path()).unwrap();
    }
}
