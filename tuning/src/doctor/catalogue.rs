//! Every finding that the doctor can make, explained once, in `docs/findings.md`, which `explain` and the reports read.

/// The page; a line that begins with `## ` names a finding.
const PAGE: &str = include_str!("../../docs/findings.md");

/// What to know about one finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its name.
    pub id: &'static str,
    /// The counter or file that shows whether it applies.
    pub shows: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What the fix disturbs.
    pub risk: &'static str,
    /// What else to know before fixing it.
    pub detail: &'static str,
}

/// All findings, in the order in which a packet meets their causes.
pub fn catalogue() -> impl Iterator<Item = Entry> {
    PAGE.split("\n## ").skip(1).map(|section| {
        let field = |name: &str| {
            let line = section.lines().find_map(|line| {
                line.strip_prefix("- **")?.strip_prefix(name)?.strip_prefix("**: ")
            });
            line.unwrap_or_default()
        };
        Entry {
            id: section.lines().next().unwrap_or_default(),
            shows: field("Shown by").trim_end_matches('.'),
            why: field("Why it matters"),
            risk: field("Risk of fixing").trim_end_matches('.'),
            detail: field("Before you fix"),
        }
    })
}

/// The entry of a finding.
#[must_use]
pub fn entry(id: &str) -> Option<Entry> {
    catalogue().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_part_of_every_finding() {
        assert!(catalogue().count() > 40);
        for entry in catalogue() {
            for part in [entry.id, entry.shows, entry.why, entry.risk, entry.detail] {
                assert!(!part.is_empty(), "{entry:?}");
            }
            assert!(
                entry.id.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{}",
                entry.id
            );
        }
    }
}
