//! A panic in a handler costs that call alone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, CallError, Channel, ChannelConfig, StatusCode, spawn};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;
use support::service::{Habits, SubjectClient};
use support::{address, builder, client, count, end, server_with, until};

/// Panics that the tests want are not worth a line each; all others are shown.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.ends_with("as the test wants")) {
                usual(info);
            }
        }));
    });
}

#[track_caller]
fn assert_internal<T: std::fmt::Debug>(outcome: Result<T, CallError>) {
    match outcome {
        Err(CallError::Status(status)) => {
            assert_eq!(status.code(), StatusCode::Internal);
            assert_eq!(status.message(), "the handler panicked");
        }
        other => panic!("Internal was to come, not {other:?}"),
    }
}

/// 1,000 panics among 100,000 good calls on the same eight connections to two shards.
#[test]
fn a_thousand_panics_among_a_hundred_thousand_calls() {
    const CONNECTIONS: usize = 8;
    const CALLERS: usize = 16;
    const EACH: usize = 101_000;
    quiet();
    let server = builder(2).start().unwrap();
    let to = address(&server);
    let (good, internal) = client(move || async move {
        let next = Rc::new(Cell::new(0));
        let mut callers = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = SubjectClient::connect(to).await.unwrap();
            for _ in 0..CALLERS {
                let (client, next) = (client.clone(), Rc::clone(&next));
                callers.push(spawn(async move {
                    let (mut good, mut internal) = (0u32, 0u32);
                    loop {
                        let call = next.replace(next.get() + 1);
                        if call >= EACH {
                            return (good, internal);
                        }
                        if call % 101 == 50 {
                            // Half of them at once, half after they pended.
                            assert_internal(client.panic(u8::from(call % 2 == 0)).await);
                            internal += 1;
                        } else if call % 2 == 0 {
                            let body = Bytes::copy_from_slice(&call.to_le_bytes());
                            assert_eq!(client.echo(body.clone()).await.unwrap(), body);
                            good += 1;
                        } else {
                            let number = u32::try_from(call).unwrap();
                            assert_eq!(client.later(number).await.unwrap(), number);
                            good += 1;
                        }
                    }
                }));
            }
        }
        let (mut good, mut internal) = (0, 0);
        for caller in callers {
            let (more_good, more_internal) = caller.await;
            good += more_good;
            internal += more_internal;
        }
        (good, internal)
    });
    assert_eq!((good, internal), (100_000, 1_000));
    assert_eq!(count(&server, |it| it.panics.value()), 1_000);
    // Every shard is alive: each answers, and each ends well.
    for shard in [0, 1] {
        client(move || async move {
            loop {
                let client = SubjectClient::connect(to).await.unwrap();
                if client.who().await.unwrap().1 == shard {
                    return;
                }
            }
        });
    }
    end(server);
}

#[test]
fn a_panic_in_a_drop_of_a_handler_that_answered_is_internal() {
    quiet();
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        for _ in 0..100 {
            assert_internal(client.panic(2).await);
            assert_eq!(client.add(2, 3).await.unwrap(), 5);
        }
    });
    assert_eq!(count(&server, |it| it.panics.value()), 100);
    end(server);
}

/// The handler is dropped because its caller left, and its drop panics: nobody else notices.
#[test]
fn a_panic_in_the_drop_of_a_cancelled_handler_harms_nobody() {
    quiet();
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    client(move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        for round in 1..=50 {
            let hasty = client.clone().with_timeout(Duration::from_millis(5));
            let outcome = hasty.panic(3).await;
            // Both sides watch the deadline; whichever is first says so.
            assert_eq!(outcome.unwrap_err().code(), StatusCode::DeadlineExceeded);
            assert_eq!(client.add(round, 3).await.unwrap(), round + 3);
        }
        // Closing a connection drops its handlers, which panic one after the other.
        let config = ChannelConfig::default();
        let channel = Channel::connect_with(to, config).await.unwrap();
        let leaver = SubjectClient::new(channel);
        let calls: Vec<_> = (0..50)
            .map(|_| {
                spawn({
                    let leaver = leaver.clone();
                    async move { leaver.panic(3).await }
                })
            })
            .collect();
        assert_eq!(client.add(1, 1).await.unwrap(), 2);
        drop((leaver, calls));
        assert_eq!(client.add(1, 1).await.unwrap(), 2);
    });
    until("all drops panicked", || {
        habits.begun() == habits.ended() && count(&server, |it| it.panics.value()) == habits.begun()
    });
    assert!(habits.begun() >= 50);
    end(server);
}
