//! A host that records everything that was read from another: what `capture` writes.

use std::cell::RefCell;
use std::time::Duration;

use super::{Archive, Fault, FaultKind, Host, Knob, Moment, NicFacts};

/// Passes every request on and keeps the results. Writing is refused: a recording must not change its subject.
#[derive(Debug)]
pub struct Recorder<'h> {
    inner: &'h dyn Host,
    archive: RefCell<Archive>,
}

impl<'h> Recorder<'h> {
    /// Records what is read from `inner`.
    #[must_use]
    pub fn new(inner: &'h dyn Host) -> Self {
        Self { inner, archive: RefCell::new(Archive::default()) }
    }

    /// What was recorded. Of the second moment only the differences are kept.
    #[must_use]
    pub fn into_archive(self) -> Archive {
        let mut archive = self.archive.into_inner();
        let first = archive.first.clone();
        if let Some((_, later)) = &mut archive.later {
            later.files.retain(|path, text| first.files.get(path) != Some(text));
            later.nics.retain(|iface, text| first.nics.get(iface) != Some(text));
        }
        archive
    }

    fn moment(archive: &mut Archive) -> &mut Moment {
        match &mut archive.later {
            Some((_, moment)) => moment,
            None => &mut archive.first,
        }
    }

    fn keep<T>(&self, path: &str, answer: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &answer {
            let reason = match &fault.kind {
                FaultKind::Missing => None,
                FaultKind::Denied => Some("EACCES".to_owned()),
                FaultKind::Refused(reason) => Some(reason.clone()),
                FaultKind::Format(why) => Some(why.clone()),
                FaultKind::Unsupported => Some("EOPNOTSUPP".to_owned()),
                FaultKind::Killed => None,
            };
            if let Some(reason) = reason {
                self.archive.borrow_mut().refused.insert(path.to_owned(), reason);
            }
        }
        answer
    }
}

impl Host for Recorder<'_> {
    fn read(&self, path: &str) -> Result<String, Fault> {
        let text = self.keep(path, self.inner.read(path))?;
        Self::moment(&mut self.archive.borrow_mut()).files.insert(path.to_owned(), text.clone());
        Ok(text)
    }

    fn write(&self, path: &str, _value: &str) -> Result<(), Fault> {
        Err(Fault::new(path, FaultKind::Denied))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Fault> {
        let names = self.keep(path, self.inner.list(path))?;
        let mut archive = self.archive.borrow_mut();
        archive.dirs.insert(path.to_owned());
        archive
            .dirs
            .extend(names.iter().map(|name| format!("{}/{name}", path.trim_end_matches('/'))));
        Ok(names)
    }

    fn link(&self, path: &str) -> Result<String, Fault> {
        let target = self.keep(path, self.inner.link(path))?;
        self.archive.borrow_mut().links.insert(path.to_owned(), target.clone());
        Ok(target)
    }

    fn processes(&self, prefixes: &[&str]) -> Result<Vec<(u32, String)>, Fault> {
        let found = self.inner.processes(prefixes)?;
        self.archive.borrow_mut().processes.clone_from(&found);
        Ok(found)
    }

    fn nic(&self, iface: &str) -> Result<NicFacts, Fault> {
        let facts = self.inner.nic(iface)?;
        Self::moment(&mut self.archive.borrow_mut()).nics.insert(iface.to_owned(), facts.to_text());
        Ok(facts)
    }

    fn nic_set(&self, iface: &str, knob: Knob, _value: u32) -> Result<(), Fault> {
        Err(Fault::new(format!("{knob} of {iface}"), FaultKind::Denied))
    }

    fn restart(&self, service: &str) -> Result<(), Fault> {
        Err(Fault::new(format!("service {service}"), FaultKind::Denied))
    }

    fn pause(&self, duration: Duration) {
        self.inner.pause(duration);
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.archive.borrow_mut().later = Some((ms, Moment::default()));
    }
}
