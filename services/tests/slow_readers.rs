//! Readers that take little, but take it all the time: they are slow, and not gone (REQ-59).
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Channel, ChannelConfig, ClientConfig, ClientShard, ClientThread, SharedChannel, Timeouts,
    Transport, blocking,
};
use corewire_codec::{CodecId, Encoding, RecvBuffer, ReplyHead};
use futures_lite::future::block_on;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::peer::{Peer, bytes_of, hello, request};
use support::service::SubjectClient;
use support::{PATIENCE, address, builder, count, end};

/// More than any socket takes at once.
const BODY: usize = 8 << 20;
/// The reader's socket takes so little that its kernel tells of every read.
const SOCKET: usize = 4096;
const WRITE: Duration = Duration::from_secs(1);
/// For how long the reader is slow: long against the write timeout, and so short that it makes no room
/// which a kernel would tell its sender of.
const SLOW: Duration = Duration::from_millis(3_500);

fn timeouts() -> Timeouts {
    Timeouts { write: WRITE, ..Timeouts::default() }
}

/// A socket that takes little, before it is connected or listens.
fn small_socket() -> rustix::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, SOCKET).unwrap();
    socket
}

/// Reads what is there into `bytes`, and retries after interrupts.
fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> usize {
    loop {
        match stream.read(bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the sender has patience: {error}"),
        }
    }
}

/// Reads a little at a time for a while.
fn read_slowly(stream: &mut TcpStream, recv: &mut RecvBuffer) {
    let (start, mut bytes) = (Instant::now(), [0; 1024]);
    while start.elapsed() < SLOW {
        let count = read(stream, &mut bytes);
        assert!(count > 0, "the sender gave up after {:?}", start.elapsed());
        recv.extend_from_slice(&bytes[..count]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// REQ-59: a client that reads a reply slowly.
#[test]
fn a_slow_client_is_not_given_up() {
    let server = builder(1).timeouts(timeouts()).start().unwrap();
    let socket = small_socket();
    rustix::net::connect(&socket, &address(&server)).unwrap();
    let mut peer = Peer::over(TcpStream::from(socket));
    peer.send(&hello());
    peer.hello();
    peer.send(&request(1, "blob", &u32::try_from(BODY).unwrap().to_le_bytes()));
    let mut recv = RecvBuffer::new();
    read_slowly(&mut peer.stream, &mut recv);
    let mut bytes = vec![0; 1 << 20];
    let size = loop {
        if let Some(frame) = recv.next_frame(1 << 30).unwrap() {
            break frame.payload.body().len();
        }
        let count = read(&mut peer.stream, &mut bytes);
        assert!(count > 0, "the server gave up");
        recv.extend_from_slice(&bytes[..count]);
    };
    assert_eq!(size, BODY);
    assert_eq!(count(&server, |counters| counters.connections_faulted.value()), 0);
    end(server);
}

/// A server that reads a request slowly, and then answers it.
fn slow_server() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = small_socket();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 8).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes_of(support::fake::greet)).unwrap();
        let (mut recv, mut bytes) = (RecvBuffer::new(), vec![0; 1 << 20]);
        while recv.next_hello().unwrap().is_none() {
            let count = read(&mut stream, &mut bytes[..256]);
            recv.extend_from_slice(&bytes[..count]);
        }
        read_slowly(&mut stream, &mut recv);
        let call = loop {
            if let Some(frame) = recv.next_frame(1 << 30).unwrap() {
                assert_eq!(frame.payload.body().len(), BODY);
                break frame.head;
            }
            let count = read(&mut stream, &mut bytes);
            assert!(count > 0, "the client gave up");
            recv.extend_from_slice(&bytes[..count]);
        };
        let corewire_codec::Head::Request(request) = call else { panic!("{call:?}") };
        let head =
            ReplyHead { encoding: Encoding::plain(CodecId::RAW), ..ReplyHead::ok(request.call) };
        let reply = bytes_of(|out| {
            let mut frame = out.reply(&head, None);
            frame.put_slice(b"all of it");
            frame.finish(u32::MAX).unwrap();
        });
        stream.write_all(&reply).unwrap();
        // Until the client is done.
        let _ = stream.read(&mut bytes);
    });
    (address, served)
}

async fn call_slowly<C: Transport>(channel: impl FnOnce(SocketAddr, ChannelConfig) -> C) {
    let (to, served) = slow_server();
    let connection = ClientConfig { timeouts: timeouts(), ..ClientConfig::default() };
    let config = ChannelConfig { connection, ..ChannelConfig::default() };
    let client = SubjectClient::new(channel(to, config)).with_timeout(2 * PATIENCE);
    let answer = client.echo(vec![7; BODY].into()).await;
    assert_eq!(answer.map_err(|error| error.code()), Ok(b"all of it"[..].into()));
    drop(client);
    served.join().unwrap();
}

/// REQ-59: and a server that reads a request slowly, from each kind of channel.
#[test]
fn a_slow_server_of_a_shard_is_not_given_up() {
    support::client(|| call_slowly(|to, config| Channel::new(to, config).unwrap()));
}

#[test]
fn a_slow_server_of_a_thread_is_not_given_up() {
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    block_on(call_slowly(|to, config| thread.channel(to, config).unwrap()));
}

#[test]
fn a_slow_server_of_tokio_is_not_given_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(call_slowly(|to, config| SharedChannel::on_tokio(to, config).unwrap()));
}

#[test]
fn a_slow_server_of_one_that_blocks_is_not_given_up() {
    block_on(call_slowly(|to, config| blocking::Channel::new(to, config).unwrap()));
}
