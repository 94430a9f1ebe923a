#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn memory(bytes: usize, calls: usize) -> MemoryAccount {
    let budgets = Budgets { shard_bytes_max: bytes, shard_calls_max: calls, ..Budgets::default() };
    MemoryAccount::new(&budgets, Totals::default())
}

fn own(bytes: usize) -> Own {
    Own { bytes, ..Own::default() }
}

#[test]
fn all_who_wait_try_again_when_anything_was_given_back_since_one_of_them_tried() {
    let mut memory = memory(160, 100);
    let [first, second] = [1, 2].map(|index| Token::connection(index, 1));
    (0..4).for_each(|_| memory.begin_call(25));
    assert!(!memory.has_room(own(0), 50));
    memory.wait(first);
    assert_eq!(memory.take_waiting(), None, "nothing was given back");
    memory.end_call(25);
    // What is too little for the second may be enough for the first.
    assert!(!memory.has_room(own(0), 70) && memory.has_room(own(0), 50));
    memory.wait(second);
    assert_eq!(memory.take_waiting(), Some(vec![first, second]));
    memory.wait(second);
    assert_eq!(memory.take_waiting(), None, "it found nothing and nothing has changed");
}

/// A connection's share depends on what it holds itself, not on the total alone.
#[test]
fn who_gave_something_back_tries_again_though_another_took_as_much() {
    let mut memory = memory(800, 100);
    let account = StreamAccount::of_server(memory.totals().clone());
    let other = StreamAccount::of_server(memory.totals().clone());
    let token = Token::connection(1, 1);
    let mut held = vec![account.hold_incoming(300), account.hold_incoming(100)];
    assert!(memory.is_over_share(own(account.bytes())));
    memory.wait(token);
    let _taken = other.hold_incoming(300);
    drop(held.remove(0));
    assert_eq!(memory.bytes(), 400);
    assert!(!memory.is_over_share(own(account.bytes())));
    assert_eq!(memory.take_waiting(), Some(vec![token]));
}

#[test]
fn bytes_of_streams_count_until_they_are_dropped() {
    let memory = memory(800, 100);
    let account = StreamAccount::of_server(memory.totals().clone());
    let held = [account.hold_incoming(300), account.hold_incoming(100)];
    assert!(memory.is_tight() && account.is_over_share());
    assert_eq!((memory.bytes(), account.bytes()), (400, 400));
    drop(held);
    assert_eq!((memory.bytes(), account.bytes(), account.released()), (0, 0, 400));
    assert!(!account.is_over_share());
    let clients = StreamAccount::of_clients(memory.totals().clone());
    let _held = clients.hold_incoming(900);
    assert!(!clients.is_over_share(), "what clients hold is counted and not bounded here");
    assert!(account.is_over_share(), "a server's streams have no room then");
}

/// A handler that takes a message only when it may send one would otherwise keep everything that came for ever.
#[test]
fn a_message_at_a_time_is_written_beside_what_came_while_memory_is_not_short() {
    let memory = memory(800, 100);
    let account = StreamAccount::of_server(memory.totals().clone());
    let _came = account.hold_incoming(400);
    assert!(account.is_over_share() && !account.is_writer_over_share());
    let sent = account.hold_outgoing(10);
    assert!(account.is_writer_over_share(), "one of them waits to be sent");
    drop(sent);
    assert!(!account.is_writer_over_share());
    let other = StreamAccount::of_server(memory.totals().clone());
    let _held = other.hold_incoming(201);
    assert!(memory.is_short() && account.is_writer_over_share());
}

/// Connections that take whatever they get leave room for one more, however many they are.
#[test]
fn a_share_shrinks_as_the_shard_fills_and_leaves_room_for_those_that_hold_little() {
    const MAX: usize = 256 << 20;
    for greedy in [1, 16, 40, 400] {
        let memory = memory(MAX, 65_536);
        let mut all = vec![0; greedy];
        for _ in 0..200 {
            for bytes in &mut all {
                for _ in 0..64 {
                    if memory.is_tight() && memory.is_over_share(own(*bytes)) {
                        break;
                    }
                    memory.change(0, 16 << 10);
                    *bytes += 16 << 10;
                }
            }
        }
        let held = memory.bytes();
        assert!(held <= MAX, "{greedy} of them hold {held}");
        assert!(held >= MAX / 8 * 7 / 2, "{greedy} of them hold {held} only");
        let (most, least) = (all.iter().max().unwrap(), all.iter().min().unwrap());
        if greedy <= 40 {
            assert!(most - least <= 8 << 20, "{greedy}: between {least} and {most}");
        }
        let free = memory.shares().0;
        assert!(free >= if greedy <= 40 { 256 << 10 } else { 1 }, "{greedy} leave {free}");
        assert!(!memory.is_over_share(own(0)), "who holds nothing has room beside {greedy}");
    }
}

#[test]
fn calls_are_shared_out_as_bytes_are() {
    let memory = memory(usize::MAX / 2, 65_536);
    let mut all = [0; 16];
    for calls in &mut all {
        while *calls < 4096
            && !(memory.is_tight() && memory.is_over_share(Own { calls: *calls, ..Own::default() }))
        {
            memory.begin_call(0);
            *calls += 1;
        }
    }
    let few = Own { calls: 60, ..Own::default() };
    assert!(!memory.is_over_share(few), "{all:?} leave nothing for one with few calls");
}

#[test]
fn an_address_that_holds_most_gets_little_more() {
    let memory = memory(256 << 20, 65_536);
    memory.change(0, 200 << 20);
    assert!(memory.is_crowded(200 << 20) && !memory.is_crowded(50 << 20));
    let crowded = Own { bytes: 2 << 20, crowded: true, ..Own::default() };
    assert!(memory.is_over_share(crowded), "its connections have no more than a little");
    assert!(!memory.is_over_share(Own { crowded: false, ..crowded }));
    assert!(!memory.is_over_share(Own { bytes: 1000, ..crowded }), "but a little they have");
}
