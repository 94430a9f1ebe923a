//! What the program logs, as lines that a test looks at.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of all threads, at the level of info and above.
#[derive(Clone, Default)]
pub struct Lines(pub Arc<Mutex<Vec<String>>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("corewire")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Line(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Lines {
    /// Looks until a line of this level says all of this.
    #[track_caller]
    pub fn await_line(&self, level: &str, what: &[&str]) -> String {
        let mut found = None;
        super::until(&format!("a line with {what:?}"), || {
            let lines = self.0.lock().unwrap();
            let fits = |line: &&String| {
                line.starts_with(level) && what.iter().all(|what| line.contains(what))
            };
            found = lines.iter().find(fits).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// How many lines say this, and the sum of what summaries of it left out.
    pub fn count(&self, level: &str, what: &str) -> (usize, u64) {
        let lines = self.0.lock().unwrap();
        let about = lines.iter().filter(|line| line.starts_with(level) && line.contains(what));
        let left_out = |line: &str| -> Option<u64> {
            line.split(" left_out=").nth(1)?.split(' ').next()?.parse().ok()
        };
        let (mut said, mut left) = (0, 0);
        for line in about {
            match left_out(line) {
                Some(count) => left += count,
                None => said += 1,
            }
        }
        (said, left)
    }
}
