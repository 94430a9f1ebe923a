//! A failure: which file or request, and why.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A file or request that failed, with its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The path, or the request, such as `netlink channels-set eth0`.
    pub what: String,
    /// Why it failed.
    pub kind: FaultKind,
}

/// Why a file or request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It is not there.
    Missing,
    /// No permission.
    Denied,
    /// The kernel or the driver refused, with this error name and, where it gave one, its reason.
    Refused(String),
    /// The content has no form that this program knows.
    Format(String),
    /// The driver does not offer it. Not a failure of the host.
    Unsupported,
    /// The program was ended at this point (only in tests).
    Killed,
}

impl Fault {
    /// A fault about a path or request.
    #[must_use]
    pub fn new(what: impl Into<String>, kind: FaultKind) -> Self {
        Self { what: what.into(), kind }
    }

    /// The fault for an operating system error.
    #[must_use]
    pub fn from_io(what: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FaultKind::Missing,
            io::ErrorKind::PermissionDenied => FaultKind::Denied,
            io::ErrorKind::InvalidData => FaultKind::Format("not text".to_owned()),
            _ => match error.raw_os_error() {
                Some(95) => FaultKind::Unsupported,
                Some(code) => FaultKind::Refused(errno_name(code)),
                None => FaultKind::Refused(error.to_string()),
            },
        };
        Self::new(what, kind)
    }

    /// The fault for a negative or positive error number, with the kernel's own message if it gave one.
    #[must_use]
    pub fn from_errno(what: &str, code: i32, words: Option<String>) -> Self {
        let mut fault = Self::from_io(what, &io::Error::from_raw_os_error(code));
        if let (FaultKind::Refused(reason), Some(words)) = (&mut fault.kind, words) {
            reason.push_str(": ");
            reason.push_str(&words);
        }
        fault
    }

    /// The content of this path is not understood.
    #[must_use]
    pub fn format(path: &str, why: impl Into<String>) -> Self {
        Self::new(path, FaultKind::Format(why.into()))
    }
}

/// The name of an error number that kernels give for the files and requests of this program.
fn errno_name(code: i32) -> String {
    let name = match code {
        5 => "EIO",
        11 => "EAGAIN",
        16 => "EBUSY",
        19 => "ENODEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        22 => "EINVAL",
        28 => "ENOSPC",
        30 => "EROFS",
        34 => "ERANGE",
        75 => "EOVERFLOW",
        _ => return format!("errno {code} ({})", io::Error::from_raw_os_error(code)),
    };
    name.to_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.kind {
            FaultKind::Missing => f.write_str("not there"),
            FaultKind::Denied if self.what.starts_with("/proc/irq/") => f.write_str(
                "no permission (EPERM): not root, or the kernel manages this interrupt itself, IRQ_MANAGED, and nobody can move it",
            ),
            FaultKind::Denied => {
                f.write_str("no permission (EACCES or EPERM); root or CAP_NET_ADMIN is needed")
            }
            FaultKind::Refused(reason) => {
                write!(f, "refused with {reason}")?;
                f.write_str(hint(&self.what, reason))
            }
            FaultKind::Format(why) => write!(f, "not understood: {why}"),
            FaultKind::Unsupported => f.write_str("not offered by this driver"),
            FaultKind::Killed => f.write_str("ended here"),
        }
    }
}

/// What the error usually means for this kind of file.
fn hint(what: &str, reason: &str) -> &'static str {
    if what.starts_with("/proc/irq/") {
        if reason.starts_with("EIO") {
            return " (the kernel manages this interrupt itself, IRQ_MANAGED; nobody can move it)";
        }
        if reason.starts_with("ENOSPC") {
            return " (the interrupt vectors of that CPU are used up)";
        }
        if reason.starts_with("EINVAL") {
            return " (no CPU of the list is online)";
        }
    }
    if reason.starts_with("EOVERFLOW") {
        " (it names a CPU that this machine does not have)"
    } else {
        ""
    }
}

impl std::error::Error for Fault {}
