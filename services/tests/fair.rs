//! Small calls beside calls of 1 to 16 MiB, over real sockets: on the same connection, and on one of
//! their own on the same shard. What a turn may do is counted in the engine's own tests; here all
//! of it has to work together, and nobody may be left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Budgets, Bytes, spawn};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use support::service::SubjectClient;
use support::{address, builder, client, count, end};

/// The default limit on frames is 16 MiB of payload; a call with a deadline has 8 bytes before it.
const LARGE: [usize; 5] = [1 << 20, (1 << 20) - 24, 3_333_333, 8 << 20, (16 << 20) - 8];

/// Calls of all large sizes, one after the other, each with a body of its own.
async fn call_large(client: SubjectClient, rounds: usize, pattern: Bytes, large: Rc<Cell<u32>>) {
    for round in 0..rounds {
        for size in LARGE {
            let from = (round * 7 + size) % 1000;
            let body = pattern.slice(from..from + size);
            let reply = client.echo(body.clone()).await.unwrap();
            assert!(reply == body, "{size} bytes came back as others");
            large.set(large.get() + 1);
        }
    }
}

/// Small calls until the large ones are over; returns how many.
async fn call_small(client: SubjectClient, over: Rc<Cell<bool>>) -> u32 {
    let mut calls = 0;
    while !over.get() {
        assert_eq!(client.add(calls, 1).await.unwrap(), calls + 1);
        let body = Bytes::from(vec![7; 100]);
        assert_eq!(client.echo(body.clone()).await.unwrap(), body);
        calls += 2;
    }
    calls
}

async fn mix(to: SocketAddr) -> (u32, Vec<u32>) {
    let pattern: Bytes = (0..(16 << 20) + 1000u32).map(|n| (n % 251) as u8).collect();
    let (over, large) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let (mut callers, mut small) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let client = SubjectClient::connect(to).await.unwrap();
        for _ in 0..2 {
            let (pattern, large) = (pattern.clone(), Rc::clone(&large));
            callers.push(spawn(call_large(client.clone(), 2, pattern, large)));
        }
        small.push(spawn(call_small(client, Rc::clone(&over))));
    }
    let alone = SubjectClient::connect(to).await.unwrap();
    small.push(spawn(call_small(alone, Rc::clone(&over))));
    for caller in callers {
        caller.await;
    }
    over.set(true);
    let mut calls = Vec::new();
    for small in small {
        calls.push(small.await);
    }
    (large.get(), calls)
}

#[test]
fn small_calls_beside_large_ones() {
    let server = builder(1).start().unwrap();
    let to = address(&server);
    let (large, small) = client(move || mix(to));
    assert_eq!(large, 2 * 2 * 2 * 5);
    // On a connection of its own, a small call waits for turns and not for calls. On a shared one, it
    // waits for the replies before its own.
    let [same, other, alone] = small[..] else { panic!("{small:?}") };
    assert!(same >= 2 && other >= 2, "{small:?} small calls beside {large} large ones");
    assert!(alone > large, "{small:?} small calls beside {large} large ones");
    // Neither a receive nor a send is larger than a turn allows.
    let budgets = Budgets::default();
    let (received, receives) =
        (count(&server, |c| c.bytes_received.value()), count(&server, |c| c.receives.value()));
    assert!(received <= receives * budgets.receive_bytes as u64, "{received} in {receives}");
    let (sent, sends) =
        (count(&server, |c| c.bytes_sent.value()), count(&server, |c| c.sends.value()));
    assert!(sent <= sends * budgets.send_bytes_per_turn as u64, "{sent} in {sends}");
    end(server);
}
