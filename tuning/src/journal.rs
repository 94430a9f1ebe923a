//! What was done to the machine, written down before it is done.
//!
//! One JSON object a line in `journal.jsonl`, each flushed to the disk before the write that it announces. A program that is ended
//! at any point therefore leaves at most one announced write that did not happen, and undo finds out by reading the value.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::host::{Fault, FaultKind, Sabotage};
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
    /// A value that the next change of channels forgets.
    Keep {
        /// The apply.
        id: String,
        /// The number of the step that forgets it.
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
    /// A step is about to be taken back.
    Undoing {
        /// The apply.
        id: String,
        /// The number of the step.
        step: u32,
    },
    /// A step, with everything that it forgot, is taken back.
    Undone {
        /// The apply.
        id: String,
        /// The number of the step.
        step: u32,
    },
    /// The whole apply is taken back.
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

    /// All records so far. Lines that were cut off by the end of a program are left out: no write followed them.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn records(&self) -> Result<Vec<Record>, Fault>;
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
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Fault::new(
                dir.join("lock").to_string_lossy(),
                FaultKind::Refused("another run holds the lock".to_owned()),
            )
        })?;
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).open(&path).map_err(fail)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(fail)?;
        // A line that was cut off must not swallow the next one.
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(fail)?;
        }
        Ok(Self { path, file, _lock: lock })
    }

    /// The records in `dir` without taking the lock; none if there is no journal.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be read.
    pub fn peek(dir: &Path) -> Result<Vec<Record>, Fault> {
        let path = dir.join("journal.jsonl");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Fault::from_io(&path.to_string_lossy(), &error)),
        }
    }
}

fn parse(text: &str) -> Vec<Record> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn line_of(record: &Record) -> Result<String, Fault> {
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

    fn records(&self) -> Result<Vec<Record>, Fault> {
        let text = fs::read_to_string(&self.path)
            .map_err(|error| Fault::from_io(&self.path.to_string_lossy(), &error))?;
        Ok(parse(&text))
    }
}

/// A journal in memory that can be ended in the middle of a line, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    text: Rc<RefCell<String>>,
    sabotage: Sabotage,
}

impl MemoryJournal {
    /// An empty journal that dies together with what else listens to `sabotage`.
    #[must_use]
    pub fn new(sabotage: Sabotage) -> Self {
        Self { text: Rc::default(), sabotage }
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, record: &Record) -> Result<(), Fault> {
        let line = line_of(record)?;
        let mut text = self.text.borrow_mut();
        if let Err(fault) = self.sabotage.step("journal") {
            // What a real file would hold after the end: the beginning of the line, once.
            if text.is_empty() || text.ends_with('\n') {
                text.push_str(&line[..line.len() / 2]);
            }
            return Err(fault);
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, Fault> {
        Ok(parse(&self.text.borrow()))
    }
}

/// One apply, put together from its records.
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
    /// What steps forget: number of the step, setting, old.
    pub kept: Vec<(u32, Setting, String)>,
    /// Whether all steps were done.
    pub is_complete: bool,
    /// Whether the operator confirmed it.
    pub is_confirmed: bool,
    /// Steps whose taking back has begun.
    pub undoing: Vec<u32>,
    /// Steps that are taken back.
    pub undone: Vec<u32>,
    /// Whether all of it is taken back.
    pub is_ended: bool,
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
        assert_eq!(journal.records().unwrap(), [Record::Complete { id: "a".to_owned() }, ended]);
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
