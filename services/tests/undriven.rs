//! Channels that nobody drives any more, or for a while: calls over them end all the same, by their deadline or
//! at once, and say why.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{CallError, Channel, ChannelConfig, NotSent, SharedChannel};
use futures_lite::future::{block_on, poll_once};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::service::{Habits, SubjectClient};
use support::shells::eventually;
use support::{PATIENCE, address, client, end, server_with};

const TIMEOUT: Duration = Duration::from_millis(200);

/// Runs what may never end on a thread of its own.
fn in_time<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(main()));
    outcome.recv_timeout(PATIENCE).expect("the await ends")
}

/// A call in flight, one that is made later, and one over a channel that was never connected.
#[test]
fn a_channel_that_outlives_its_shard() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    in_time(move || {
        let (subject, idle, flying) = client(move || async move {
            let channel = || Channel::new(to, ChannelConfig::default()).unwrap();
            let subject = SubjectClient::new(channel()).with_timeout(TIMEOUT);
            assert_eq!(subject.add(1, 2).await, Ok(3));
            let mut flying = Box::pin(subject.never());
            assert!(poll_once(&mut flying).await.is_none());
            eventually("it runs", || habits.begun() == 1).await;
            (subject.clone(), SubjectClient::new(channel()).with_timeout(TIMEOUT), flying)
        });
        let outcome = block_on(flying);
        assert!(matches!(outcome, Err(CallError::Unknown(_))), "{outcome:?}");
        for subject in [subject, idle] {
            let outcome = block_on(subject.add(1, 2));
            assert_eq!(outcome, Err(CallError::NotSent(NotSent::NotOnShard)));
            block_on(subject.touch(1)).unwrap_err();
        }
    });
    end(server);
}

#[test]
fn a_tokio_channel_whose_runtime_stands_still() {
    let habits = Habits::default();
    let server = server_with(&habits);
    let to = address(&server);
    in_time(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let channel = {
            let _inside = runtime.enter();
            SharedChannel::on_tokio(to, ChannelConfig::default()).unwrap()
        };
        let subject = SubjectClient::new(channel).with_timeout(TIMEOUT);
        // The runtime was never driven.
        let outcome = block_on(subject.add(1, 2));
        assert_eq!(outcome, Err(CallError::DeadlineExceeded { sent: false }));
        let mut flying = Box::pin(subject.never());
        runtime.block_on(async {
            assert_eq!(subject.clone().with_timeout(PATIENCE).add(1, 2).await, Ok(3));
            assert!(poll_once(&mut flying).await.is_none());
            eventually("it runs", || habits.begun() == 1).await;
        });
        // It was driven, and is not any more.
        let outcome = block_on(flying);
        assert_eq!(outcome, Err(CallError::DeadlineExceeded { sent: true }));
        assert!(block_on(subject.add(1, 2)).is_err());
        // And goes on.
        let outcome = runtime.block_on(subject.clone().with_timeout(PATIENCE).add(2, 2));
        assert_eq!(outcome, Ok(4));
    });
    end(server);
}
