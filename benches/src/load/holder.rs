//! A program that holds many connections and does nothing with them.
//!
//! It keeps the contract of a server: it prints `listening ADDRESS`, with the address it is connected to, when all of
//! its connections are made, and ends with success on SIGTERM. So it is started, watched and ended as one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use corewire_codec::{
    Hello, HelloRecords, Limits, MethodId, RecvBuffer, RequestHead, Role, SendBuffer, VERSION,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// Connections that are made before the first of them is read: fewer than a listener's queue holds.
const BATCH: usize = 1000;

/// How long the answer on one connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Raises the soft limit of descriptors to the hard one, for this process and its children; returns it.
#[must_use]
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // It fails only above the hard limit, and then the old limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Makes the connections, one echo call on each of them, reports that they are made, and waits for SIGTERM.
///
/// # Errors
///
/// When a connection cannot be made or does not answer.
#[expect(clippy::print_stdout, reason = "the line is how the parent hears that all is ready")]
pub fn hold(address: SocketAddr, connections: usize) -> Result<()> {
    let mut signals = Signals::new([SIGTERM]).context("cannot watch for signals")?;
    let limit = raise_file_limit();
    if limit < connections as u64 + 50 {
        bail!("{limit} descriptors are allowed; {connections} connections need more");
    }
    let first_words = first_words();
    let mut held = Vec::with_capacity(connections);
    while held.len() < connections {
        let from = held.len();
        for _ in from..connections.min(from + BATCH) {
            let mut stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&first_words).context("cannot write")?;
            held.push(stream);
        }
        for stream in held.iter_mut().skip(from) {
            answered(stream)?;
        }
    }
    println!("listening {address}");
    signals.forever().next();
    Ok(())
}

/// A hello, followed by an echo call.
fn first_words() -> Vec<u8> {
    let mut out = SendBuffer::new();
    let records = HelloRecords { limits: Limits::default(), codecs: 3, ..HelloRecords::default() };
    out.hello(&Hello { version: VERSION, role: Role::Client, records });
    let mut call = out.request(&RequestHead::new(0, MethodId::of("corewire.Echo", "echo")), None);
    call.put_slice(b"here");
    // Four bytes are within every limit.
    let _ = call.finish(u32::MAX);
    out.first_chunk().to_vec()
}

/// Reads the server's hello and its reply.
fn answered(stream: &mut TcpStream) -> Result<()> {
    let mut recv = RecvBuffer::new();
    let mut hello = false;
    let mut bytes = [0; 1024];
    loop {
        hello = hello || recv.next_hello().ok().context("a broken hello")?.is_some();
        if hello && recv.next_frame(1 << 20).ok().context("a broken frame")?.is_some() {
            return Ok(());
        }
        let count = stream.read(&mut bytes).context("no answer")?;
        if count == 0 {
            bail!("the server closed a connection");
        }
        recv.extend_from_slice(bytes.get(..count).unwrap_or(&[]));
    }
}
