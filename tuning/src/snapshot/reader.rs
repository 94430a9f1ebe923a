//! Reads files of a host and remembers what could not be read.

use corewire_placement::Files;

use crate::host::{Fault, FaultKind, Host, NicFacts};
use crate::parse::{self, IrqLine};

/// A host, and what it refused so far.
pub(super) struct Reader<'h> {
    host: &'h dyn Host,
    unread: Vec<Fault>,
}

impl<'h> Reader<'h> {
    pub(super) fn new(host: &'h dyn Host) -> Self {
        Self { host, unread: Vec::new() }
    }

    pub(super) fn into_unread(mut self) -> Vec<Fault> {
        // The second sample meets the same refusals as the first.
        let mut seen = Vec::new();
        self.unread.retain(|fault| {
            let is_new = !seen.contains(fault);
            if is_new {
                seen.push(fault.clone());
            }
            is_new
        });
        self.unread
    }

    /// A file without which nothing can be judged.
    pub(super) fn needed<T>(
        &self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Fault> {
        let text = self.host.read(path)?;
        parse(&text).map_err(|why| Fault::format(path, why))
    }

    /// `/proc/interrupts`, or an empty table where a container hides it. A text that is not whole is an error.
    pub(super) fn interrupts(&mut self) -> Result<Vec<IrqLine>, Fault> {
        let path = "/proc/interrupts";
        match self.host.read(path) {
            Ok(text) if text.trim().is_empty() => {
                self.note(Fault::format(path, "it is empty, so a container hides it; interrupts are judged by what else says them"));
                Ok(Vec::new())
            }
            Ok(text) => parse::interrupts(&text).map_err(|why| Fault::format(path, why)),
            Err(fault) => {
                self.note(fault);
                Ok(Vec::new())
            }
        }
    }

    /// A value that not every kernel has. Its absence is information; any other refusal is remembered.
    fn known<T>(&mut self, answer: Result<T, Fault>) -> Option<T> {
        let fault = match answer {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        if fault.kind != FaultKind::Missing {
            self.unread.push(fault);
        }
        None
    }

    /// A file that not every kernel has.
    pub(super) fn optional(&mut self, path: &str) -> Option<String> {
        self.known(self.host.read(path))
    }

    /// A file whose absence or refusal says nothing: a link that is down refuses to report its speed.
    pub(super) fn optional_quiet(&self, path: &str) -> Option<String> {
        self.host.read(path).ok()
    }

    /// A file that not every kernel has, and its meaning. A form that is not understood is remembered.
    pub(super) fn parsed<T, E: ToString>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.optional(path)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.note(Fault::format(path, why.to_string()));
                None
            }
        }
    }

    /// The names in a directory; none if it is absent.
    pub(super) fn list(&mut self, path: &str) -> Vec<String> {
        self.known(self.host.list(path)).unwrap_or_default()
    }

    /// The names in a directory without which nothing can be judged.
    pub(super) fn list_needed(&self, path: &str) -> Result<Vec<String>, Fault> {
        self.host.list(path)
    }

    /// Where a link leads; `None` if it is absent.
    pub(super) fn link(&mut self, path: &str) -> Option<String> {
        self.known(self.host.link(path))
    }

    /// What a card reports about itself. A card that cannot be queried is remembered and counts as reporting
    /// nothing.
    pub(super) fn nic(&mut self, iface: &str) -> NicFacts {
        match self.host.nic(iface) {
            Ok(facts) => {
                for note in &facts.notes {
                    self.unread.push(Fault::new(
                        format!("card {iface}"),
                        FaultKind::Refused(note.clone()),
                    ));
                }
                facts
            }
            Err(fault) => {
                self.note(fault);
                NicFacts::default()
            }
        }
    }

    pub(super) fn note(&mut self, fault: Fault) {
        self.unread.push(fault);
    }
}

/// The facts about CPUs are read by the crate that the engine reads them with.
impl Files for Reader<'_> {
    fn read(&mut self, path: &str) -> Option<String> {
        self.optional(path)
    }

    fn read_quietly(&mut self, path: &str) -> Option<String> {
        self.optional_quiet(path)
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        Self::list(self, path)
    }

    fn note(&mut self, path: &str, why: &str) {
        Self::note(self, Fault::format(path, why));
    }
}
