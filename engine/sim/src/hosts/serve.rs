//! Handlers of calls that stream: they follow the script that the request carries.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use corewire_codec::{Status, StatusCode};
use corewire_engine::{PendingCall, ReplySlot, StreamEnds};

use crate::core::Core;
use crate::hosts::lane::{Inlet, Outlet, Seen, Track};
use crate::hosts::service::{Record, answer};
use crate::judge::ledger::Ledger;
use crate::plan::message::Ask;
use crate::plan::script::Finish;

/// One handler with its ends of the call's streams.
#[derive(Debug)]
pub(crate) struct StreamHandler {
    pub(crate) record: Record,
    ledger: Rc<Ledger>,
    ask: Ask,
    outlet: Option<Outlet>,
    inlet: Option<Inlet>,
    /// How the client's stream ended.
    seen: Option<Seen>,
    /// Only the client streams, so that there is a reply.
    replies: bool,
}

impl StreamHandler {
    pub(crate) fn new(
        record: Record,
        core: &Rc<Core>,
        ledger: &Rc<Ledger>,
        ask: &Ask,
        ends: StreamEnds,
    ) -> Self {
        let tainted = ledger.calls.borrow().get(&ask.id).is_none_or(|call| call.tainted);
        let track = |up| Track {
            core: Rc::clone(core),
            ledger: Rc::clone(ledger),
            id: ask.id,
            up,
            tainted,
        };
        let replies = ends.writer.is_none();
        let outlet = ends.writer.map(|mut writer| {
            if core.dice.chance(500_000) {
                writer.accept(None);
            }
            Outlet::new(track(false), ask, writer)
        });
        let inlet = ends.reader.map(|reader| Inlet::new(track(true), ask, reader));
        Self { record, ledger: Rc::clone(ledger), ask: *ask, outlet, inlet, seen: None, replies }
    }

    /// Continues both directions; ready when the reply is given.
    pub(crate) fn go_on(
        &mut self,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        if let Some(inlet) = &mut self.inlet
            && self.seen.is_none()
            && let Poll::Ready(seen) = inlet.poll(context)
        {
            self.seen = Some(seen);
        }
        if let Some(outlet) = &mut self.outlet {
            // The connection ends the call when the end is written.
            let _ = outlet.poll(context);
        }
        let Some(seen) = self.seen.as_ref().filter(|_| self.replies) else { return Poll::Pending };
        match seen {
            Seen::Status(_) => reply.status(&Status::aborted("the client's stream failed")),
            _ => answer(&self.ledger, &self.ask, reply),
        }
        Poll::Ready(())
    }
}

impl PendingCall for StreamHandler {
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

/// Whether a reply with this status can result from the script, in place of an end of the stream.
pub(crate) fn explains(ask: &Ask, code: StatusCode) -> bool {
    let (up, down) = (&ask.script.up, &ask.script.down);
    match code {
        StatusCode::Ok => true,
        StatusCode::Internal => down.finish == Finish::Panics,
        StatusCode::Aborted => {
            down.finish == Finish::Fails || matches!(up.finish, Finish::Fails | Finish::Dropped)
        }
        StatusCode::Cancelled => down.finish == Finish::Dropped,
        _ => false,
    }
}
