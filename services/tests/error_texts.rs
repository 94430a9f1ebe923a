//! What people read when something fails: what a `main` prints, what a caller is told, and what only the log says.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    AddressHolder, CallError, Channel, ChannelConfig, Context, NotSent, Placement, Running, Server,
    StartError, Status, StatusCode, Streaming,
};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use support::lines::Lines;
use support::service::{SubjectClient, SubjectServer, Target};
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

#[test]
fn a_method_that_the_server_does_not_have_is_named() {
    let server = builder(1).start().unwrap();
    let to = address(&server);
    let (error, with_response) = client(move || async move {
        let client = NewerClient::connect(to).await.unwrap();
        let no_tail = client.no_tail().await.map(|_| ()).unwrap_err();
        assert!(no_tail.to_string().contains("Subject/no_tail"), "{no_tail}");
        let no_sum = client.no_sum(Streaming::empty()).begin().await.unwrap().await.unwrap_err();
        assert!(no_sum.to_string().contains("Subject/no_sum"), "{no_sum}");
        let with_response = client.removed().with_response().await.unwrap_err();
        (client.removed().await.unwrap_err(), with_response)
    });
    for error in [error, with_response] {
        assert_eq!(error.code(), StatusCode::Unimplemented);
        assert!(error.to_string().contains("Subject/removed"), "{error}");
    }
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
    end(server);
}
