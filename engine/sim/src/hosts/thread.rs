//! A client host whose channels a client thread drives: a shard of its own, another host (`Kind::Thread`), which takes what
//! callers send out of their mailbox. The callers use the production handle, as tokio's do, and are woken from that other
//! thread.
//!
//! The two hosts run in any order and stop for different times. What is left out: what hosts the thread's shard, and
//! connects by name. Of the judge's rules three are weaker. The bytes before a server's hello are not told apart: a request is
//! always encoded before its thread sees it. And a call that is given up may still be sent, until its thread has heard of
//! that; its server may first see its stream end as that of a sender that was dropped.

use std::cell::RefCell;
use std::rc::Rc;

use corewire_client::ChannelConfig;
use corewire_client::testing::CoreSnapshot;
use corewire_engine::testing::sim::{SimClientThread, ThreadChannel};

use crate::core::Core;
use crate::hosts::runtime::{self, AnyChannel, Held, Runtime};
use crate::net::endpoint::address;

/// What the callers of one host have of their thread.
pub(crate) struct ThreadRuntime {
    core: Rc<Core>,
    thread: RefCell<SimClientThread>,
    /// Its wires change bytes.
    mutating: bool,
}

impl ThreadRuntime {
    pub(crate) fn new(core: &Rc<Core>, thread: SimClientThread, mutating: bool) -> Self {
        Self { core: Rc::clone(core), thread: RefCell::new(thread), mutating }
    }
}

impl Runtime for ThreadRuntime {
    fn channel(&self, server: usize, config: ChannelConfig, jitter: u64) -> Option<AnyChannel> {
        let side = &self.core.side;
        let queued_max =
            if side.chance(200_000) { side.size(1, 65_536) } else { config.queued_max };
        let unsent_max = if side.chance(400_000) { side.size(1, 256) } else { config.unsent_max };
        let config = ChannelConfig { queued_max, unsent_max, ..config };
        let channel = self.thread.borrow().channel(address(server), config, jitter)?;
        Some(AnyChannel::Shared(channel))
    }

    fn is_apart(&self) -> bool {
        true
    }

    /// They are the thread's.
    fn set(&self) -> Option<usize> {
        None
    }

    fn hear(&self) {}

    fn expire(&self) {}

    fn release(&self) {
        self.thread.borrow_mut().release();
    }

    fn drivers(&self) -> usize {
        let thread = self.thread.borrow();
        thread.channels().len() + usize::from(!thread.is_over())
    }

    fn held(&self) -> Vec<Held> {
        let thread = self.thread.borrow();
        let has_news = thread.has_news();
        let of = |channel: &ThreadChannel| {
            let server = channel.server.tcp().map_or(0, |address| usize::from(address.port()));
            let tainted = self.mutating || server >= self.core.plan.servers;
            let holds = CoreSnapshot { has_news, ..channel.holds.clone() };
            runtime::held(&holds, channel.unsent_max, tainted)
        };
        thread.channels().iter().flat_map(of).collect()
    }
}
