//! Channels whose server is the test.

use super::*;
use crate::channel::Channel;
use crate::config::ChannelConfig;
use std::pin::pin;
use std::task::Waker;

fn channel() -> Channel {
    Channel::new(Address::Unix("test".into()), ChannelConfig::default()).unwrap()
}

impl Bench {
    /// A turn and what follows it on a shard.
    fn step(&mut self) {
        self.driver.turn(Duration::ZERO).unwrap();
        self.driver.local.run_tasks();
        self.driver.settle();
    }
}

/// A handler closes a channel in the very turn in which its connect is decided.
#[test]
fn a_channel_that_is_closed_while_it_connects_is_closed() {
    let mut bench = Bench::new(0);
    let channel = channel();
    let mut context = Context::from_waker(Waker::noop());
    let mut ready = pin!(channel.ready());
    assert!(ready.as_mut().poll(&mut context).is_pending());
    bench.driver.turn(Duration::ZERO).unwrap();
    let mut closed = pin!(channel.close());
    assert!(closed.as_mut().poll(&mut context).is_pending());
    assert!(bench.net.borrow().ends[0].news, "the next turn finds it connected");
    (0..3).for_each(|_| bench.step());
    assert!(closed.as_mut().poll(&mut context).is_ready());
    assert!(ready.as_mut().poll(&mut context).is_ready(), "who waits for it is told");
}
