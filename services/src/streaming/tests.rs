//! Streams without a connection: what sender and reader see of each other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::SendError;
use futures_lite::future::block_on;
use futures_lite::stream;
use std::future::Future;
use std::task::Waker;

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
