//! How many connections of a server are read on the CPU that their packets are processed on: for `tests/story.sh`.
//!
//! ```text
//! locality 10.0.0.1:7000 PID CONNECTIONS      root; prints `local N of M`
//! ```
//!
//! Each connection sends the first byte of a hello. The shard that reads it is the pinned thread of the server that
//! woke up; the packets' CPU is what the kernel reports for the server's own socket (`SO_INCOMING_CPU`). The server
//! must sleep while it is idle.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corewire_tune::placement::CpuSet;
use rustix::fd::OwnedFd;
use rustix::net::sockopt::socket_incoming_cpu;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

type Failure = Box<dyn std::error::Error>;

/// The first byte of every hello.
const HELLO: &[u8] = &[0xc7];

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, pid, connections] = &words[..] else {
        return Err("usage: locality ADDRESS PID CONNECTIONS".into());
    };
    let (address, pid, count): (SocketAddr, i32, usize) =
        (address.parse()?, pid.parse()?, connections.parse()?);
    let mut kept = Vec::new();
    let mut local = 0;
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        let socket = accepted(pid, &stream)?;
        let before = quiet(pid)?;
        stream.write_all(HELLO)?;
        let woken = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let now = wakes(pid).ok()?;
            let woke = |cpu: &&u32| now.get(cpu) > before.get(cpu);
            now.keys().find(woke).copied()
        });
        let shard = woken.ok_or("no pinned thread of the server woke up")?;
        local += usize::from(socket_incoming_cpu(&socket)? == shard);
        kept.push((stream, socket));
    }
    Ok(writeln!(std::io::stdout(), "local {local} of {count}")?)
}

/// A copy of the server's end of a connection, once the server has accepted it.
fn accepted(pid: i32, stream: &TcpStream) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = (stream.local_addr()?.port(), stream.peer_addr()?.port());
    let ends = (format!(":{theirs:04X}"), format!(":{ours:04X}"));
    for _ in 0..200 {
        let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
        let inode = table.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_it = words.get(1)?.ends_with(&ends.0) && words.get(2)?.ends_with(&ends.1);
            words.get(9).copied().filter(|inode| is_it && *inode != "0")
        });
        let wanted = inode.map(|inode| format!("socket:[{inode}]"));
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if wanted.is_some() && target.to_str() == wanted.as_deref() {
                let fd = entry.file_name().to_string_lossy().parse()?;
                let process = Pid::from_raw(pid).ok_or("0 is no process")?;
                let process = pidfd_open(process, PidfdFlags::empty())?;
                return Ok(pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the server did not accept the connection".into())
}

/// How often each pinned thread has gone to sleep, by its CPU.
fn wakes(pid: i32) -> Result<BTreeMap<u32, u64>, Failure> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let text = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let cpus: CpuSet = field("Cpus_allowed_list:").unwrap_or_default().parse()?;
        let count = field("voluntary_ctxt_switches:").and_then(|count| count.parse::<u64>().ok());
        if let (1, Some(cpu), Some(count)) = (cpus.len(), cpus.first(), count) {
            *all.entry(cpu).or_insert(0) += count;
        }
    }
    Ok(all)
}

/// The same, once no thread has woken up for a while.
fn quiet(pid: i32) -> Result<BTreeMap<u32, u64>, Failure> {
    let mut last = wakes(pid)?;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(15));
        let now = wakes(pid)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    Err("the server does not come to rest".into())
}
