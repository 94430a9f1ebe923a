//! The result of a command: an exit code, and text for people or facts for programs.

use serde_json::Value;

use crate::doctor::JSON_VERSION;

/// The result of a command. The numbers are part of the tool's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Done; nothing wrong; PASS.
    Good = 0,
    /// Faults found; FAIL; drift.
    Bad = 1,
    /// No judgement was possible; INCONCLUSIVE.
    Unclear = 2,
    /// Refused before anything was written: a precondition does not hold, or another run holds the lock.
    Refused = 3,
    /// A step failed, and everything was undone.
    RolledBack = 4,
    /// Something could not be put back: look at the message.
    Stuck = 5,
    /// The command line or a file given to it is wrong.
    Usage = 64,
}

/// A command that failed: its message and exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) exit: Exit,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl ToString) -> Self {
        Self { message: message.to_string(), exit }
    }
}

/// The output of a command: text for people, or the same as facts for programs.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) json: bool,
    pub(super) text: String,
    pub(super) facts: serde_json::Map<String, Value>,
}

impl Out {
    /// Adds text, for people to read.
    pub(super) fn say(&mut self, text: &str) {
        if !self.json {
            self.text.push_str(text);
        }
    }

    /// Adds a fact, for programs to read.
    pub(super) fn set(&mut self, name: &str, value: impl serde::Serialize) {
        self.facts.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Adds every field of a report.
    pub(super) fn set_all(&mut self, report: impl serde::Serialize) {
        if let Ok(Value::Object(fields)) = serde_json::to_value(report) {
            self.facts.extend(fields);
        }
    }

    /// The text, or the facts together with those that every output has.
    pub(super) fn finish(mut self, exit: Exit) -> String {
        if !self.json || self.facts.is_empty() {
            return self.text;
        }
        self.set("version", JSON_VERSION);
        self.set("exit", exit as u8);
        serde_json::to_string_pretty(&self.facts).unwrap_or_default() + "\n"
    }
}
