//! Streams without a connection: what sender and reader see of each other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::SendError;
use futures_lite::future::block_on;
use futures_lite::stream;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};

/// As users see it: the kind of channel needs no mention.
type Streaming<T> = crate::Streaming<T>;

fn poll<T>(stream: &mut Streaming<T>) -> Poll<Option<Result<T, Status>>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_sender_waits_for_its_reader_and_ends_with_it() {
    let (mut sender, mut stream) = Streaming::channel();
    for number in 0..8 {
        block_on(sender.send(number)).unwrap();
    }
    {
        let mut ninth = std::pin::pin!(sender.send(8));
        let mut context = Context::from_waker(Waker::noop());
        assert!(ninth.as_mut().poll(&mut context).is_pending());
        assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(0))));
        assert_eq!(ninth.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    }
    for number in 1..9 {
        assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(number))));
    }
    assert_eq!(poll(&mut stream), Poll::Pending);
    drop(stream);
    assert!(sender.is_closed());
    assert_eq!(block_on(sender.send(9)), Err(SendError::Closed(9)));
    block_on(sender.closed());
}

#[test]
fn a_sender_ends_its_stream_well_or_with_a_status() {
    let (mut sender, mut stream) = Streaming::channel();
    block_on(sender.send(1)).unwrap();
    drop(sender);
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(1))));
    assert_eq!(poll(&mut stream), Poll::Ready(None));
    assert_eq!(poll(&mut stream), Poll::Ready(None));

    let (sender, mut stream) = Streaming::<u8>::channel();
    sender.fail(Status::aborted("enough"));
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Err(Status::aborted("enough")))));
    assert_eq!(poll(&mut stream), Poll::Ready(None));

    let (sender, mut stream) = Streaming::<u8>::channel();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _sender = sender;
        panic!("as the test wants");
    }));
    assert!(panicked.is_err());
    let end = poll(&mut stream);
    assert!(
        matches!(&end, Poll::Ready(Some(Err(status))) if status.message().contains("panicked"))
    );
}

#[test]
fn an_error_is_the_last_item() {
    let items = [Ok(1), Err(Status::aborted("enough")), Ok(2)];
    let mut stream = Streaming::from_stream(stream::iter(items));
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(1))));
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Err(Status::aborted("enough")))));
    assert_eq!(poll(&mut stream), Poll::Ready(None));
    assert_eq!(poll(&mut Streaming::<u8>::empty()), Poll::Ready(None));
}

#[test]
fn clones_send_into_one_stream_and_the_last_ends_it() {
    let (mut one, mut stream) = Streaming::channel();
    let mut two = one.clone();
    for number in 0..8 {
        block_on(one.send(number)).unwrap();
    }
    let woken = Arc::new(AtomicU32::new(0));
    let wakers = [(); 2].map(|()| Waker::from(Arc::new(Counts(Arc::clone(&woken)))));
    let mut first = Box::pin(one.send(8));
    let mut second = Box::pin(two.send(9));
    for _ in 0..3 {
        assert!(first.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending());
    }
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(0))));
    assert_eq!(woken.load(Ordering::SeqCst), 2, "both are woken, once each");
    assert_eq!(second.as_mut().poll(&mut Context::from_waker(&wakers[1])), Poll::Ready(Ok(())));
    drop((first, second));
    drop(one);
    for number in [1, 2, 3, 4, 5, 6, 7, 9] {
        assert_eq!(poll(&mut stream), Poll::Ready(Some(Ok(number))));
    }
    assert!(poll(&mut stream).is_pending(), "another sender is left");
    let three = two.clone();
    two.fail(Status::aborted("enough"));
    assert!(three.is_closed());
    assert_eq!(poll(&mut stream), Poll::Ready(Some(Err(Status::aborted("enough")))));
    assert_eq!(poll(&mut stream), Poll::Ready(None));
    drop(three.clone());
    drop(three);
    assert_eq!(poll(&mut stream), Poll::Ready(None));
}

/// Counts wakes.
struct Counts(Arc<AtomicU32>);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
