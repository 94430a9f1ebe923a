//! What the control group of this process limits, of either version.

use crate::files::Files;

/// Where a limit of this process's group may stand: for each hierarchy of `/proc/self/cgroup` that has the controller, the files
/// of its group and of every group above, the nearest first. A group without the file has the limits of the next one above;
/// seen from within a container the path may lead nowhere.
pub(crate) fn files(
    files: &mut impl Files,
    controller: &str,
    unified: &str,
    legacy: &str,
) -> Vec<Vec<String>> {
    let groups = files.read_quietly("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match kinds {
            "" => ("/sys/fs/cgroup".to_owned(), unified),
            kinds if kinds.split(',').any(|kind| kind == controller) => {
                (format!("/sys/fs/cgroup/{controller}"), legacy)
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        let mut places = Vec::new();
        loop {
            places.push(format!("{root}{path}/{name}"));
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
        found.push(places);
    }
    found
}

/// How many CPUs the least quota of the group and the groups above is worth, rounded up; `None` without one.
pub(crate) fn quota(files: &mut impl Files) -> Option<u32> {
    let mut least: Option<u32> = None;
    for path in self::files(files, "cpu", "cpu.max", "cpu.cfs_quota_us").into_iter().flatten() {
        let Some(text) = files.read_quietly(&path) else { continue };
        let text = match path.strip_suffix("cpu.cfs_quota_us") {
            // Version 1 has the period in a file of its own.
            Some(dir) => {
                let period = files.read_quietly(&format!("{dir}cpu.cfs_period_us"));
                format!("{} {}", text.trim(), period.unwrap_or_default().trim())
            }
            None => text,
        };
        // A quota of any ancestor applies as well.
        if let Some(cpus) = worth(&text) {
            least = Some(least.map_or(cpus, |least| least.min(cpus)));
        }
    }
    least
}

/// Reads "quota period" in µs; "max period" and "-1 period" are no quota.
fn worth(text: &str) -> Option<u32> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    (period > 0).then(|| u32::try_from(quota.div_ceil(period).max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(worth("max 100000\n"), None);
        assert_eq!(worth("-1 100000\n"), None);
        assert_eq!(worth("100000 100000\n"), Some(1));
        assert_eq!(worth("150000 100000\n"), Some(2));
        assert_eq!(worth("1 0"), None);
        assert_eq!(worth("100000"), None);
    }
}
