//! What the pool promises, without sockets.

use super::*;
use bytes::Bytes;
use corewire_codec::{MethodId, RequestHead, SendBuffer};

const USUAL: usize = 64 * 1024;
const FRAME_MAX: u32 = 64 << 20;

/// A request with a body of this many bytes.
fn frame(body: usize) -> Vec<u8> {
    let mut out = SendBuffer::new();
    let mut frame = out.request(&RequestHead::new(0, MethodId(1)), None);
    frame.put_slice(&vec![7; body]);
    frame.finish(FRAME_MAX).expect("it is small enough");
    out.first_chunk().to_vec()
}

/// Feeds `bytes` as a connection would receive them, one receive of at most `each` bytes a turn;
/// returns the bodies, how many bytes were received at once at most, and the most that was held.
fn receive(pool: &mut RecvPool, mut bytes: &[u8], each: usize) -> (Vec<Bytes>, usize, usize) {
    let (mut own, mut bodies) = (RecvBuffer::new(), Vec::new());
    let (mut most, mut held) = (0, 0);
    while !bytes.is_empty() {
        let mut buffer = pool.begin(&mut own);
        let max = pool.make_room(&mut buffer);
        assert!((1..=buffer.room()).contains(&max));
        let count = max.min(each).min(bytes.len());
        let (now, later) = bytes.split_at(count);
        buffer.extend_from_slice(now);
        bytes = later;
        most = most.max(count);
        while let Some(frame) = buffer.next_frame(FRAME_MAX).expect("well formed") {
            bodies.push(frame.payload.into_body());
        }
        held = held.max(if buffer.is_empty() { 0 } else { buffer.made_with() });
        pool.settle(&mut own, buffer);
    }
    assert!(own.is_empty());
    (bodies, most, held)
}

/// Receives one frame whose body has `bytes` and takes the body out; returns it and where the buffer's
/// free room began before and begins now.
fn take_body(pool: &mut RecvPool, bytes: usize) -> (Bytes, *const u8, *const u8) {
    let mut buffer = pool.lend();
    let first = buffer.storage(0).as_ptr();
    buffer.extend_from_slice(&frame(bytes));
    let frame = buffer.next_frame(FRAME_MAX).expect("well formed").expect("whole");
    let body = frame.payload.into_body();
    let next = buffer.storage(0).as_ptr();
    pool.give_back(buffer);
    (body, first, next)
}

#[test]
fn a_buffer_with_large_live_slices_waits() {
    let mut pool = RecvPool::new(USUAL);
    let (body, first, next) = take_body(&mut pool, USUAL * 3 / 4);
    let mut other = pool.lend();
    let elsewhere = other.storage(0).as_ptr();
    assert!(elsewhere != first && elsewhere != next, "the first buffer's slice is alive");
    pool.give_back(other);
    drop(body);
    let mut seen = [pool.lend(), pool.lend()].map(|mut buffer| buffer.storage(0).as_ptr());
    seen.sort_unstable();
    assert!(seen.contains(&first), "the first buffer is free again");
}

#[test]
fn small_bodies_of_many_turns_share_a_buffer() {
    let mut pool = RecvPool::new(USUAL);
    let (_one, _, end) = take_body(&mut pool, 4);
    let (_two, begin, _) = take_body(&mut pool, 4);
    assert_eq!(begin, end, "the second body lies behind the first, which is alive");
}

/// A buffer that is used again behind live slices may not have room for a whole frame: then the partial
/// one moves, and a receive without room, which would look like the peer's end, never happens.
#[test]
fn a_partial_frame_behind_live_slices_has_room() {
    let mut pool = RecvPool::new(USUAL);
    let mut alive = Vec::new();
    for round in 0..200 {
        let sizes = [round * 37 % 900, USUAL * (round % 9 + 1) / 9 - 16, 100, USUAL / 2];
        let bytes: Vec<u8> = sizes.iter().flat_map(|&size| frame(size)).collect();
        let (bodies, _, _) = receive(&mut pool, &bytes, 1 + round * 701 % USUAL);
        assert!(bodies.iter().map(Bytes::len).eq(sizes), "in round {round}");
        // Some are dropped at once, some stay for a while.
        alive.extend(bodies.into_iter().step_by(2));
        alive.drain(..alive.len().saturating_sub(20));
    }
}

/// Frames of every size around the thresholds arrive whole, in whatever pieces.
#[test]
fn frames_of_all_sizes_in_pieces_of_all_sizes() {
    let sizes =
        [0, 1, 100, USUAL / 8, USUAL / 2, USUAL - 16, USUAL - 15, USUAL, 3 * USUAL, 1 << 20];
    let bytes: Vec<u8> = sizes.iter().flat_map(|&size| frame(size)).collect();
    for each in [1000, USUAL / 8 - 1, USUAL / 8, USUAL - 1, USUAL, usize::MAX] {
        let mut pool = RecvPool::new(USUAL);
        for _ in 0..2 {
            let (bodies, most, _) = receive(&mut pool, &bytes, each);
            assert!(bodies.iter().map(Bytes::len).eq(sizes), "in pieces of {each}");
            assert!(bodies.iter().flatten().all(|&byte| byte == 7));
            assert!(most <= USUAL, "one receive takes no more than the usual buffer");
        }
    }
}

/// A large frame is received into the buffer that an earlier one has left, and nothing more is taken
/// from the allocator.
#[test]
fn large_buffers_are_used_again() {
    let mut pool = RecvPool::new(USUAL);
    let bytes = frame(1 << 20);
    let (first, ..) = receive(&mut pool, &bytes, usize::MAX);
    let place = first[0].as_ptr();
    drop(first);
    let kept: Vec<usize> = pool.large.iter().map(RecvBuffer::made_with).collect();
    for _ in 0..3 {
        let (again, ..) = receive(&mut pool, &bytes, usize::MAX);
        assert_eq!(again[0].as_ptr(), place);
        drop(again);
        assert!(pool.large.iter().map(RecvBuffer::made_with).eq(kept.iter().copied()));
    }
    // A body that is kept keeps at most twice its size: a smaller one goes into another buffer.
    let (smaller, ..) = receive(&mut pool, &frame(300_000), usize::MAX);
    assert_ne!(smaller[0].as_ptr(), place);
    // The next frame behind a large one begins in another buffer: nothing of it is moved.
    let two = [bytes.clone(), bytes].concat();
    let (two, ..) = receive(&mut pool, &two, usize::MAX);
    assert_eq!(two[0].as_ptr(), place);
    assert_eq!(two.len(), 2);
}

/// What is announced and does not come takes no memory; what comes takes at most twice itself.
#[test]
fn memory_follows_what_arrived() {
    let whole = frame(8 << 20);
    for arrived in [17, 1000, USUAL, 3 * USUAL, 1 << 20] {
        let mut pool = RecvPool::new(USUAL);
        let mut own = RecvBuffer::new();
        let mut rest = &whole[..arrived];
        while !rest.is_empty() {
            let mut buffer = pool.begin(&mut own);
            let count = pool.make_room(&mut buffer).min(rest.len());
            buffer.extend_from_slice(&rest[..count]);
            assert!(buffer.next_frame(FRAME_MAX).expect("well formed").is_none());
            rest = &rest[count..];
            pool.settle(&mut own, buffer);
        }
        let most = if arrived < USUAL / COPY_SHARE { arrived } else { 2 * arrived.max(USUAL) };
        assert!(own.made_with() <= most, "{} bytes for {arrived}", own.made_with());
    }
}

/// The pool is bounded, and bodies that somebody keeps do not occupy it for ever.
#[test]
fn large_buffers_that_are_kept_are_bounded() {
    let mut pool = RecvPool::new(USUAL);
    let bytes = frame(LARGE_BYTES_MAX / 4);
    let mut living = Vec::new();
    for _ in 0..6 {
        living.extend(receive(&mut pool, &bytes, usize::MAX).0);
        let kept: usize = pool.large.iter().map(RecvBuffer::made_with).sum();
        assert!(kept <= LARGE_BYTES_MAX);
    }
    let (last, ..) = receive(&mut pool, &bytes, usize::MAX);
    let place = last[0].as_ptr();
    drop(last);
    let (again, ..) = receive(&mut pool, &bytes, usize::MAX);
    assert_eq!(again[0].as_ptr(), place, "the living ones have not taken the last place");
    drop(living);
}
