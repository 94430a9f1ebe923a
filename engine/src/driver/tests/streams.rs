//! Streams of channels whose server is the test: what is copied, counted and left behind.

use super::*;
use crate::channel::Channel;
use crate::stream::{StreamCall, StreamWriter};
use corewire_client::config::ChannelConfig;
use corewire_client::{StreamHandle, WriteMessages};
use corewire_codec::{CodecId, EncodedBody, Encoding, FrameWriter};
use corewire_proto::StreamKind;
use std::convert::Infallible;
use std::pin::pin;
use std::task::Waker;

const RAW: Encoding = Encoding::plain(CodecId::RAW);

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A bidirectional call whose request was written.
fn stream(bench: &mut Bench, channel: &Channel) -> (StreamCall, StreamWriter) {
    let head = RequestHead::new(0, ECHO);
    let kind = StreamKind::Bidirectional;
    let mut begun = pin!(channel.stream(kind, head, None, |_| Ok::<_, Infallible>(())));
    for _ in 0..4 {
        if let Poll::Ready(begun) = begun.as_mut().poll(&mut nobody()) {
            let (call, writer) = begun.unwrap();
            return (call, writer.unwrap());
        }
        bench.step();
    }
    panic!("the request is to be written");
}

fn send(writer: &mut StreamWriter, bytes: usize) {
    let write = |frame: &mut FrameWriter<'_>| {
        frame.put_slice(&vec![1; bytes]);
        Ok::<_, Infallible>(())
    };
    writer.send(RAW, EncodedBody::encode(write).unwrap());
}

fn is_ready(writer: &mut StreamWriter) -> bool {
    writer.poll_ready(&mut nobody()).is_ready()
}

fn channel() -> Channel {
    Channel::new(Address::Unix("test".into()), ChannelConfig::default()).unwrap()
}

#[test]
fn an_outbox_of_a_client_is_bounded_and_empties_by_credit() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let (_call, mut writer) = stream(&mut bench, &channel);
    bench.step();
    let before = bench.net.borrow().ends[0].output.len();
    let mut sent = 0;
    while is_ready(&mut writer) {
        send(&mut writer, 1000);
        sent += 1;
    }
    // 32 KiB, each message with 16 bytes more.
    assert_eq!(sent, 33);
    bench.step();
    // Before the hello the credit of a stream is 16 KiB, and one message may overdraw it.
    let gone = bench.net.borrow().ends[0].output.len() - before;
    assert!((16_384..18_000).contains(&gone), "{gone}");
    assert!(is_ready(&mut writer));
    assert!(!bench.driver.has_queue(), "it waits for credit");
    bench.say_hello(0);
    bench.step();
    let gone = bench.net.borrow().ends[0].output.len();
    assert!(gone > 15_000, "the hello grants more: {gone}");
}

/// A stream whose call is given up is forgotten, even while it waits for credit.
#[test]
fn a_blocked_stream_of_a_client_is_forgotten_with_its_call() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let (call, mut writer) = stream(&mut bench, &channel);
    while is_ready(&mut writer) {
        send(&mut writer, 1000);
    }
    bench.step();
    assert_eq!(channel.snapshot().calls, 1);
    drop((call, writer));
    bench.step();
    assert_eq!((channel.snapshot().calls, channel.snapshot().in_flight), (0, 0));
}

/// The future of a stream whose request waits is dropped: the server never hears of it.
#[test]
fn a_stream_that_is_given_up_before_it_is_written() {
    let mut bench = Bench::new(0);
    let channel = channel();
    {
        let head = RequestHead::new(0, ECHO);
        let kind = StreamKind::Bidirectional;
        let mut begun = pin!(channel.stream(kind, head, None, |_| Ok::<_, Infallible>(())));
        assert!(begun.as_mut().poll(&mut nobody()).is_pending());
        assert_eq!(channel.snapshot().waiting, 1);
    }
    assert_eq!(channel.snapshot().waiting, 0);
    (0..3).for_each(|_| bench.step());
    bench.say_hello(0);
    bench.step();
    assert!(bench.replies[0].next_frame(u32::MAX).unwrap().is_none());
    // The next one is as if nothing had been.
    let (mut call, _writer) = stream(&mut bench, &channel);
    bench.step();
    bench.take_output(0);
    let frame = bench.replies[0].next_frame(u32::MAX).unwrap().unwrap();
    assert!(matches!(frame.head, Head::Request(_)));
    assert!(call.poll_opened(&mut nobody()).is_pending());
}

/// What a dead connection carried ends; the reader of what had come reads it to its end.
#[test]
fn a_stream_ends_with_its_connection() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let (mut call, mut writer) = stream(&mut bench, &channel);
    bench.driver.end_channels();
    assert!(matches!(call.poll_opened(&mut nobody()), Poll::Ready(Err(Err(_)))));
    assert!(matches!(writer.poll_ready(&mut nobody()), Poll::Ready(Err(_))));
}
