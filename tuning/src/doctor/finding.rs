//! One thing that the doctor found.

use std::fmt;

use serde::Serialize;

use super::catalogue::entry;

/// How much a finding matters. Only faults change the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does harm now, as shown by a counter that grew while we watched, or it contradicts the placement that
    /// the operator gave.
    Fault,
    /// It may cost something; the evidence says what to look at.
    Advice,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fault => "FAULT",
            Self::Advice => "ADVICE",
            Self::Note => "NOTE",
        })
    }
}

/// One thing that was read, and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file or request.
    pub source: String,
    /// Its value, or how much it grew while we watched.
    pub value: String,
}

/// One thing that the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name in the catalogue.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: an interface, a CPU, the host.
    pub subject: String,
    /// One line that says what is wrong.
    pub title: String,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// Why it matters, from the catalogue.
    pub why: &'static str,
    /// Commands that fix it. Empty where nothing on this host can.
    pub fix: Vec<String>,
    /// Commands that undo the fix.
    pub undo: Vec<String>,
    /// What the fix disturbs, from the catalogue.
    pub risk: &'static str,
}

impl Finding {
    /// A finding without evidence or fix yet.
    pub(super) fn new(
        id: &'static str,
        severity: Severity,
        subject: impl Into<String>,
        title: impl Into<String>,
    ) -> Self {
        let entry = entry(id);
        Self {
            id,
            severity,
            subject: subject.into(),
            title: title.into(),
            evidence: Vec::new(),
            why: entry.map_or("", |entry| entry.why),
            fix: Vec::new(),
            undo: Vec::new(),
            risk: entry.map_or("", |entry| entry.risk),
        }
    }

    /// Adds what was read.
    pub(super) fn seen(mut self, source: impl Into<String>, value: impl Into<String>) -> Self {
        self.evidence.push(Evidence { source: source.into(), value: value.into() });
        self
    }

    /// Adds a command that fixes it, and the one that undoes the fix.
    pub(super) fn fixed_by(mut self, fix: impl Into<String>, undo: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        let undo = undo.into();
        if !undo.is_empty() {
            self.undo.push(undo);
        }
        self
    }

    /// Adds another value of a sysctl as the fix.
    pub(super) fn fixed_by_sysctl(self, name: &str, now: u64, next: u64) -> Self {
        self.fixed_by(format!("sysctl -w {name}={next}"), format!("sysctl -w {name}={now}"))
    }

    /// Adds another value of a file as the fix.
    pub(super) fn fixed_by_echo(self, path: &str, now: &str, next: &str) -> Self {
        self.fixed_by(format!("echo {next} > {path}"), format!("echo {now} > {path}"))
    }

    /// Adds the tool's own plan as the fix, for what takes more than one line.
    pub(super) fn fixed_by_plan(self, iface: &str, only: &str) -> Self {
        self.fixed_by(
            format!("corewire-tune plan --iface {iface} --only {only} --format json > plan.json && corewire-tune apply plan.json"),
            "corewire-tune undo",
        )
    }
}
