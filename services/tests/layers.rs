//! Layers around services and clients: what they turn away, what they measure, what they give back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::layer::{
    Authorize, CallTime, CallTimer, ConcurrencyLimit, LayeredChannel, Log, TimeLimit,
};
use corewire::{
    CallError, CallOptions, Channel, ChannelConfig, NotSent, Placement, Running, Server,
    ServerBuilder, Service, Status, StatusCode, spawn,
};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::{address, client, end, until};

fn builder() -> ServerBuilder {
    Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(1))
}

fn start(builder: ServerBuilder, habits: &Habits) -> (Running, SocketAddr) {
    let habits = habits.clone();
    let server =
        builder.service(move |_| SubjectServer::new(Target::new(habits.clone()))).start().unwrap();
    let to = address(&server);
    (server, to)
}

/// Notes what a [`CallTimer`] layer tells.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<CallTime>>>);

impl Notes {
    fn layer(&self) -> CallTimer<impl Fn(&CallTime) + Send + Sync + 'static + use<>> {
        let notes = self.clone();
        CallTimer::new(move |timed: &CallTime| notes.0.lock().unwrap().push(*timed))
    }

    fn take(&self) -> Vec<(&'static str, Option<StatusCode>)> {
        let taken = std::mem::take(&mut *self.0.lock().unwrap());
        taken.iter().map(|timed| (timed.method.method, timed.code)).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[test]
fn who_does_not_say_the_word_is_turned_away() {
    let habits = Habits::default();
    let check = |call: &corewire::layer::CallView<'_>| {
        assert!(call.is_incoming() && call.peer().is_some());
        match (call.method().method, call.metadata().text("token")) {
            ("echo", _) | (_, Some("secret")) => Ok(()),
            (_, Some(_)) => Err(Status::permission_denied("not you")),
            (_, None) => Err(Status::unauthenticated("say who you are")),
        }
    };
    let (server, to) = start(builder().layer(move |_| Authorize::new(check)), &habits);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let with = |token: &[u8]| client.with(CallOptions::new().metadata("token", token).unwrap());
        let refused = client.add(1, 2).await.unwrap_err();
        assert!(!refused.may_have_run(), "{refused}");
        assert_eq!(refused.code(), StatusCode::Unauthenticated);
        assert_eq!(
            with(b"guess").add(1, 2).await.unwrap_err().code(),
            StatusCode::PermissionDenied
        );
        assert_eq!(with(b"secret").add(1, 2).await, Ok(3));
        assert_eq!(client.echo("for all".into()).await.unwrap(), "for all");
    });
    end(server);
}

/// However a call ends, its permit comes back: by a reply, a panic at once or later, a cancel, a
/// deadline, a lost connection.
#[test]
fn a_permit_comes_back_however_its_call_ends() {
    let habits = Habits::default();
    let limit = ConcurrencyLimit::new(2);
    let shared = limit.clone();
    let (server, to) = start(builder().layer(move |_| (Log::new(), shared.clone())), &habits);
    let watched = limit.clone();
    let (gate, dropped) = (habits.clone(), habits.clone());
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.add(1, 2).await, Ok(3));
            for how in 0..3 {
                let _ = client.panic(how).await;
            }
            let hasty = client.with(CallOptions::new().timeout(Duration::from_millis(1)));
            assert_eq!(hasty.never().await.unwrap_err().code(), StatusCode::DeadlineExceeded);
        }
        let mut running = Vec::new();
        for number in 0..2 {
            let client = client.clone();
            running.push(spawn(async move { client.gate(number).await }));
        }
        while gate.at_gate() < 2 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(watched.running(), 2);
        let shed = client.add(1, 2).await.unwrap_err();
        let CallError::Refused(status) = &shed else { panic!("{shed}") };
        assert_eq!(status.code(), StatusCode::ResourceExhausted);
        assert_eq!(status.retry_after(), Some(Duration::from_millis(50)));
        gate.open();
        for (number, call) in running.into_iter().enumerate() {
            assert_eq!(call.await.unwrap() as usize, number);
        }
        // Cancelled ones give theirs back, too, and those of a connection that goes.
        let cancelled = spawn({
            let client = client.clone();
            async move { client.never().await }
        });
        let before = dropped.begun();
        while dropped.begun() == before {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        drop(cancelled);
        let lost = SubjectClient::connect(to).await.unwrap();
        let _ = lost.with(CallOptions::new().timeout(Duration::from_millis(1))).never().await;
    });
    until("all permits are back", || limit.running() == 0);
    end(server);
}

#[test]
fn the_last_permits_are_kept_for_urgent_calls() {
    let habits = Habits::default();
    let layer = |_| ConcurrencyLimit::new(2).reserve(1).retry_after(Duration::from_secs(3));
    let (server, to) = start(builder().layer(layer), &habits);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let waiting = spawn({
            let client = client.clone();
            async move { client.gate(1).await }
        });
        while habits.at_gate() < 1 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        let CallError::Refused(shed) = client.add(1, 2).await.unwrap_err() else { panic!() };
        assert_eq!(shed.retry_after(), Some(Duration::from_secs(3)));
        let urgent = client.with(CallOptions::new().priority(4));
        assert_eq!(urgent.add(1, 2).await, Ok(3));
        habits.open();
        waiting.await.unwrap();
    });
    end(server);
}

#[test]
fn every_call_is_timed_and_the_caller_told() {
    let (habits, notes, inner) = (Habits::default(), Notes::default(), Notes::default());
    let (outer, within) = (notes.clone(), inner.clone());
    let server = builder()
        .layer(move |_| outer.layer())
        .service(move |_| SubjectServer::new(Target::new(habits.clone())).layer(within.layer()))
        .start()
        .unwrap();
    let to = address(&server);
    let ours = Notes::default();
    let (seen, server_notes) = (ours.clone(), notes.clone());
    client(move || async move {
        let channel = Channel::connect(to).await.unwrap();
        let client = SubjectClient::new(LayeredChannel::new(channel, seen.layer()));
        let reply = client.add(1, 2).with_response().await.unwrap();
        assert_eq!(reply.value, 3);
        assert!(reply.handler_time().is_some(), "also of a handler that was ready at once");
        let slow = client.after(5).with_response().await.unwrap();
        assert!(slow.handler_time().unwrap() >= Duration::from_millis(5));
        assert_eq!(client.fail(5).await.unwrap_err().code(), StatusCode::NotFound);
        let hasty = client.with(CallOptions::new().timeout(Duration::from_millis(1)));
        assert!(hasty.never().await.is_err());
        drop(spawn(async move { client.never().await }));
        until("the server knows, too", || server_notes.len() >= 4);
    });
    let expected = [
        ("add", Some(StatusCode::Ok)),
        ("after", Some(StatusCode::Ok)),
        ("fail", Some(StatusCode::NotFound)),
    ];
    let told = ours.take();
    assert_eq!(told[..3], expected);
    assert_eq!(told[3], ("never", Some(StatusCode::DeadlineExceeded)));
    for notes in [notes, inner] {
        until("the dropped handler was told of", || notes.len() >= 4);
        let told = notes.take();
        assert_eq!(told[..3], expected);
        assert_eq!(told[3], ("never", None), "it was dropped before it had a code");
    }
    end(server);
}

#[test]
fn a_server_bounds_the_time_of_callers_that_have_all_of_it() {
    let habits = Habits::default();
    let layer = |_| TimeLimit::at_most(Duration::from_millis(50));
    let (server, to) = start(builder().layer(layer), &habits);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        let patient = client.with(CallOptions::new().timeout(Duration::from_secs(3600)));
        let (_, _, left, ..) = patient.who().await.unwrap();
        assert!((1..=50_000).contains(&left), "{left}");
        let over = patient.never().await.unwrap_err();
        assert_eq!(over.code(), StatusCode::DeadlineExceeded);
        assert!(matches!(over, CallError::Status(_)), "the server said so: {over:?}");
    });
    until("the handler is dropped", || habits.ended() == 1);
    end(server);
}

#[test]
fn a_default_time_is_for_those_who_state_none() {
    let habits = Habits::default();
    let layer = |_| TimeLimit::by_default(Duration::from_secs(60));
    let (server, to) = start(builder().layer(layer), &habits);
    client(move || async move {
        let channel = Channel::connect(to).await.unwrap();
        let caller = corewire::generated::Caller::new(channel.clone()).without_timeout();
        let method = SubjectClient::DESCRIPTION.methods.iter().find(|it| it.name == "who").unwrap();
        let call = caller
            .call()
            .unary::<corewire::codec::Speedy, support::service::Who, _>(method, |_| Ok(()));
        let (_, _, left, ..) = call.await.unwrap();
        assert!((50_000_000..=60_000_000).contains(&left), "{left}");
        let client = SubjectClient::new(channel).with_timeout(Duration::from_secs(3600));
        assert!(client.who().await.unwrap().2 > 3_000_000_000);
    });
    end(server);
}

#[test]
fn a_client_turns_its_own_calls_away() {
    let habits = Habits::default();
    let (server, to) = start(builder(), &habits);
    client(move || async move {
        let channel = Channel::connect(to).await.unwrap();
        let limit = ConcurrencyLimit::new(1);
        let time = TimeLimit::at_most(Duration::from_millis(30));
        let layered = LayeredChannel::new(channel, (limit.clone(), time));
        let client = SubjectClient::new(layered);
        // A call that is prepared takes no permit before it begins.
        let (first, second) = (client.add(1, 2), client.add(3, 4));
        assert_eq!((second.await, first.await), (Ok(7), Ok(3)));
        let waits = spawn({
            let client = client.clone();
            async move { client.never().await }
        });
        while limit.running() == 0 {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        let shed = client.add(1, 2).await.unwrap_err();
        assert!(matches!(shed, CallError::NotSent(NotSent::TurnedAway(_))), "{shed:?}");
        assert!(!shed.may_have_run() && shed.code() == StatusCode::ResourceExhausted);
        let over = waits.await.unwrap_err();
        assert_eq!(over.code(), StatusCode::DeadlineExceeded);
        assert_eq!(limit.running(), 0);
        drop(spawn(async move { client.never().await }));
        assert_eq!(limit.running(), 0, "a dropped call has no permit");
    });
    // The same around a channel of another kind.
    let channel = corewire::blocking::Channel::new(to, ChannelConfig::default()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let timing = CallTimer::new(move |timed: &CallTime| tell.lock().unwrap().push(timed.code));
    let client = SubjectClient::new(LayeredChannel::new(channel, timing));
    assert_eq!(client.add(1, 2).wait(), Ok(3));
    let done = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&done);
    client.add(3, 4).then(move |outcome| *sink.lock().unwrap() = Some(outcome));
    assert_eq!(*done.lock().unwrap(), Some(Ok(7)));
    assert_eq!(*told.lock().unwrap(), [Some(StatusCode::Ok); 2]);
    end(server);
}

/// What stands outside hears what stands inside refuse.
#[test]
fn the_first_layer_is_the_outermost() {
    let (habits, notes) = (Habits::default(), Notes::default());
    let outer = notes.clone();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (one, two) = (Arc::clone(&asked), Arc::clone(&asked));
    let builder = builder()
        .layer(move |_| {
            let one = Arc::clone(&one);
            let check = move |_: &corewire::layer::CallView<'_>| {
                one.lock().unwrap().push(1);
                Ok(())
            };
            (outer.layer(), Authorize::new(check))
        })
        .layer(move |_| {
            let (two, calls) = (Arc::clone(&two), Cell::new(0));
            Authorize::new(move |_: &corewire::layer::CallView<'_>| {
                two.lock().unwrap().push(2);
                match calls.replace(calls.get() + 1) {
                    0 => Ok(()),
                    _ => Err(Status::aborted("once is enough")),
                }
            })
        });
    let (server, to) = start(builder, &habits);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(1, 2).await, Ok(3));
        assert_eq!(client.add(1, 2).await.unwrap_err().code(), StatusCode::Aborted);
    });
    assert_eq!(*asked.lock().unwrap(), [1, 2, 1, 2]);
    let codes = [("add", Some(StatusCode::Ok)), ("add", Some(StatusCode::Aborted))];
    assert_eq!(notes.take(), codes);
    end(server);
}
