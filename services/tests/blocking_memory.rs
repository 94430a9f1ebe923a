//! What a blocking channel holds while nobody calls, counted by the test's own allocator.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Bytes, ChannelConfig, blocking};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::service::SubjectClient;
use support::{address, end, server};

/// Counts the bytes that each thread has asked for and not given back.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn note(bytes: usize, sign: i64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let _ = LIVE.try_with(|live| live.set(live.get().wrapping_add(sign.wrapping_mul(bytes))));
}

// SAFETY: every method hands its arguments to the system's allocator unchanged, which keeps the
// contract of the trait.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(layout.size(), -1);
        // SAFETY: `memory` came from `System` with this layout, as `alloc` shows.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(layout.size(), -1);
        note(size, 1);
        // SAFETY: `memory` came from `System` with this layout, and the caller answers for `size`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What an idle channel may hold.
const IDLE_BYTES_MAX: i64 = 12 * 1024;

#[test]
fn an_idle_channel_holds_little() {
    let server = server();
    let to = address(&server);
    // What this thread makes once is not counted.
    let connect = || blocking::Channel::new(to, ChannelConfig::default()).unwrap();
    let warm = SubjectClient::new(connect());
    assert_eq!(warm.add(1, 2).wait(), Ok(3));
    let body = Bytes::from(vec![7; 4 << 20]);
    let before = LIVE.get();
    let client = SubjectClient::new(connect());
    let held = || LIVE.get() - before;
    for round in 0..3 {
        assert_eq!(client.add(1, 2).wait(), Ok(3));
        assert!(held() <= IDLE_BYTES_MAX, "{} bytes after a small call", held());
        assert!(client.echo(body.clone()).wait().unwrap() == body);
        assert!(held() <= IDLE_BYTES_MAX, "{} bytes after a large call, {round}", held());
        client.touch_all(body.slice(..100_000)).wait().unwrap();
        assert!(held() <= IDLE_BYTES_MAX, "{} bytes after a one-way call", held());
    }
    drop(client);
    assert!(held() <= 1024, "{} bytes are left", held());
    end(server);
}
