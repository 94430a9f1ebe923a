//! Calls that stream, over a shard's channel.

use corewire_codec::{FrameWriter, RequestHead};
use corewire_proto::StreamKind;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::call::METADATA_BYTES_EARLY;
use super::send::{Kind, Request};
use super::state::Begin;
use super::{Channel, Ticket};
use crate::shard::clock::clock;
use crate::stream::{StreamCall, StreamWriter};
use corewire_client::failure::{CallFailure, NotSent};

impl Channel {
    /// Makes a call that streams; waits for the connection and for a slot, as [`call`](Self::call) does,
    /// and returns when the request is written. The writer is `Some` if the client sends.
    ///
    /// Dropping the future, or what it returns, cancels the call on the server.
    ///
    /// # Errors
    ///
    /// Why nothing was sent.
    pub async fn stream<E, F>(
        &self,
        kind: StreamKind,
        mut head: RequestHead,
        timeout: Option<Duration>,
        encode: F,
    ) -> Result<(StreamCall, Option<StreamWriter>), CallFailure>
    where
        E: std::fmt::Display,
        F: FnOnce(&mut FrameWriter<'_>) -> Result<(), E>,
    {
        let core = self.core();
        let mut request = Request::New(encode);
        // Only the server's hello says whether it accepts that much.
        let mut is_held = head.metadata_bytes > METADATA_BYTES_EARLY;
        let mut ticket = Ticket { channel: self.clone(), id: None };
        let deadline = timeout.and_then(|timeout| core.local.now().checked_add(timeout));
        head.flags |= kind.request_flags();
        let key = poll_fn(|context| {
            let is_early = {
                let state = core.state.borrow();
                !state.is_ready() && state.is_next(core, &ticket, false)
            };
            if is_early && deadline.is_some_and(|deadline| deadline <= clock()) {
                return Poll::Ready(Err(CallFailure::DeadlineExceeded { sent: false }));
            }
            if is_early {
                match request.encode_early() {
                    Ok(is_large) => is_held |= is_large,
                    Err(failure) => return Poll::Ready(Err(CallFailure::NotSent(failure))),
                }
            }
            let state = &mut *core.state.borrow_mut();
            let begin = if is_held && !state.is_ready() {
                state.await_hello(core, deadline)
            } else {
                state.try_again(core, &mut ticket, Some(kind), deadline, context)
            };
            match begin {
                Begin::Slot(key) => Poll::Ready(Ok(key)),
                Begin::Wait => ticket
                    .wait(state, context, deadline)
                    .map(|failure| Err(CallFailure::NotSent(failure))),
                Begin::Failed(failure) => Poll::Ready(Err(failure)),
            }
        })
        .await?;
        let left = deadline.map(|by| by.saturating_duration_since(clock()));
        let kind_of = Kind::Call(key);
        let (stream, outgoing) = {
            let state = &mut *core.state.borrow_mut();
            (state.stream(Some(key)).cloned(), state.begin_request(kind_of, &mut head, left)?)
        };
        outgoing.write(core, kind_of, &head, &mut request)?;
        match stream {
            Some(stream) => Ok(StreamCall::new(kind, stream)),
            None => {
                let why = "the connection ended before the call was sent".to_owned();
                Err(CallFailure::NotSent(NotSent::NoConnection(why)))
            }
        }
    }
}
