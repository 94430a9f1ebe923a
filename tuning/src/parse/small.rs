//! Files that hold one value, or only one that matters.

/// A whole number on a line of its own.
#[must_use]
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// The chosen word of a file like `always [madvise] never`; a file without brackets is its own choice.
#[must_use]
pub fn bracketed(text: &str) -> &str {
    let text = text.trim();
    text.split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(text, |(chosen, _)| chosen)
}

/// A soft limit of `/proc/PID/limits`: `Some(None)` when it is unlimited, `None` when the file has no such line.
#[must_use]
pub fn limit(text: &str, name: &str) -> Option<Option<u64>> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let soft = line[name.len()..].split_whitespace().next()?;
    if soft == "unlimited" { Some(None) } else { soft.parse().ok().map(Some) }
}

/// Ticks that a process or thread has run (user and system) by its `stat` file. The name in the second field may hold anything,
/// so fields are counted from the last closing bracket.
#[must_use]
pub fn thread_times(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found() {
        assert_eq!(bracketed("always [madvise] never\n"), "madvise");
        assert_eq!(bracketed("tsc\n"), "tsc");
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         8388608              8388608              bytes\nMax open files            unlimited unlimited files\n";
        assert_eq!(limit(limits, "Max locked memory"), Some(Some(8_388_608)));
        assert_eq!(limit(limits, "Max open files"), Some(None));
        assert_eq!(limit(limits, "Max other"), None);
        assert_eq!(thread_times("9 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0"), Some(42));
        assert_eq!(thread_times("9"), None);
        assert_eq!(number::<u32>(" 7\n"), Some(7));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = bracketed(&text);
            let _ = limit(&text, "Max open files");
            let _ = limit(&format!("Max open files{text}"), "Max open files");
            let _ = thread_times(&text);
        }
    }
}
