//! Which listener of a group the kernel gives a new connection to.

use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use std::fmt;
use std::io;
use std::str::FromStr;

/// How the kernel spreads new connections over the shards of a server.
///
/// By hash, a connection goes to any shard, and its packets are received on any CPU: with *n* shards, one of *n*
/// connections is *local*, served on the CPU that receives its packets. Steered by CPU every one is, if the network card
/// has a queue for each shard whose interrupts that shard's CPU takes. Where it is not so, steering piles connections up: one
/// queue, or clients on the same host that run on one CPU, fill one shard and leave the others idle.
///
/// [`ShardCounters`](crate::ShardCounters) tell what came of it: `connections_local` of `connections_accepted`. Steering
/// concerns TCP alone.
///
/// As text, for flags and settings: `auto`, `incoming-cpu`, `cbpf` or `hash`.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Steering;
///
/// assert_eq!("incoming-cpu".parse(), Ok(Steering::IncomingCpu));
/// assert_eq!(Steering::default(), Steering::Auto);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steering {
    /// By CPU where that was seen to be safe. It begins by hash, and goes over to
    /// [`IncomingCpu`](Self::IncomingCpu) when the packets of some hundred connections per shard arrived spread over the
    /// shards' CPUs. It goes back to hash when they pile up. A placement file that gives every shard's CPU a
    /// queue of a card begins by CPU.
    #[default]
    Auto,
    /// By CPU, with `SO_INCOMING_CPU` on each listener. Packets that arrive on a CPU without a shard are spread by hash. It needs
    /// Linux 6.2, on older kernels connections are spread by hash.
    IncomingCpu,
    /// By CPU, with a BPF program on each group of listeners; for kernels before 6.2. The program knows listeners by their
    /// place in the group: when a shard's listener is taken out or put back, connections may go to other shards until
    /// the program is attached again, which is done at once.
    Cbpf,
    /// By a hash of the addresses and ports.
    Hash,
}

/// As it is parsed.
impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::IncomingCpu => "incoming-cpu",
            Self::Cbpf => "cbpf",
            Self::Hash => "hash",
        })
    }
}

impl FromStr for Steering {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "incoming-cpu" => Ok(Self::IncomingCpu),
            "cbpf" => Ok(Self::Cbpf),
            "hash" => Ok(Self::Hash),
            other => {
                Err(format!("'{other}' is no steering; give auto, incoming-cpu, cbpf, or hash"))
            }
        }
    }
}

/// Makes a listener prefer connections whose packets arrive on this CPU, or no longer any.
pub(crate) fn prefer(listener: &OwnedFd, cpu: Option<usize>) -> io::Result<()> {
    // The kernel takes an `int`, whose -1 means none.
    let cpu = cpu.and_then(|cpu| u32::try_from(cpu).ok()).unwrap_or(u32::MAX);
    Ok(sockopt::set_socket_incoming_cpu(listener, cpu)?)
}

/// Attaches a program to the group of this listener: CPU `table[i]` belongs to the group's member `i`. What arrives on
/// other CPUs is spread by hash; with an empty table that is all.
pub(crate) fn attach(listener: &OwnedFd, table: &[usize]) -> io::Result<()> {
    let mut steps = program(table);
    let len = u16::try_from(steps.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    Ok(setsockopt(listener, AttachReusePortCbpf, &program)?)
}

/// What any index that no group has makes of the choice: the kernel falls back to its hash.
const BY_HASH: u32 = u32::MAX;
/// Where the kernel's own data begin, `SKF_AD_OFF`, and the CPU among them, `SKF_AD_CPU`.
const CPU_AT: u32 = (-0x1000_i32 + 36).cast_unsigned();

/// Load the CPU; for each entry, compare it and return the place; return what no group has.
fn program(table: &[usize]) -> Vec<libc::sock_filter> {
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter {
        // The codes are below 256.
        code: u16::try_from(code).unwrap_or(0),
        jt: 0,
        jf,
        k,
    };
    let mut steps = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, CPU_AT)];
    for (place, cpu) in (0_u32..).zip(table) {
        let Ok(cpu) = u32::try_from(*cpu) else { continue };
        steps.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, cpu));
        steps.push(step(libc::BPF_RET | libc::BPF_K, 0, place));
    }
    steps.push(step(libc::BPF_RET | libc::BPF_K, 0, BY_HASH));
    steps
}
