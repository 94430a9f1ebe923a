//! A server that says hello and then takes what its clients send slowly, or not at all. It answers nothing.

use corewire::Address;
use corewire_codec::RecvBuffer;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::peer::hello_of;
use super::shells::Family;

/// What it does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Takes 64 KiB and pauses for so long.
    Slow(Duration),
    /// Takes nothing behind the hello.
    Never,
    /// Says its hello only when the test allows it, and answers nothing.
    HelloLater,
    /// Hangs up without a word.
    HangUp,
}

/// The server.
#[derive(Debug)]
pub struct Slow {
    pub address: Address,
    connections: Arc<AtomicUsize>,
    may_greet: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    _files: tempfile::TempDir,
}

/// What both families' sockets have.
trait Socket: Read + Write + Send + 'static {}
impl<S: Read + Write + Send + 'static> Socket for S {}

/// What the kernel keeps for the server; the rest waits at the client.
const RECEIVE_BYTES: usize = 64 * 1024;

impl Slow {
    pub fn start(family: Family, pace: Pace) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (connections, may_greet, over): (Arc<AtomicUsize>, Arc<AtomicBool>, Arc<AtomicBool>) =
            Default::default();
        let (counted, greets, ends) =
            (Arc::clone(&connections), Arc::clone(&may_greet), Arc::clone(&over));
        let serve = move |socket: Box<dyn Socket>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (greets, ends) = (Arc::clone(&greets), Arc::clone(&ends));
            std::thread::spawn(move || drop(take(socket, pace, &greets, &ends)));
        };
        let ends = Arc::clone(&over);
        let address = match family {
            Family::Tcp => {
                let listener = small_listener();
                let address = Address::Tcp(listener.local_addr().unwrap());
                std::thread::spawn(move || {
                    let accepted = listener.incoming().map_while(Result::ok);
                    accepted.take_while(|_| !ends.load(Ordering::SeqCst)).for_each(|socket| {
                        socket.set_read_timeout(Some(PATIENCE)).unwrap();
                        serve(Box::new(socket));
                    });
                });
                address
            }
            Family::Unix => {
                let path = files.path().join("slow.sock");
                let listener = UnixListener::bind(&path).unwrap();
                std::thread::spawn(move || {
                    let accepted = listener.incoming().map_while(Result::ok);
                    accepted.take_while(|_| !ends.load(Ordering::SeqCst)).for_each(|socket| {
                        socket.set_read_timeout(Some(PATIENCE)).unwrap();
                        serve(Box::new(socket));
                    });
                });
                Address::Unix(path)
            }
        };
        Self { address, connections, may_greet, over, _files: files }
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Lets those that wait say hello.
    pub fn greet(&self) {
        self.may_greet.store(true, Ordering::SeqCst);
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        match &self.address {
            Address::Tcp(address) => drop(std::net::TcpStream::connect(address)),
            Address::Unix(path) => drop(std::os::unix::net::UnixStream::connect(path)),
            // The tests serve none.
            _ => {}
        }
    }
}

/// A listener whose sockets take little at once.
fn small_listener() -> TcpListener {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 16).unwrap();
    TcpListener::from(socket)
}

fn take(
    mut socket: Box<dyn Socket>,
    pace: Pace,
    may_greet: &AtomicBool,
    over: &AtomicBool,
) -> std::io::Result<()> {
    if pace == Pace::HangUp {
        return Ok(());
    }
    let mut bytes = vec![0; RECEIVE_BYTES];
    let mut recv = RecvBuffer::new();
    while recv.next_hello().unwrap().is_none() {
        // A byte at a time: nothing behind the hello is taken.
        socket.read_exact(&mut bytes[..1])?;
        recv.extend_from_slice(&bytes[..1]);
    }
    let start = Instant::now();
    let is_over = || over.load(Ordering::SeqCst) || start.elapsed() > PATIENCE;
    while pace == Pace::HelloLater && !may_greet.load(Ordering::SeqCst) && !is_over() {
        std::thread::sleep(Duration::from_millis(1));
    }
    socket.write_all(&hello_of(corewire_codec::Role::Server, corewire::Limits::default()))?;
    while !is_over() {
        match pace {
            Pace::Never => std::thread::sleep(Duration::from_millis(5)),
            Pace::Slow(pause) => {
                match socket.read(&mut bytes) {
                    Ok(0) => break,
                    Err(error) if error.kind() != ErrorKind::Interrupted => break,
                    _ => {}
                }
                std::thread::sleep(pause);
            }
            Pace::HelloLater | Pace::HangUp => match socket.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            },
        }
    }
    Ok(())
}
