//! One thread that carries the calls of several channels: none of them keeps the others waiting, and the thread ends
//! with the last call.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bytes::Bytes;
use corewire::{ChannelConfig, ClientShard, ClientThread};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::fake::{Fake, Manner};
use support::service::SubjectClient;
use support::shells::Family;
use support::slow::{Pace, Slow};
use support::{PATIENCE, address, end, server};

fn client_thread() -> ClientThread {
    ClientThread::start(ClientShard::default()).unwrap()
}

/// One server never replies, so calls wait for a slot. Another takes nothing, so calls wait for the socket. The third
/// one's calls were made behind all of those.
#[test]
fn a_channel_that_stands_still_keeps_no_other_one_waiting() {
    const CALLS: usize = 1_000;
    let (hanging, slow, server) =
        (Fake::start(Manner::Hang), Slow::start(Family::Unix, Pace::Never), server());
    let thread = client_thread();
    let ended = Arc::new(AtomicUsize::new(0));
    let channel = |to: corewire::Address| {
        let config = ChannelConfig { waiting_max: CALLS, ..ChannelConfig::default() };
        SubjectClient::new(thread.channel(to, config).unwrap()).with_timeout(2 * PATIENCE)
    };
    let (hangs, stalls) = (channel(hanging.address.into()), channel(slow.address.clone()));
    let works = channel(address(&server).into()).with_timeout(PATIENCE);
    let body = Bytes::from(vec![7; 16 * 1024]);
    for _ in 0..CALLS {
        let (hung, stalled) = (Arc::clone(&ended), Arc::clone(&ended));
        hangs.add(1, 2).then(move |_| {
            hung.fetch_add(1, Ordering::SeqCst);
        });
        stalls.echo(body.clone()).then(move |_| {
            stalled.fetch_add(1, Ordering::SeqCst);
        });
    }
    for number in 0..100 {
        assert_eq!(works.add(number, 1).wait(), Ok(number + 1));
    }
    assert_eq!(ended.load(Ordering::SeqCst), 0, "the others go on waiting");
    end(server);
}

/// Four callers keep one channel's connection full of large bodies, both ways.
#[test]
fn small_calls_pass_another_channels_large_ones() {
    let (large, small) = (server(), server());
    let thread = client_thread();
    let channel = |server| {
        let channel = thread.channel(address(server), ChannelConfig::default()).unwrap();
        SubjectClient::new(channel).with_timeout(PATIENCE)
    };
    let (loads, client) = (channel(&large), channel(&small));
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (loads, over) = (loads.clone(), Arc::clone(&over));
            thread::spawn(move || {
                let body = Bytes::from(vec![7; 1 << 20]);
                let mut calls = 0;
                while !over.load(Ordering::SeqCst) {
                    assert!(loads.echo(body.clone()).wait().unwrap() == body);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for number in 0..200 {
        assert_eq!(client.add(number, 1).wait(), Ok(number + 1));
    }
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        assert!(caller.join().unwrap() > 0);
    }
    drop((loads, client));
    end(large);
    end(small);
}

/// A callback waits for its call, though nobody has a handle on the thread or the channel any more.
#[test]
fn the_last_call_outlives_all_handles() {
    let server = server();
    let (tell, outcome) = std::sync::mpsc::channel();
    let channel = client_thread().channel(address(&server), ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    client.after(100).then(move |outcome| tell.send(outcome).unwrap());
    drop(client);
    assert_eq!(outcome.recv_timeout(PATIENCE).unwrap(), Ok(100));
    // The thread ends, and with it the connection.
    let counters = server.shards()[0].counters.clone();
    support::until("the client leaves", || counters.connections_open.value() == 0);
    end(server);
}

/// The calls of one caller reach the server in their order, whatever number of them the thread takes at once.
#[test]
fn calls_of_one_caller_keep_their_order() {
    let server = server();
    let channel = client_thread().channel(address(&server), ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel).with_timeout(PATIENCE);
    let (tell, outcomes) = std::sync::mpsc::channel();
    for number in 0..2_000_u32 {
        let tell = tell.clone();
        client.add(number, 0).then(move |outcome| drop(tell.send(outcome)));
    }
    for number in 0..2_000 {
        assert_eq!(outcomes.recv_timeout(PATIENCE).unwrap(), Ok(number));
    }
    drop(client);
    end(server);
}

/// More callers than the thread takes calls at once, each of which gives up its call.
#[test]
fn calls_that_are_given_up_leave_room_for_others() {
    let fake = Fake::start(Manner::Hang);
    let thread = client_thread();
    let channel = thread.channel(fake.address, ChannelConfig::default()).unwrap();
    let hasty = SubjectClient::new(channel).with_timeout(Duration::from_millis(50));
    for _ in 0..3 {
        let callers: Vec<_> = (0..32)
            .map(|_| {
                let hasty = hasty.clone();
                thread::spawn(move || hasty.add(1, 2).wait().unwrap_err())
            })
            .collect();
        for caller in callers {
            let error = caller.join().unwrap();
            assert_eq!(error.code(), corewire::StatusCode::DeadlineExceeded, "{error}");
        }
    }
}
