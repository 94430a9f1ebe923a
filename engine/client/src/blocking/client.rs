//! What the clones of a blocking channel share: its connection, and how calls are made on it.

use corewire_codec::{FrameWriter, RequestHead, Status, request_flags};
use corewire_proto::{ClientConfig, CloseReason, StreamKind};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cell::Cell;
use super::connecting::{Connecting, is_over};
use super::link::{Link, Scratch};
use super::work::Work;
use crate::address::Address;
use crate::config::{ChannelConfig, Reply};
use crate::failure::CallFailure;
use crate::reconnect::Backoff;
use crate::transport::Outcome;

/// What an encoder may read or set while its call has borrowed the client.
#[derive(Debug)]
pub(super) struct ChannelInfo {
    pub(super) address: Address,
    /// No call begins any more.
    pub(super) closed: std::cell::Cell<bool>,
}

/// What the clones of a channel share.
pub(super) struct Client {
    pub(super) info: Rc<ChannelInfo>,
    pub(super) config: ChannelConfig,
    pub(super) connection: Arc<ClientConfig>,
    pub(super) link: Option<Box<Link>>,
    /// A connect under way, which may outlive the call that began it.
    pub(super) connecting: Option<Connecting>,
    /// After a failure: no connect before this time.
    pub(super) retry_at: Option<Instant>,
    pub(super) why: String,
    /// The number of connections so far: a stream belongs to one of them.
    pub(super) links: u64,
    pub(super) backoff: Backoff,
    pub(super) scratch: Scratch,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn call<E>(
        &mut self,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Outcome
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.ensure_connected(deadline)?;
        let Some(link) = &mut self.link else { return Err(self.not_connected()) };
        let now = Instant::now();
        if head.flags & request_flags::ONE_WAY != 0 {
            let written = link.session.one_way(head, deadline, now, encode);
            return written.map_err(CallFailure::NotSent).and_then(|()| self.push(deadline));
        }
        if let Err((_, failure)) = link.session.request(head, deadline, now, Work::Unary, encode) {
            return Err(CallFailure::NotSent(failure));
        }
        self.run(deadline)
    }

    /// Writes a one-way call. If the socket takes only part of it before the deadline, the rest is sent before
    /// the next call.
    pub(super) fn push(&mut self, deadline: Option<Instant>) -> Outcome {
        while self.link.as_ref().is_some_and(|link| !link.session.out.is_empty()) {
            let ended = self.move_on(&mut None, |link, scratch, done| {
                link.push(deadline, scratch, done).map(drop)
            });
            if let Some(reason) = ended {
                return Err(CallFailure::Unknown(reason));
            }
            if is_over(deadline)
                && let Some(link) = self.link.as_mut().filter(|link| !link.session.out.is_empty())
            {
                let sent = !link.session.take_back_one_way();
                return Err(CallFailure::DeadlineExceeded { sent });
            }
        }
        Ok(Reply::written())
    }

    /// Drives the connection until the call in flight ends.
    pub(super) fn run(&mut self, deadline: Option<Instant>) -> Outcome {
        let mut done = None;
        while done.is_none() && self.link.is_some() {
            self.move_on(&mut done, |link, scratch, done| link.step(deadline, scratch, done));
        }
        done.unwrap_or(Err(CallFailure::Unknown(CloseReason::LocallyClosed)))
    }

    /// Runs `work` on the connection, if there is one. If the connection is then over, drops it and returns why.
    pub(super) fn move_on(
        &mut self,
        done: &mut Option<Outcome>,
        work: impl FnOnce(&mut Link, &mut Scratch, &mut Option<Outcome>) -> io::Result<()>,
    ) -> Option<CloseReason> {
        let link = self.link.as_deref_mut()?;
        if let Err(error) = work(link, &mut self.scratch, done) {
            link.session.handle_error(&error);
        }
        let reason = link.session.close_reason()?;
        // A reply that came together with the end of the connection has already been taken above.
        self.handle_down_with(reason, done);
        Some(reason)
    }

    /// Gives back memory that only large calls need, unless other calls are in flight.
    pub(super) fn rest(&mut self) {
        if let Some(link) = &mut self.link {
            if link.session.in_flight() != 0 {
                return;
            }
            link.shrink();
        }
        self.scratch.shrink();
    }
}

/// Streams.
impl Client {
    pub(super) fn begin_stream<E>(
        &mut self,
        kind: StreamKind,
        head: RequestHead,
        timeout: Option<Duration>,
        encode: E,
    ) -> Result<(Rc<Cell>, u32, u64), CallFailure>
    where
        E: FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>,
    {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.ensure_connected(deadline)?;
        let Some(link) = &mut self.link else { return Err(self.not_connected()) };
        let cell = Rc::new(Cell::new(kind.client_sends()));
        let work = Work::Stream(Rc::clone(&cell));
        match link.session.request(head, deadline, Instant::now(), work, encode) {
            Ok(call) => {
                link.push_now();
                Ok((cell, call, self.links))
            }
            Err((_, failure)) => Err(CallFailure::NotSent(failure)),
        }
    }

    /// See [`Channel::turn`](super::Channel::turn).
    pub(super) fn turn(&mut self) {
        // What was received is looked at before this thread sleeps for more. Only a unary call puts something
        // into `done`, and none is in flight.
        self.move_on(&mut None, |link, scratch, done| match link.session.out.is_empty() {
            true => link.step(None, scratch, done),
            false => link.push(None, scratch, done).map(drop),
        });
    }

    /// Writes what waits, for at most `within`.
    pub(super) fn push_within(&mut self, within: Duration) {
        let start = Instant::now();
        while self.link.as_ref().is_some_and(|link| !link.session.out.is_empty())
            && start.elapsed() < within
        {
            self.move_on(&mut None, |link, scratch, done| link.push(None, scratch, done).map(drop));
        }
    }
}
