//! A server that may send anything, to test what clients make of it: a plain socket and the codec.

use corewire_codec::{
    CodecId, Encoding, GoAway, Head, Hello, HelloRecords, InFlight, Limits, RecvBuffer, ReplyHead,
    RequestHead, Role, SendBuffer, Status, VERSION, reply_flags, request_flags,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::PATIENCE;
use super::peer::bytes_of;

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Answers 3, whatever it is asked.
    Answer,
    /// Never answers.
    Hang,
    /// Resets the connection.
    Break,
    /// Says no hello.
    Silent,
    /// Says that it goes away and has taken this many, and closes when the client does.
    GoAway(u32),
    /// Says that it goes away and has taken this many, and closes at once.
    GoAwayAndBreak(u32),
    /// Says that the handler did not begin.
    Refuse,
}

/// What one connection's client said behind its hello, and whether it ended in good order.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub heads: Vec<Head>,
    pub ended_well: bool,
}

/// The server. It takes at most 16 calls of a connection at once.
#[derive(Debug)]
pub struct Fake {
    pub address: SocketAddr,
    heard: Receiver<Heard>,
    requests: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let (tell, heard) = channel();
        let ends = Arc::clone(&over);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let (tell, counted) = (tell.clone(), Arc::clone(&counted));
                std::thread::spawn(move || serve(stream.unwrap(), manner, &counted, &tell));
            }
        });
        Self { address, heard, requests, over }
    }

    /// Requests that were read on all connections.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// What the next connection that ended has said.
    #[track_caller]
    pub fn heard(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("a connection is to end")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, manner: Manner, requests: &AtomicUsize, tell: &Sender<Heard>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut recv, mut bytes) = (RecvBuffer::new(), [0; 64 * 1024]);
    let mut heard = Heard { heads: Vec::new(), ended_well: false };
    let mut greeted = false;
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => heard.ended_well = true,
            Ok(_) if manner == Manner::Silent => {}
            Ok(count) => recv.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        if heard.ended_well {
            break;
        }
        if !greeted {
            let Some(_) = recv.next_hello().unwrap() else { continue };
            greeted = true;
            stream.write_all(&bytes_of(greet)).unwrap();
        }
        while let Some(frame) = recv.next_frame(1 << 30).unwrap() {
            let head = frame.head;
            heard.heads.push(head);
            requests.fetch_add(usize::from(matches!(head, Head::Request(_))), Ordering::SeqCst);
            if let Head::Request(request) = head
                && request.flags & request_flags::ONE_WAY == 0
                && !respond(&mut stream, manner, &request)
            {
                return drop(tell.send(heard));
            }
        }
    }
    let _ = tell.send(heard);
}

pub fn greet(out: &mut SendBuffer) {
    let limits = Limits { in_flight: InFlight::MIN, ..Limits::default() };
    let records = HelloRecords { limits, codecs: 3, ..HelloRecords::default() };
    out.hello(&Hello { version: VERSION, role: Role::Server, records });
}

/// Returns `false` when it closes the connection.
fn respond(stream: &mut TcpStream, manner: Manner, request: &RequestHead) -> bool {
    let head =
        ReplyHead { encoding: Encoding::plain(CodecId::SPEEDY), ..ReplyHead::ok(request.call) };
    let words = bytes_of(|out| match manner {
        Manner::Hang | Manner::Break | Manner::Silent => {}
        Manner::Answer => {
            let mut frame = out.reply(&head, None);
            frame.put_slice(&3u32.to_le_bytes());
            frame.finish(u32::MAX).unwrap();
        }
        Manner::GoAway(accepted) | Manner::GoAwayAndBreak(accepted) => {
            out.go_away(&GoAway { accepted, rule: 0 }, "gone");
        }
        Manner::Refuse => {
            let head = ReplyHead { flags: reply_flags::REFUSED, ..head };
            out.status(&head, &Status::unavailable("not now"), u32::MAX);
        }
    });
    stream.write_all(&words).unwrap();
    if manner == Manner::Break {
        rustix::net::sockopt::set_socket_linger(&*stream, Some(std::time::Duration::ZERO)).unwrap();
    }
    !matches!(manner, Manner::Break | Manner::GoAwayAndBreak(_))
}

/// A listener whose queue is full lets further clients wait for an answer.
pub fn full_listener() -> (TcpListener, TcpStream) {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}
