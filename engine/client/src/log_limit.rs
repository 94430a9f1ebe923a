//! Limits the log lines that a peer can cause: a peer that misbehaves a thousand times a second fills no disk.
//!
//! Each topic has its own limit. The first lines of a topic are written as they are. Further lines are only
//! counted, and from time to time one line says how many were left out. When a topic has been quiet for a
//! while, its next lines are written again.
//!
//! A shard has its own limit, and its timer writes the summaries. Drivers without a shard share one limit per
//! thread ([`admit_here`]): there a topic's summary is written when its next line comes.
//!
//! Five lines are written, then a count of what was left out after 1 s, 2 s, and so on up to 60 s while it goes on.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use corewire_proto::CloseReason;

/// Lines of a topic that are written before further ones are only counted.
const LINES: u32 = 5;

/// The wait for a topic's first summary. While lines keep coming, each wait is twice the last.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Log lines of one topic have the same text and name the same rule (0 for none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    text: &'static str,
    rule: u32,
    /// Whether an operator should look at it.
    warns: bool,
}

impl Topic {
    /// The system refused a shard a connection.
    pub const ACCEPT: Self = Self::warning("cannot accept", 0);
    /// A connection was ended because memory was short.
    pub const CUT_OFF: Self = Self::warning("memory is short", 0);
    /// A connect failed.
    pub const CONNECT: Self = Self::warning("cannot connect", 0);
    /// A handler panicked.
    pub const HANDLER_PANIC: Self = Self::warning("a handler panicked", 0);
    /// A handler replied with a status whose detail only the log sees.
    pub const LOG_DETAIL: Self = Self::warning("a call failed", 0);
    /// A task that nobody waits for panicked.
    pub const TASK_PANIC: Self = Self::warning("a detached task panicked", 0);
    /// Work that was offloaded panicked.
    pub const WORK_PANIC: Self = Self::warning("offloaded work panicked", 0);
    /// A handler held its shard.
    pub const HELD: Self = Self::warning("a handler held its shard", 0);
    /// A task held its shard.
    pub const HELD_BY_TASK: Self = Self::warning("a task held its shard", 0);
    /// One of several handlers and tasks held its shard.
    pub const HELD_BY_ANY: Self = Self::warning("something held the shard", 0);
    /// A caller's callback panicked.
    pub const CALLBACK_PANIC: Self = Self::warning("a callback of a call panicked", 0);

    const fn warning(text: &'static str, rule: u32) -> Self {
        Self { text, rule, warns: true }
    }

    /// The topic for the end of a server's connection; `None` if that is not worth a line.
    pub fn of_client(reason: CloseReason) -> Option<Self> {
        match reason {
            CloseReason::PeerMisbehaved(rule) => {
                Some(Self::warning("protocol fault", rule.number()))
            }
            CloseReason::Foreign(foreign) => {
                Some(Self { text: foreign.name(), rule: 0, warns: false })
            }
            _ => None,
        }
    }

    /// The topic for the end of a connection to a server; `None` if that is not worth a line.
    pub fn of_server(reason: CloseReason) -> Option<Self> {
        if !reason.is_fault() {
            return None;
        }
        Some(match reason {
            CloseReason::PeerMisbehaved(rule) => {
                Self::warning("connection lost: protocol fault", rule.number())
            }
            CloseReason::BlamedByPeer(rule) => {
                let rule = rule.map_or(0, corewire_codec::Rule::number);
                Self::warning("connection lost: blamed by the server", rule)
            }
            _ => Self::warning("connection lost", 0),
        })
    }
}

/// The state of a topic that has had a line.
#[derive(Debug)]
struct Entry {
    topic: Topic,
    /// Lines written since the topic was last quiet.
    written: u32,
    /// Lines left out since the last summary.
    left_out: u64,
    /// When the summary is due. If nothing is left out by then, the topic is quiet.
    due: Instant,
    wait: Duration,
}

/// How many lines of a topic were left out, and within what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Summary {
    topic: Topic,
    left_out: u64,
    within: Duration,
}

impl Summary {
    #[cold]
    fn write(self) {
        let Self { topic: Topic { text, rule, warns }, left_out, within } = self;
        let rule = Some(rule).filter(|rule| *rule != 0);
        let within_s = within.as_secs();
        if warns {
            tracing::warn!(
                what = text,
                rule,
                left_out,
                within_s,
                "more of the same were not logged"
            );
        } else {
            tracing::info!(
                what = text,
                rule,
                left_out,
                within_s,
                "more of the same were not logged"
            );
        }
    }
}

impl Entry {
    /// The wait is over: resets the count and returns it. `None` means that the topic was quiet.
    fn end_wait(&mut self, now: Instant) -> Option<Summary> {
        let within = self.wait;
        let left_out = core::mem::take(&mut self.left_out);
        if left_out == 0 {
            (self.written, self.wait) = (0, WAIT_MIN);
        } else {
            self.wait = (within * 2).min(WAIT_MAX);
        }
        self.due = now + self.wait;
        (left_out != 0).then_some(Summary { topic: self.topic, left_out, within })
    }
}

/// The topics of one thread. There are only a few more than there are rules, so a linear search is enough.
#[derive(Debug, Default)]
pub struct LogLimit {
    entries: RefCell<Vec<Entry>>,
    /// When the next summary is due.
    next: Cell<Option<Instant>>,
}

impl LogLimit {
    /// A limit that has admitted nothing yet.
    pub const fn new() -> Self {
        Self { entries: RefCell::new(Vec::new()), next: Cell::new(None) }
    }

    /// Whether to write a line of this topic now. If not, the line is counted.
    #[cold]
    pub fn admit(&self, topic: Topic, now: Instant) -> bool {
        let (admitted, summary) = self.judge(topic, now);
        if let Some(summary) = summary {
            summary.write();
        }
        admitted
    }

    fn judge(&self, topic: Topic, now: Instant) -> (bool, Option<Summary>) {
        let entries = &mut *self.entries.borrow_mut();
        let index = entries.iter().position(|entry| entry.topic == topic).unwrap_or(entries.len());
        if index == entries.len() {
            let (due, wait) = (now + WAIT_MIN, WAIT_MIN);
            entries.push(Entry { topic, written: 0, left_out: 0, due, wait });
        }
        let Some(entry) = entries.get_mut(index) else { return (true, None) };
        let summary = if entry.due <= now { entry.end_wait(now) } else { None };
        if entry.written < LINES {
            entry.written += 1;
            return (true, summary);
        }
        entry.left_out += 1;
        let due = entry.due;
        self.next.set(Some(self.next.get().map_or(due, |next| next.min(due))));
        (false, summary)
    }

    /// When [`write_due`](Self::write_due) has something to write.
    #[inline]
    pub fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// Writes the summaries that are due.
    #[inline]
    pub fn write_due(&self, now: Instant) {
        if self.next.get().is_some_and(|next| next <= now) {
            self.take_due(now, Summary::write);
        }
    }

    #[cold]
    fn take_due(&self, now: Instant, mut take: impl FnMut(Summary)) {
        let mut next: Option<Instant> = None;
        for entry in self.entries.borrow_mut().iter_mut().filter(|entry| entry.left_out != 0) {
            if entry.due <= now {
                entry.end_wait(now).into_iter().for_each(&mut take);
            } else {
                next = Some(next.map_or(entry.due, |next| next.min(entry.due)));
            }
        }
        self.next.set(next);
    }
}

thread_local! {
    static HERE: LogLimit = const { LogLimit::new() };
}

/// As [`LogLimit::admit`], for code that no shard drives: all of a thread's channels share a limit.
#[cold]
pub fn admit_here(topic: Topic, now: Instant) -> bool {
    HERE.try_with(|limit| limit.admit(topic, now)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Topic = Topic::warning("flood", 12);
    const OTHER: Topic = Topic::warning("flood", 13);

    /// A flood that ends: the lines of it that are written, and the summaries of the rest.
    #[test]
    fn a_flood_is_a_few_lines_and_its_count() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        let (mut written, mut counted, mut summaries) = (0u64, 0, 0);
        // A hundred lines a second for ten minutes; the timer runs when it is due.
        for step in 0..60_000u64 {
            let now = start + Duration::from_millis(10 * step);
            if limit.next().is_some_and(|next| next <= now) {
                limit.take_due(now, |summary| {
                    assert_eq!(summary.topic, FLOOD);
                    counted += summary.left_out;
                    summaries += 1;
                });
            }
            let (admitted, summary) = limit.judge(FLOOD, now);
            assert_eq!(summary, None, "the timer was there before");
            written += u64::from(admitted);
        }
        let end = limit.next().expect("some are left out");
        limit.take_due(end, |summary| counted += summary.left_out);
        assert_eq!((written, written + counted), (5, 60_000), "each line is written or counted");
        assert!((10..20).contains(&summaries), "{summaries} in ten minutes");
        assert_eq!(limit.next(), None, "nothing is left to say");
    }

    #[test]
    fn topics_do_not_share_a_bound_and_quiet_ones_begin_anew() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        for _ in 0..100 {
            limit.judge(FLOOD, start);
        }
        assert!(limit.judge(OTHER, start).0);
        // Without a timer the summary comes with the next line, which itself counts for the summary after that.
        let later = start + Duration::from_secs(7);
        let (admitted, summary) = limit.judge(FLOOD, later);
        assert!(!admitted);
        assert_eq!(summary.map(|it| (it.topic, it.left_out)), Some((FLOOD, 95)));
        // What was counted once is not counted again.
        let (_, summary) = limit.judge(FLOOD, later + Duration::from_secs(2));
        assert_eq!(summary.map(|it| it.left_out), Some(1));
        let mut left = 0;
        limit.take_due(later + Duration::from_secs(600), |summary| left += summary.left_out);
        assert_eq!(left, 1);
        // A wait without a line: the topic is quiet.
        let quiet = later + Duration::from_secs(6_000);
        assert_eq!(limit.judge(FLOOD, quiet), (true, None));
    }

    /// One line a second for ten minutes is no flood, so all are written. And no entry is made twice.
    #[test]
    fn what_comes_now_and_then_is_written() {
        let (limit, start) = (LogLimit::new(), Instant::now());
        for second in 0..600 {
            assert!(limit.judge(FLOOD, start + Duration::from_secs(second)).0, "{second}");
        }
        assert_eq!(limit.entries.borrow().len(), 1);
    }
}
