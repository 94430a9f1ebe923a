//! A host's files in one text file, for a bug report or a fixture.

use crate::host::{Archive, Fault, Host, Recorder};
use crate::snapshot::{Scope, Snapshot};

/// Records everything that the doctor reads of a host. That does not include hardware and network addresses: the tool
/// never reads them.
///
/// # Errors
///
/// The same as those of [`Snapshot::take`].
pub fn capture(host: &dyn Host, scope: &Scope, comment: &str) -> Result<Archive, Fault> {
    let recorder = Recorder::new(host);
    Snapshot::take(&recorder, scope)?;
    let mut archive = recorder.into_archive();
    archive.comment = comment.to_owned();
    // Of the processor only the flags are kept, and of the process only where it may run; the rest is private.
    keep_lines(&mut archive, "/proc/cpuinfo", "flags", 1);
    keep_lines(&mut archive, "/proc/modules", "nf_tables ", 1);
    let statuses: Vec<String> = archive
        .first
        .files
        .keys()
        .filter(|path| {
            path.starts_with("/proc/")
                && path.ends_with("/status")
                && path.matches('/').count() == 3
        })
        .cloned()
        .collect();
    for path in statuses {
        keep_lines(&mut archive, &path, "Cpus_allowed_list", 1);
    }
    // The boot id is private, too; without it no plan made from the capture can be applied anywhere.
    let boot_id = "/proc/sys/kernel/random/boot_id";
    if let Some(text) = archive.first.files.get_mut(boot_id) {
        *text = "captured\n".to_owned();
    }
    // What was read as a file is not a directory, even if a listing named it.
    let files: Vec<String> = archive
        .first
        .files
        .keys()
        .chain(archive.links.keys())
        .chain(archive.refused.keys())
        .cloned()
        .collect();
    for path in files {
        archive.dirs.remove(&path);
    }
    archive.dirs.retain(|path| !path.starts_with("/proc/") || path.matches('/').count() > 2);
    Ok(archive)
}

fn keep_lines(archive: &mut Archive, path: &str, prefix: &str, count: usize) {
    let moments = std::iter::once(&mut archive.first)
        .chain(archive.later.iter_mut().map(|(_, moment)| moment));
    for moment in moments {
        if let Some(text) = moment.files.get_mut(path) {
            *text = text
                .lines()
                .filter(|line| line.starts_with(prefix))
                .take(count)
                .map(|line| format!("{line}\n"))
                .collect();
        }
    }
}
