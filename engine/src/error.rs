//! Why a server or a shard did not start: one sentence each, with how to fix it.

use std::fmt;
use std::io;

use corewire_proto::TransportError;

use corewire_client::address::Address;

/// Why something did not start.
///
/// `Debug` shows the same sentence as `Display`, because that is what a `main` prints that returns it.
#[non_exhaustive]
pub enum StartError {
    /// The kernel has no io_uring.
    IoUringAbsent,
    /// io_uring is there, but this process may not use it.
    IoUringForbidden,
    /// The kernel is too old.
    KernelTooOld {
        /// Its release, as `uname -r` prints it.
        release: String,
    },
    /// The limit on locked memory is too low for the executors.
    LockedMemory {
        /// The limit, in bytes.
        limit: u64,
        /// What is needed, in bytes.
        needed: u64,
    },
    /// The process may not use this CPU.
    CpuNotAllowed {
        /// The CPU.
        cpu: usize,
        /// The CPUs it may use.
        allowed: Vec<usize>,
    },
    /// The CPU does not run, or does not exist.
    CpuOffline {
        /// The CPU.
        cpu: usize,
        /// The CPUs that run.
        online: Vec<usize>,
    },
    /// The CPU is named twice.
    CpuTwice {
        /// The CPU.
        cpu: usize,
    },
    /// There are no shards, or too many.
    ShardCount {
        /// How many.
        count: usize,
    },
    /// Another socket listens there.
    AddressInUse {
        /// The address.
        address: Address,
        /// Whose socket that is, as far as this process can see.
        holder: AddressHolder,
    },
    /// The address cannot be listened on.
    Listen {
        /// The address.
        address: Address,
        /// The operating system's error.
        error: io::Error,
    },
    /// The thread runs a shard already; it cannot run another one inside it.
    OnShard,
    /// The thread drives connections, so that a server must not block it until its end.
    WouldBlock,
    /// A setting makes no sense.
    Config(String),
    /// An operation of the operating system failed.
    Io {
        /// What was being done.
        what: &'static str,
        /// The operating system's error.
        error: io::Error,
    },
    /// A shard's thread ended before it was ready.
    Shard {
        /// The shard.
        shard: u16,
        /// The error it ended with, including the operating system's number if there is one.
        error: io::Error,
    },
}

corewire_codec::debug_is_display!(StartError);

/// Whose socket has an address that a server wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressHolder {
    /// A socket of this process: most often another server that it has started.
    ThisProcess,
    /// A socket of another process.
    AnotherProcess,
    /// `/proc` cannot be read here, or does not show the socket.
    Unknown,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUringAbsent => f.write_str(
                "this kernel has no io_uring; run on Linux 5.8 or newer with CONFIG_IO_URING",
            ),
            Self::IoUringForbidden => f.write_str(
                "io_uring is forbidden here; set the sysctl kernel.io_uring_disabled to 0, or allow io_uring_setup in the container's seccomp profile",
            ),
            Self::KernelTooOld { release } => {
                write!(f, "Linux {release} is too old; 5.8 or newer is needed")
            }
            Self::LockedMemory { limit, needed } => write!(
                f,
                "the limit on locked memory is {} KiB, and {} KiB are needed; raise it with ulimit -l, or LimitMEMLOCK= in a systemd unit",
                limit / 1024,
                needed.div_ceil(1024)
            ),
            Self::CpuNotAllowed { cpu, allowed } => write!(
                f,
                "CPU {cpu} is not among the CPUs this process may use, which are {allowed:?}; choose from these, or widen the process's affinity or cpuset"
            ),
            Self::CpuOffline { cpu, online } => write!(
                f,
                "CPU {cpu} is not online; choose from {online:?}, or bring it online"
            ),
            Self::CpuTwice { cpu } => {
                write!(f, "CPU {cpu} is named twice; name each CPU once, for a shard owns its CPU")
            }
            Self::ShardCount { count } => {
                write!(f, "{count} shards were asked for; it must be between 1 and 65535")
            }
            Self::AddressInUse { address, holder } => write!(
                f,
                "{address} is in use by {}; stop that one, or choose another port (0 lets the system choose), or another path",
                match holder {
                    AddressHolder::ThisProcess => "a socket of this process, such as another server that it has started",
                    AddressHolder::AnotherProcess => "another process",
                    AddressHolder::Unknown => "another socket, of this process or another one",
                }
            ),
            Self::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrNotAvailable => f.write_str("; choose an address of this host"),
                    _ => tell_remedy(f, error),
                }
            }
            Self::OnShard => f.write_str(
                "this thread runs a shard already, which would stand still meanwhile; await the work here, give it to corewire::spawn, or call block_on_shard on a thread of its own",
            ),
            Self::WouldBlock => f.write_str(
                "run() would block a thread that drives connections, within a tokio runtime or on a shard; call drain_on_signal() and start() there and await ended(), or call run() on a thread of its own",
            ),
            Self::Config(text) => f.write_str(text),
            Self::Io { what, error } => {
                write!(f, "cannot {what}: {error}")?;
                tell_remedy(f, error)
            }
            Self::Shard { shard, error } => {
                write!(f, "shard {shard} did not start: {error}")?;
                tell_remedy(f, error)
            }
        }
    }
}

/// How to fix an error of the operating system, where that is known.
fn tell_remedy(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    match TransportError::from(error).remedy() {
        Some(remedy) => write!(f, "; {remedy}"),
        None => Ok(()),
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { error, .. } | Self::Io { error, .. } | Self::Shard { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::error::Error;

    /// The fix shown is that of the error, and the error itself is kept.
    #[test]
    fn a_start_error_names_what_the_system_lacks() {
        let address: Address = "127.0.0.1:7000".parse().unwrap();
        let error = |code| io::Error::from_raw_os_error(code);
        let told = [
            StartError::Listen { address: address.clone(), error: error(24) },
            StartError::Io { what: "make a shard's eventfd", error: error(24) },
            StartError::Shard { shard: 3, error: error(24) },
        ];
        for told in told {
            let text = told.to_string();
            assert!(text.contains("(os error 24); raise this process's limit"), "{text}");
            assert!(text.contains("LimitNOFILE") && !text.contains("of this host"), "{text}");
            let source = told.source().and_then(|it| it.downcast_ref::<io::Error>());
            assert_eq!(source.and_then(io::Error::raw_os_error), Some(24));
        }
        let elsewhere = StartError::Listen { address, error: error(99) }.to_string();
        assert!(
            elsewhere.ends_with("(os error 99); choose an address of this host"),
            "{elsewhere}"
        );
    }
}
