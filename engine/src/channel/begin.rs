//! How a call of a shard's channel begins: its request is written into the connection's send buffer at once, or is
//! encoded and waits in the core.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corewire_client::core::channel::{Connection, PendingCall, Waiter as _, WriteBody};
use corewire_client::core::session::as_micros;
use corewire_client::failure::{CallFailure, NotSent};
use corewire_codec::{EncodedBody, FrameWriter, RequestHead, request_flags};

use super::Channel;
use super::caller::{Caller, KeptBody};
use super::driven::DrivenChannel;

/// The code of a caller that writes a request, where the caller has it.
pub(super) struct Encoder<'a, F>(pub(super) &'a mut Option<F>);

impl<E, F> WriteBody for Encoder<'_, F>
where
    E: fmt::Display,
    F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
{
    #[inline]
    fn write_to(self, frame: &mut FrameWriter<'_>) -> Result<(), NotSent> {
        match self.0.take() {
            Some(encode) => encode(frame).map_err(|error| NotSent::Encode(error.to_string())),
            // No path writes a request twice.
            None => Err(NotSent::Encode("the request was written before".to_owned())),
        }
    }
}

impl Channel {
    /// Begins a call, or makes it wait; its waiter hears of a failure. Returns whether it was begun.
    #[inline]
    pub(super) fn begin(
        &self,
        id: Option<u64>,
        head: &mut RequestHead,
        timeout: Option<Duration>,
        body: impl WriteBody,
        waiter: Caller,
        now: Instant,
    ) -> bool {
        let driven = self.driven();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        head.timeout_us = timeout.map(as_micros);
        if let Ok(mut core) = driven.core.try_borrow_mut()
            && let Some(connection) = core.open_connection(head)
        {
            if wants_turn(connection, head, deadline, now)
                && let Some(token) = driven.current().get()
            {
                driven.shard.mark_dirty(token);
            }
            return connection.write(id, head, deadline, body, waiter, now);
        }
        begin_later(driven, PendingCall { id, head: *head, deadline, body, waiter }, now);
        false
    }
}

/// Whether the connection must have a turn for a call that is about to be written.
#[inline]
fn wants_turn(
    connection: &Connection<Caller>,
    head: &RequestHead,
    deadline: Option<Instant>,
    now: Instant,
) -> bool {
    connection.unsent() == 0
        || deadline.is_some_and(|deadline| is_news(connection, head, deadline, now))
}

/// What is to be sent may be stuck behind a full socket, and then a request added behind it causes no turn. The driver's
/// timer must still know the deadline: if it is the first one, or that of a one-way call, which makes room when it
/// expires.
fn is_news(
    connection: &Connection<Caller>,
    head: &RequestHead,
    deadline: Instant,
    now: Instant,
) -> bool {
    if head.flags & request_flags::ONE_WAY != 0 {
        return connection.session.is_blocked();
    }
    // A deadline that has passed may be that of a call long gone: no timer waits for it any more.
    let is_known = |earliest: Instant| now < earliest && earliest <= deadline;
    !connection.session.earliest_deadline().is_some_and(is_known)
}

/// The slow path: there is no connection, no free slot, or others wait.
#[cold]
fn begin_later(
    driven: &Rc<DrivenChannel<Caller>>,
    call: PendingCall<Caller, impl WriteBody>,
    now: Instant,
) {
    let PendingCall { id, head, deadline, body, waiter } = call;
    let admitted = match driven.core.try_borrow_mut() {
        _ if driven.shard.is_over() => Err(NotSent::NotOnShard),
        Ok(mut core) => core.admit(now),
        // This is within the code that writes another request.
        Err(_) => Ok(()),
    };
    // The caller's code may do anything, so nothing is borrowed while it runs.
    let encoded = admitted.and_then(|()| EncodedBody::encode(|frame| body.write_to(frame)));
    match encoded {
        Ok(body) => {
            let body = KeptBody(body);
            driven.begin(PendingCall { id, head, deadline, body, waiter }, now);
        }
        Err(failure) => {
            waiter.complete(Err(CallFailure::NotSent(failure)));
        }
    }
    driven.wake();
}
