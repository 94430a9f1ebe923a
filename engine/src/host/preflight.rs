//! What must hold before the first executor is made: where glommio would panic or exit, this
//! explains the problem.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::io;

use crate::driver::runtime;
use crate::error::StartError;

/// The oldest kernel that glommio runs on.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Checks the kernel's version, io_uring and the locked-memory limit for `shards` executors.
pub(crate) fn check(shards: usize) -> Result<(), StartError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(StartError::KernelTooOld { release });
    }
    probe().map_err(io_uring_error)?;
    let limit = getrlimit(Resource::Memlock).current;
    let needed = runtime::LOCKED_BYTES.saturating_mul(shards as u64);
    match limit {
        Some(limit) if limit < needed && !may_lock() => {
            Err(StartError::LockedMemory { limit, needed })
        }
        _ => Ok(()),
    }
}

/// Makes each of the three system calls of io_uring once: a filter may forbid any of them.
fn probe() -> io::Result<()> {
    let ring = io_uring::IoUring::new(2)?;
    ring.submitter().register_probe(&mut io_uring::Probe::new())?;
    match ring.submitter().submit_with_args(0, &io_uring::types::SubmitArgs::new()) {
        // Kernels before 5.11 know no arguments, and say so: the call itself is allowed.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn io_uring_error(error: io::Error) -> StartError {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOSYS) => StartError::IoUringAbsent,
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => StartError::IoUringForbidden,
        Some(rustix::io::Errno::NOMEM) => {
            let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
            StartError::LockedMemory { limit, needed: runtime::LOCKED_BYTES }
        }
        _ => StartError::Io { what: "set up io_uring", error },
    }
}

/// Whether the limit on locked memory does not apply to this process: by a capability, which root lacks in most
/// containers. Glommio itself always checks for the first 512 KiB of the limit, whichever user runs it.
fn may_lock() -> bool {
    let limit = getrlimit(Resource::Memlock).current;
    let has_capability =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    has_capability && limit.is_none_or(|limit| limit >= runtime::LOCKED_BYTES)
}

/// The version of the running kernel, if its name begins with one.
pub(crate) fn kernel() -> Option<(u32, u32)> {
    version(&rustix::system::uname().release().to_string_lossy())
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert!((5, 7) < KERNEL_MIN);
    }

    #[test]
    fn each_refusal_of_io_uring_has_its_sentence() {
        let error = |code: rustix::io::Errno| {
            io_uring_error(io::Error::from_raw_os_error(code.raw_os_error()))
        };
        assert!(matches!(error(rustix::io::Errno::NOSYS), StartError::IoUringAbsent));
        assert!(matches!(error(rustix::io::Errno::PERM), StartError::IoUringForbidden));
        assert!(matches!(error(rustix::io::Errno::NOMEM), StartError::LockedMemory { .. }));
        assert!(matches!(error(rustix::io::Errno::INVAL), StartError::Io { .. }));
    }
}
