//! Layers that wait: whoever they let pass, turn away or give up, for each kind of method.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::layer::{CallTimer, CallView, TimeLimit};
use corewire::{
    Bytes, CallError, CallOptions, Context, Placement, Running, Server, ServerBuilder, Service,
    Status, StatusCode, Streaming, sleep,
};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{address, client, count, end, until};

/// Methods of every kind.
#[corewire::service]
pub trait Desk {
    /// Greets the user.
    async fn whoami(&self, context: &Context, greeting: String) -> Result<String, Status>;
    /// Returns the body.
    async fn upload(&self, context: &Context, body: Bytes) -> Result<Bytes, Status>;
    /// Adds up, from the length of the user's name.
    async fn sum(&self, context: &Context, items: Streaming<u64>) -> Result<u64, Status>;
    /// Counts, from the length of the user's name.
    async fn list(&self, context: &Context, count: u64) -> Result<Streaming<u64>, Status>;
    /// Never returns.
    async fn never(&self) -> Result<(), Status>;
    /// Writes a text down.
    #[one_way]
    async fn note(&self, context: &Context, text: String);
}

/// Who calls, as the layer heard it.
struct User(String);

#[derive(Clone, Default)]
struct Clerk {
    notes: Arc<Mutex<Vec<String>>>,
    begun: Arc<AtomicU32>,
}

impl Clerk {
    fn user<'a>(&self, context: &'a Context) -> &'a str {
        self.begun.fetch_add(1, Ordering::SeqCst);
        &context.extension::<User>().expect("the layer hands it on").0
    }
}

impl Desk for Clerk {
    async fn whoami(&self, context: &Context, greeting: String) -> Result<String, Status> {
        let token = context.metadata().text("token").map(str::to_owned).unwrap();
        Ok(format!("{greeting}, {} ({token})", self.user(context)))
    }
    async fn upload(&self, context: &Context, body: Bytes) -> Result<Bytes, Status> {
        assert_eq!((self.user(context), context.attachment().len()), ("ada", 5000));
        Ok(body)
    }
    async fn sum(&self, context: &Context, mut items: Streaming<u64>) -> Result<u64, Status> {
        let mut sum = self.user(context).len() as u64;
        while let Some(item) = items.next().await {
            sum += item?;
        }
        Ok(sum)
    }
    async fn list(&self, context: &Context, count: u64) -> Result<Streaming<u64>, Status> {
        let first = self.user(context).len() as u64;
        Ok(Streaming::from_stream(futures_lite::stream::iter((first..first + count).map(Ok))))
    }
    async fn never(&self) -> Result<(), Status> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        pending().await
    }
    async fn note(&self, context: &Context, text: String) {
        let user = self.user(context);
        self.notes.lock().unwrap().push(format!("{user}: {text}"));
    }
}

/// Knows "ada" at once, "bob" after a while, and others not at all; "stuck" never hears anything.
async fn user_of(token: Option<String>) -> Result<User, Status> {
    match token.as_deref() {
        Some("ada") => Ok(User("ada".into())),
        Some("bob") => {
            sleep(Duration::from_millis(5)).await;
            Ok(User("bob".into()))
        }
        Some("late") => {
            sleep(Duration::from_millis(5)).await;
            Err(Status::permission_denied("not you"))
        }
        Some("stuck") => pending().await,
        _ => Err(Status::unauthenticated("who are you?")),
    }
}

fn ask(call: &CallView<'_>) -> impl Future<Output = Result<User, Status>> + use<> {
    user_of(call.metadata().text("token").map(str::to_owned))
}

fn start(builder: ServerBuilder, clerk: &Clerk) -> (Running, SocketAddr) {
    let clerk = clerk.clone();
    let builder = builder.address("127.0.0.1:0").placement(Placement::Unpinned(1));
    let server = builder.service(move |_| DeskServer::new(clerk.clone())).start().unwrap();
    let to = address(&server);
    (server, to)
}

fn with(client: &DeskClient, token: &str) -> DeskClient {
    client.with(CallOptions::new().metadata("token", token.as_bytes()).unwrap())
}

#[test]
fn every_kind_of_method_begins_when_its_layer_has_heard() {
    let clerk = Clerk::default();
    let (server, to) = start(Server::builder().async_layer(|_| ask), &clerk);
    let written = Arc::clone(&clerk.notes);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        for (token, length) in [("ada", 3), ("bob", 3)] {
            let desk = with(&desk, token);
            // More than one at once: the memory of one is another's afterwards.
            for _ in 0..3 {
                let (one, two) = futures_lite::future::zip(
                    desk.whoami("hello".into()),
                    desk.whoami("good day".into()),
                )
                .await;
                assert_eq!(one.unwrap(), format!("hello, {token} ({token})"));
                assert_eq!(two.unwrap(), format!("good day, {token} ({token})"));
            }
            let items = Streaming::from_stream(futures_lite::stream::iter((0..100).map(Ok)));
            assert_eq!(desk.sum(items).await.unwrap(), 4950 + length);
            let mut list = desk.list(50).await.unwrap();
            let mut seen = Vec::new();
            while let Some(item) = list.next().await {
                seen.push(item.unwrap());
            }
            assert_eq!(seen, (length..length + 50).collect::<Vec<_>>());
            desk.note(format!("from {token}")).await.unwrap();
        }
        // A connection that goes takes along what is pending.
        while written.lock().unwrap().len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    let mut notes = clerk.notes.lock().unwrap().clone();
    notes.sort();
    assert_eq!(notes, ["ada: from ada", "bob: from bob"]);
    end(server);
}

/// A request that waits is copied out of the receive buffer whole: body, metadata and attachment.
#[test]
fn a_large_request_waits_whole() {
    let clerk = Clerk::default();
    let slowly = |call: &CallView<'_>| {
        let user = user_of(call.metadata().text("token").map(str::to_owned));
        async move {
            sleep(Duration::from_millis(2)).await;
            user.await
        }
    };
    let (server, to) = start(Server::builder().async_layer(move |_| slowly), &clerk);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        let options = CallOptions::new().metadata("token", b"ada").unwrap();
        let desk = desk.with(options.attachment(Bytes::from(vec![9; 5000])));
        for bytes in [0, 1, 100_000, 1_000_000] {
            let body = Bytes::from_iter((0..bytes).map(|at: usize| at.to_le_bytes()[0]));
            assert_eq!(desk.upload(body.clone()).await.unwrap(), body);
        }
    });
    end(server);
}

#[test]
fn who_is_turned_away_late_has_not_run() {
    let clerk = Clerk::default();
    let (server, to) = start(Server::builder().async_layer(|_| ask), &clerk);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        for (token, code) in
            [("nobody", StatusCode::Unauthenticated), ("late", StatusCode::PermissionDenied)]
        {
            let desk = with(&desk, token);
            let refused = desk.whoami("hello".into()).await.unwrap_err();
            assert!(matches!(refused, CallError::Refused(_)), "{refused}");
            assert_eq!((refused.code(), refused.may_have_run()), (code, false));
            let refused = desk.list(1).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.code(), code);
            let items = Streaming::from_stream(futures_lite::stream::iter([Ok(1)]));
            assert_eq!(desk.sum(items).await.unwrap_err().code(), code);
            desk.note("lost".into()).await.unwrap();
        }
        // A further call, so that the notes were handled.
        with(&desk, "bob").whoami("hello".into()).await.unwrap();
    });
    assert_eq!(clerk.begun.load(Ordering::SeqCst), 1);
    until("dropped one-way calls are counted", || {
        count(&server, |shard| shard.one_way_dropped.value()) == 2
    });
    end(server);
}

#[test]
fn a_call_that_waits_ends_by_its_deadline_or_with_its_caller() {
    let clerk = Clerk::default();
    let (server, to) = start(Server::builder().async_layer(|_| ask), &clerk);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        let hasty = CallOptions::new().timeout(Duration::from_millis(10));
        let hasty = desk.with(hasty.metadata("token", b"stuck").unwrap());
        for _ in 0..3 {
            let late = hasty.whoami("hello".into()).await.unwrap_err();
            assert_eq!(late.code(), StatusCode::DeadlineExceeded);
        }
        let dropped = with(&desk, "stuck");
        let call = corewire::spawn(async move { dropped.whoami("hello".into()).await });
        with(&desk, "bob").whoami("hello".into()).await.unwrap();
        drop(call);
    });
    assert_eq!(clerk.begun.load(Ordering::SeqCst), 1);
    until("nothing is pending", || count(&server, |shard| shard.calls_dropped.value()) == 4);
    end(server);
}

/// The connection knows no deadline for it: the layer inside said it after the call had begun to wait.
#[test]
fn a_time_limit_inside_holds_for_a_call_that_waited() {
    let clerk = Clerk::default();
    let builder = Server::builder()
        .async_layer(|_| ask)
        .layer(|_| TimeLimit::at_most(Duration::from_millis(20)));
    let (server, to) = start(builder, &clerk);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap().without_timeout();
        for token in ["ada", "bob"] {
            let late = with(&desk, token).never().await.unwrap_err();
            assert_eq!(late.code(), StatusCode::DeadlineExceeded, "{token}: {late}");
            assert!(late.may_have_run());
        }
    });
    assert_eq!(clerk.begun.load(Ordering::SeqCst), 2);
    end(server);
}

/// Tells what it was handed.
#[corewire::service]
pub trait Marked {
    /// Whether there is a `Vetted`, and whether there is a `()`.
    async fn seen(&self, context: &Context) -> Result<(bool, bool), Status>;
}

/// A value without a size.
struct Vetted;

impl Marked for Vetted {
    async fn seen(&self, context: &Context) -> Result<(bool, bool), Status> {
        Ok((context.extension::<Self>().is_some(), context.extension::<()>().is_some()))
    }
}

/// A value without a size is one all the same; `()` is none.
#[test]
fn a_marker_is_handed_on() {
    let vet = |call: &CallView<'_>| {
        let slowly = call.metadata().text("slowly").is_some();
        async move {
            if slowly {
                sleep(Duration::from_millis(1)).await;
            }
            Ok(Vetted)
        }
    };
    let nothing = |_: &CallView<'_>| async { Ok(()) };
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .async_layer(move |_| vet)
        .async_layer(move |_| nothing)
        .service(|_| MarkedServer::new(Vetted))
        .start()
        .unwrap();
    let to = address(&server);
    client(move || async move {
        let marked = MarkedClient::connect(to).await.unwrap();
        assert_eq!(marked.seen().await, Ok((true, false)));
        let slowly = marked.with(CallOptions::new().metadata("slowly", b"").unwrap());
        assert_eq!(slowly.seen().await, Ok((true, false)));
    });
    end(server);
}

/// Layers stand in one order, whether they wait or not; one may stand around a single service.
#[test]
fn layers_that_wait_stand_in_order_with_others() {
    let (clerk, seen) = (Clerk::default(), Arc::new(Mutex::new(Vec::new())));
    let (outer, served) = (Arc::clone(&seen), clerk.clone());
    let builder = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .layer(move |_| {
            let seen = Arc::clone(&outer);
            CallTimer::new(move |timed| seen.lock().unwrap().push(timed.code))
        })
        .service(move |_| DeskServer::new(served.clone()).async_layer(ask));
    let server = builder.start().unwrap();
    let to = address(&server);
    client(move || async move {
        let desk = DeskClient::connect(to).await.unwrap();
        with(&desk, "bob").whoami("hello".into()).await.unwrap();
        with(&desk, "late").whoami("hello".into()).await.unwrap_err();
        with(&desk, "ada").whoami("hello".into()).await.unwrap();
    });
    let codes = [StatusCode::Ok, StatusCode::PermissionDenied, StatusCode::Ok].map(Some);
    assert_eq!(*seen.lock().unwrap(), codes);
    end(server);
}
