//! What people read when something fails: what a `main` prints, what a caller is told, and what only the log says.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::codec::{Decode, DecodeError, FrameBytes, FrameTooLarge, Speedy};
use corewire::transport::CallFailure;
use corewire::{
    AddressHolder, Bytes, CallError, Channel, ChannelConfig, ClientShard, ClientThread,
    ConnectError, Context, Limits, MetadataBuilder, NotSent, Placement, Running, SendError, Server,
    StartError, Status, StatusCode, StreamTransport, Streaming, Timeouts, TraceContext,
    TransportError,
};
use std::error::Error;
use std::net::TcpListener;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use support::child::{self, ServerChild, role};
use support::lines::Lines;
use support::peer::{Peer, request};
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::{address, builder, client, end, until};

/// The subscriber is that of the whole process.
fn lines() -> Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let make = || {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.clone()).unwrap();
        lines
    };
    LINES.get_or_init(make).clone()
}

/// A `main` that returns an error prints it by `Debug`.
#[test]
fn what_main_prints_is_the_sentence() {
    let start = StartError::IoUringForbidden;
    assert_eq!(format!("{start:?}"), start.to_string());
    assert!(format!("{start:?}").contains("sysctl kernel.io_uring_disabled"));
    let call = CallError::NotSent(NotSent::WouldBlock);
    assert_eq!(format!("{call:?}"), call.to_string());
    let refused = client(|| async { SubjectClient::connect("nowhere").await.unwrap_err() });
    assert_eq!(format!("{refused:?}"), refused.to_string());
    assert!(format!("{refused:?}").contains("write host:port"));
    let entry = MetadataBuilder::new().insert("No Such Key", b"").unwrap_err();
    assert_sentence(&entry, "a metadata key must be");
    assert_sentence(&TraceContext::from_str("00").unwrap_err(), "a traceparent is");
    assert_sentence(&FrameBytes::new(1).unwrap_err(), "it must be between");
    let times = Timeouts { ping_after: Duration::ZERO, ..Timeouts::default() };
    assert_sentence(&times.check().unwrap_err(), "ping_after is 0 ns; it must be between");
    let undecoded = <Speedy as Decode<u64>>::decode(Bytes::new()).unwrap_err();
    assert_sentence(&undecoded, "");
    assert_sentence(&SendError::Closed(Unnamed), "nobody reads the stream");
    assert_sentence(&TransportError::from(std::io::ErrorKind::ConnectionReset), "reset");
    assert_sentence(&CallFailure::Refused, "went away");
    assert_sentence(&Status::not_found("no such row"), "NotFound: no such row");
    // Tests compare statuses: what the sentence leaves out follows it.
    let status = Status::not_found("no row").with_details(Bytes::from_static(b"12"));
    let status = status.with_retry_after(Duration::from_secs(2)).with_log_detail("at 10.0.0.7");
    let text = "NotFound: no row; 2 bytes of details; retry after 2s; for the log: at 10.0.0.7";
    assert_eq!(format!("{status:?}"), text);
    assert_eq!(status.to_string(), "NotFound: no row");
}

/// A message that cannot be shown.
#[derive(Clone, Copy)]
struct Unnamed;

#[track_caller]
fn assert_sentence(error: &dyn Error, says: &str) {
    let text = error.to_string();
    assert_eq!(format!("{error:?}"), text);
    assert!(text.contains(says) && !text.is_empty(), "{text}");
}

/// The first cause of this type.
fn cause<E: Error + 'static>(error: &dyn Error) -> Option<&E> {
    let mut error = error.source()?;
    loop {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => error = error.source()?,
        }
    }
}

/// Code that is given a `Box<dyn Error>` finds what is inside each of our errors.
#[test]
fn an_error_gives_its_cause_as_its_source() {
    let status = Status::permission_denied("say who you are");
    let turned = NotSent::TurnedAway(status.clone());
    for error in [
        Box::new(turned.clone()) as Box<dyn Error>,
        Box::new(ConnectError::NotConnected(turned.clone())),
        Box::new(CallFailure::NotSent(turned.clone())),
        Box::new(CallError::NotSent(turned.clone())),
        Box::new(CallError::Refused(status.clone())),
        Box::new(CallError::Status(status.clone())),
    ] {
        assert_eq!(cause::<Status>(&*error), Some(&status), "{error}");
    }
    for error in [
        Box::new(ConnectError::NotConnected(turned.clone())) as Box<dyn Error>,
        Box::new(CallFailure::NotSent(turned.clone())),
        Box::new(CallError::NotSent(turned.clone())),
    ] {
        assert_eq!(cause::<NotSent>(&*error), Some(&turned), "{error}");
    }
    let undecoded = <Speedy as Decode<u64>>::decode(Bytes::new()).unwrap_err();
    let error = CallError::Decode(undecoded.clone());
    assert_eq!(cause::<DecodeError>(&error), Some(&undecoded));
    let error = std::io::Error::from_raw_os_error(98);
    let error = StartError::Io { what: "make a thread", error };
    let system = cause::<std::io::Error>(&error).unwrap();
    assert_eq!(system.raw_os_error(), Some(98));
    let limits = Limits { frame_bytes: FrameBytes::new(65_536).unwrap(), ..Limits::default() };
    let server = builder(1).limits(limits).start().unwrap();
    let to = address(&server);
    let error = client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        client.echo(vec![0; 65_537].into()).await.unwrap_err()
    });
    let large = cause::<FrameTooLarge>(&error).unwrap();
    // The frame holds the timeout, too.
    assert_eq!((large.bytes, large.max), (65_545, 65_536));
    end(server);
    for alone in [CallError::Reused, CallError::DeadlineExceeded { sent: true }] {
        assert!(alone.source().is_none());
    }
    assert!(NotSent::Closed.source().is_none());
}

/// Nobody is told of these panics but the log, so the log says what they said.
#[test]
fn a_panic_of_a_task_a_callback_or_a_hook_is_logged_with_its_message() {
    let lines = lines();
    let (habits, hooked) = (Habits::default(), Arc::new(AtomicBool::new(false)));
    let (stuck, called) = (habits.clone(), Arc::clone(&hooked));
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .drain_within(Duration::ZERO)
        .on_shard_lost(move |lost| {
            called.store(true, Ordering::SeqCst);
            panic!("the hook lost {}", lost.shard.id)
        })
        .service(move |_| SubjectServer::new(Target::new(stuck.clone())))
        .start()
        .unwrap();
    client(|| async {
        corewire::spawn(async { panic!("the task has no table '{}'", "prices") }).detach();
        futures_lite::future::yield_now().await;
    });
    let line = lines.await_line("ERROR", &["a detached task panicked"]);
    assert!(line.contains("panic=\"the task has no table 'prices'\""), "{line}");
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let channel = thread.channel(address(&server), ChannelConfig::default()).unwrap();
    SubjectClient::new(channel).add(1, 2).then(|sum| panic!("the callback got {sum:?}"));
    let line = lines.await_line("ERROR", &["a callback of a call panicked"]);
    assert!(line.contains("panic=\"the callback got Ok(3)\""), "{line}");
    let mut peer = Peer::polite(address(&server));
    peer.send(&request(1, "block", b""));
    until("the handler has the thread", || habits.begun() == 1);
    server.stop();
    assert_eq!(server.wait().unwrap().shards_lost, 1);
    assert!(hooked.load(Ordering::SeqCst));
    let line = lines.await_line("ERROR", &["the hook for lost shards panicked"]);
    assert!(line.contains("panic=\"the hook lost 0\""), "{line}");
    habits.unblock.store(true, Ordering::SeqCst);
}

/// Which child this process is.
const HOLDER: &str = "holder";

/// The child's `main`.
#[test]
fn child() {
    if role().as_deref() == Some(HOLDER) {
        child::serve(builder(1));
    }
}

#[test]
fn a_port_that_another_process_has_is_told_as_that() {
    let other = ServerChild::start("child", HOLDER);
    let error = builder(1).address(other.address()).start().unwrap_err();
    assert!(
        matches!(error, StartError::AddressInUse { holder: AddressHolder::AnotherProcess, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_second_server_on_a_port_is_told_whose_socket_is_there() {
    let first = builder(1).start().unwrap();
    let error = builder(1).address(address(&first)).start().unwrap_err();
    assert!(
        matches!(error, StartError::AddressInUse { holder: AddressHolder::ThisProcess, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("of this process"), "{error}");
    end(first);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = builder(1).address(taken.local_addr().unwrap()).start().unwrap_err();
    assert!(error.to_string().contains("of this process"), "{error}");
}

#[test]
fn a_factory_that_panics_says_with_what() {
    let broken = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(|_| -> SubjectServer<Target> { panic!("the table has no column 'price'") });
    let error = broken.start().unwrap_err().to_string();
    assert!(error.contains("panicked: the table has no column 'price'"), "{error}");
}

/// What a later version of the service would have, too.
#[corewire::service(name = "Subject")]
pub trait Newer {
    /// The server has no such method.
    async fn removed(&self) -> Result<u32, Status>;
    /// Nor this one.
    async fn no_tail(&self) -> Result<Streaming<u32>, Status>;
    /// Nor this one.
    async fn no_sum(&self, items: Streaming<u32>) -> Result<u32, Status>;
}

kinds! {
    a_method_that_the_server_does_not_have_is_named
}

async fn a_method_that_the_server_does_not_have_is_named<C: StreamTransport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = builder(1).start().unwrap();
    let to = address(&server).to_string();
    let client = NewerClient::new(connect(&to, ChannelConfig::default()).unwrap());
    let no_tail = client.no_tail().await.map(|_| ()).unwrap_err();
    assert!(no_tail.to_string().contains("Subject/no_tail"), "{no_tail}");
    let no_sum = client.no_sum(C::empty()).begin().await.unwrap().await.unwrap_err();
    assert!(no_sum.to_string().contains("Subject/no_sum"), "{no_sum}");
    let with_response = client.removed().with_response().await.unwrap_err();
    for error in [client.removed().await.unwrap_err(), with_response] {
        assert_eq!(error.code(), StatusCode::Unimplemented);
        assert!(error.to_string().contains("Subject/removed"), "{error}");
    }
    drop(client);
    end(server);
}

/// Calls a server behind it that is not there.
#[corewire::service]
pub trait Front {
    /// Passes a failed call on by `?`, at once or after it pended.
    async fn ask(&self, context: &Context, late: bool) -> Result<u32, Status>;
    /// Sends one number, and then passes a failed call on as the end of the stream.
    async fn ask_on(&self) -> Result<Streaming<u32>, Status>;
    /// Panics.
    async fn fall(&self, late: bool) -> Result<u32, Status>;
    /// Keeps its thread until it is let go.
    async fn keep(&self) -> Result<(), Status>;
}

struct Fronted {
    back: String,
    let_go: Arc<AtomicBool>,
}

async fn pend(late: bool) {
    if late {
        futures_lite::future::yield_now().await;
    }
}

impl Front for Fronted {
    async fn ask(&self, _: &Context, late: bool) -> Result<u32, Status> {
        pend(late).await;
        if late {
            return Ok(NewerClient::connect(self.back.as_str()).await?.removed().await?);
        }
        let channel = Channel::new(self.back.as_str(), ChannelConfig::default());
        Ok(NewerClient::new(channel?).removed().await?)
    }

    async fn ask_on(&self) -> Result<Streaming<u32>, Status> {
        let (mut numbers, stream) = Streaming::channel();
        let back = self.back.clone();
        corewire::spawn(async move {
            numbers.send(1).await.unwrap();
            numbers.fail(NewerClient::connect(back.as_str()).await.unwrap_err().into());
        })
        .detach();
        Ok(stream)
    }

    async fn fall(&self, late: bool) -> Result<u32, Status> {
        pend(late).await;
        panic!("no such row")
    }

    async fn keep(&self) -> Result<(), Status> {
        while !self.let_go.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }
}

fn front(back: String, let_go: Arc<AtomicBool>) -> Running {
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .stall_after(Duration::from_millis(500))
        .service(move |_| FrontServer::new(Fronted { back: back.clone(), let_go: let_go.clone() }))
        .start()
        .unwrap()
}

#[test]
fn callers_are_told_nothing_internal_and_the_log_says_it_with_method_call_and_peer() {
    let lines = lines();
    // Bound, and nobody listens: connects are refused.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let back = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let let_go = Arc::new(AtomicBool::new(false));
    let server = front(back.clone(), Arc::clone(&let_go));
    let to = address(&server);
    let caller = std::thread::spawn(move || {
        client(move || async move {
            let client = FrontClient::connect(to).await.unwrap();
            let asked = [client.ask(false).await, client.ask(true).await];
            let fallen = [client.fall(false).await, client.fall(true).await];
            let mut numbers = client.ask_on().await.unwrap();
            assert_eq!(numbers.next().await, Some(Ok(1)));
            let ended = numbers.next().await.unwrap().map_err(CallError::Status);
            (asked.into_iter().chain([ended]), fallen, client.keep().await)
        })
    });
    let line = lines.await_line("WARN", &["a call failed", "method=Front/ask", &back]);
    assert!(line.contains(" call=") && line.contains(" peer=127.0.0.1:"), "{line}");
    let line = lines.await_line("WARN", &["a call failed", "method=Front/ask_on", &back]);
    assert!(line.contains(" call=") && line.contains(" peer=127.0.0.1:"), "{line}");
    let panicked = ["a handler panicked", "method=Front/fall", "no such row"];
    let line = lines.await_line("ERROR", &panicked);
    assert!(line.contains(" call=") && line.contains(" peer=127.0.0.1:"), "{line}");
    let line = lines.await_line("ERROR", &["does not turn", "Front/keep"]);
    assert!(line.contains(" call="), "{line}");
    let_go.store(true, Ordering::SeqCst);
    let (asked, fallen, kept) = caller.join().unwrap();
    kept.unwrap();
    for failure in asked {
        let failure = failure.unwrap_err().to_string();
        assert!(failure.starts_with("Unavailable"), "{failure}");
        assert!(!failure.contains("127.0.0.1"), "{failure}");
    }
    for failure in fallen {
        assert_eq!(failure.unwrap_err().code(), StatusCode::Internal);
    }
    until("it turns again", || lines.count("WARN", "turns again").0 > 0);
    let line = lines.await_line("WARN", &["a handler held its shard", "Front/keep"]);
    // The caller has its reply, and may be gone.
    let peer = line.contains(" peer=127.0.0.1:") || line.contains(" peer=gone");
    assert!(line.contains(" call=") && peer, "{line}");
    end(server);
}
