//! Handlers that make calls themselves: each hop calls the next server and replies with the answer it
//! gets. When its own caller goes away, it is dropped, and with it the call that it waits for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use corewire_client::Outcome;
use corewire_codec::{FrameWriter, MethodId, RequestHead, Status, StatusCode};
use corewire_engine::{Channel, PendingCall, ReplySlot, testing::sim};

use crate::core::Core;
use crate::core::trace::{Note, Violated};
use crate::hosts::service::{Record, answer};
use crate::judge;
use crate::judge::ledger::{Call, Ledger, State};
use crate::plan::message::{Ask, CallKind};

/// Ids of calls that handlers make begin here.
const HOP_IDS: u64 = 1 << 48;

/// The channels of one server host, by server and by how many hops a call still has to go, made when
/// they are first used. On one channel for all, calls could wait for slots held by calls that in turn
/// wait for them.
#[derive(Debug, Default)]
pub(crate) struct Channels(RefCell<BTreeMap<(usize, u8), Channel>>);

impl Channels {
    fn to(&self, server: usize, hops: u8, core: &Core) -> Option<Channel> {
        let mut channels = self.0.borrow_mut();
        if let Some(channel) = channels.get(&(server, hops)) {
            return Some(channel.clone());
        }
        let (config, jitter) = (core.plan.channel.clone(), core.dice.word());
        match sim::channel(crate::net::endpoint::address(server), config, jitter) {
            Ok(channel) => {
                channels.insert((server, hops), channel.clone());
                Some(channel)
            }
            Err(error) => {
                core.violated(Violated::Panic, || format!("no channel on a server: {error}"));
                None
            }
        }
    }
}

/// A handler that waits for the next hop.
pub(crate) struct Hop {
    record: Record,
    core: Rc<Core>,
    ledger: Rc<Ledger>,
    ask: Ask,
    next: u64,
    inner: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hop").field("ask", &self.ask).field("next", &self.next).finish()
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // The call that it waits for ends with it.
        let open = |call: &Call| call.state == State::Open;
        if self.ledger.calls.borrow().get(&self.next).is_some_and(open) {
            judge::given_up(&self.core, &self.ledger, self.next);
        }
    }
}

impl Hop {
    /// Begins the call to the next server; nothing is written before it is polled.
    pub(crate) fn new(
        record: Record,
        core: &Rc<Core>,
        ledger: &Rc<Ledger>,
        channels: &Channels,
        ask: &Ask,
        deadline: Option<u64>,
    ) -> Option<Self> {
        let channel = channels.to(core.dice.below(core.plan.servers), ask.hops, core)?;
        let next = {
            let mut made = ledger.hops_made.borrow_mut();
            *made += 1;
            HOP_IDS + *made
        };
        let child = Ask { id: next, hops: ask.hops - 1, ..*ask };
        let tainted = ledger.calls.borrow().get(&ask.id).is_none_or(|call| call.tainted);
        let mut call = Call::new(CallKind::Unary, record.host, &child);
        call.deadline = deadline;
        ledger.begin(next, Call { tainted, unheard: tainted, ..call });
        core.note(Note::Began { call: next, host: record.host });
        let left = deadline.map(|at| Duration::from_nanos(at.saturating_sub(core.now())));
        let encode = {
            let (core, ledger, channel) = (Rc::clone(core), Rc::clone(ledger), channel.clone());
            move |body: &mut FrameWriter<'_>| {
                body.put_bytes(child.body(0).into());
                core.note(Note::Encoded { call: child.id });
                if let Some(call) = ledger.calls.borrow_mut().get_mut(&child.id) {
                    call.encode(&core, !sim::is_written(&channel));
                }
                Ok::<(), Status>(())
            }
        };
        let mut head = RequestHead::new(0, MethodId(1));
        head.set_key(child.named_key());
        let inner = channel.call(head, left, encode);
        Some(Self {
            record,
            core: Rc::clone(core),
            ledger: Rc::clone(ledger),
            ask: *ask,
            next,
            inner: Box::pin(inner),
        })
    }

    pub(crate) fn go_on(
        &mut self,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let Poll::Ready(outcome) = self.inner.as_mut().poll(context) else { return Poll::Pending };
        let status = match &outcome {
            Ok(reply) if reply.head.code == StatusCode::Ok => None,
            Ok(reply) => Some(Status::new(reply.head.code, "so said the next server")),
            Err(_) => Some(Status::aborted("the next server did not answer")),
        };
        judge::ended(&self.core, &self.ledger, self.next, Some(outcome));
        match status {
            Some(status) => reply.status(&status),
            None => answer(&self.ledger, &self.ask, reply),
        }
        Poll::Ready(())
    }
}

impl PendingCall for Hop {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        self.record.look(context);
        self.go_on(context, reply)
    }

    fn recycle(self: Pin<Box<Self>>) {}
}
