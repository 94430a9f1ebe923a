//! A client's call that streams: both of its ends follow the script that the request carries.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use corewire_client::{CallFailure, Outcome, Reply, StreamHandle, WriteMessages};
use corewire_codec::{ReplyHead, StatusCode};
use corewire_proto::StreamKind;

use crate::core::Core;
use crate::hosts::lane::{Inlet, Outlet, Seen, Track};
use crate::judge::ledger::Ledger;
use crate::plan::message::Ask;
use crate::plan::script::Reading;

/// The state of the part of the call that brings its end.
enum Incoming<C: StreamHandle> {
    /// The reply is awaited, or first the server's handler must take the call.
    Call(C, bool),
    Reading(Inlet<C::Reader>),
}

/// The call from its opening to its end; `None` if the caller gave it up.
pub(crate) async fn stream_call<C: StreamHandle, W: WriteMessages>(
    core: &Rc<Core>,
    ledger: &Rc<Ledger>,
    ask: &Ask,
    kind: StreamKind,
    tainted: bool,
    opening: impl Future<Output = Result<(C, Option<W>), CallFailure>>,
) -> Option<Outcome> {
    let (call, writer) = match opening.await {
        Ok(opened) => opened,
        Err(failure) => return Some(Err(failure)),
    };
    let track =
        |up| Track { core: Rc::clone(core), ledger: Rc::clone(ledger), id: ask.id, up, tainted };
    let mut outlet = writer.map(|writer| Outlet::new(track(true), ask, writer));
    let waits = !kind.server_sends() || core.dice.chance(500_000);
    let mut incoming = if waits {
        Some(Incoming::Call(call, kind.server_sends()))
    } else {
        call.into_reader().map(|reader| Incoming::Reading(Inlet::new(track(false), ask, reader)))
    };
    let outcome = poll_fn(|context| {
        if let Some(outlet) = &mut outlet {
            let _ = outlet.poll(context);
        }
        loop {
            let (poll, attended) = match &mut incoming {
                None => (Poll::Ready(None), true),
                Some(Incoming::Reading(inlet)) => {
                    let poll = inlet.poll(context).map(|seen| outcome_of(ask.id, seen));
                    (poll, inlet.waits)
                }
                Some(Incoming::Call(call, true)) => match call.poll_opened(context) {
                    Poll::Ready(Ok(_)) => {
                        if let Some(Incoming::Call(call, _)) = incoming.take() {
                            let inlet = |reader| Inlet::new(track(false), ask, reader);
                            incoming = call.into_reader().map(inlet).map(Incoming::Reading);
                        }
                        continue;
                    }
                    Poll::Ready(Err(outcome)) => (Poll::Ready(Some(outcome)), true),
                    Poll::Pending => (Poll::Pending, true),
                },
                Some(Incoming::Call(call, false)) => (poll_reply(core, ask, call, context), true),
            };
            if let Some(call) = ledger.calls.borrow_mut().get_mut(&ask.id) {
                call.attended = attended;
            }
            return poll;
        }
    })
    .await;
    if let Some(Ok(reply)) = &outcome
        && reply.head.code == StatusCode::Ok
        && let Some(call) = ledger.calls.borrow_mut().get_mut(&ask.id)
        && kind.server_sends()
    {
        // The end of the stream is the handler's own answer.
        call.answered = true;
    }
    outcome
}

/// The reply to a client's stream; a caller whose stream nobody reads finally gives up.
fn poll_reply(
    core: &Core,
    ask: &Ask,
    call: &mut impl StreamHandle,
    context: &mut Context<'_>,
) -> Poll<Option<Outcome>> {
    let outcome = call.poll_outcome(context).map(Some);
    let stalled = ask.script.up.reading == Reading::Holds && core.released.get();
    if outcome.is_pending() && stalled { Poll::Ready(None) } else { outcome }
}

/// How a call whose results were a stream ended.
fn outcome_of(id: u64, seen: Seen) -> Option<Outcome> {
    let reply = |code| {
        let head = ReplyHead { code, ..ReplyHead::ok(0) };
        let body = if code == StatusCode::Ok { Ask::plain(id).answer() } else { Vec::new() };
        Ok(Reply { head, body: Bytes::from(body), extras: None })
    };
    match seen {
        Seen::Clean => Some(reply(StatusCode::Ok)),
        Seen::Status(code) => Some(reply(code)),
        Seen::Call(outcome) => Some(outcome),
        Seen::Stopped | Seen::Ignored => None,
    }
}
