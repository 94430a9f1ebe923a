//! Who waits for a blocking channel's calls: their own thread, which looks for the outcome in a cell.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use corewire_codec::{FrameWriter, Limits, Status};

use crate::core::channel::{ConnectionId, StreamEnd, Waiter};
use crate::streams::{Event, Outgoing};
use crate::transport::Outcome;

/// The code that writes a request, while its call waits for the connection.
pub(super) type Encoder = Box<dyn FnOnce(&mut FrameWriter<'_>) -> Result<(), Status>>;

pub(super) enum Caller {
    /// The one call that the thread waits for.
    Call(Rc<Cell<Option<Outcome>>>),
    Stream(Rc<StreamCell>),
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("stream", &self.stream()).finish_non_exhaustive()
    }
}

impl Waiter for Caller {
    type Body = Encoder;
    type Stream = Rc<StreamCell>;
    type Hold = ();

    const DRIVES: bool = true;

    fn is_abandoned(&self) -> bool {
        false
    }

    fn handle_begun(&mut self, _: ConnectionId, _: u32) {}

    fn stream(&self) -> Option<&Rc<StreamCell>> {
        match self {
            Self::Call(_) => None,
            Self::Stream(cell) => Some(cell),
        }
    }

    fn end_stream(self, failure: Option<Status>) {
        if let Self::Stream(cell) = self {
            cell.finish(Event::End(failure));
        }
    }

    fn complete(self, outcome: Outcome) {
        match self {
            Self::Call(cell) => cell.set(Some(outcome)),
            Self::Stream(cell) => cell.finish(Event::Outcome(outcome)),
        }
    }
}

/// What the ends of one streaming call have in common.
#[derive(Debug, Default)]
pub(super) struct StreamCell {
    /// What came and was not taken.
    pub(super) events: RefCell<VecDeque<Event>>,
    /// What is to be written.
    pub(super) outbox: RefCell<VecDeque<Outgoing>>,
    /// Cost of messages that were taken.
    pub(super) consumed: Cell<u32>,
    /// Its request was written.
    pub(super) begun: Cell<bool>,
    /// Nothing more is sent.
    pub(super) closed: Cell<bool>,
    /// The call is over.
    pub(super) over: Cell<bool>,
}

impl StreamCell {
    fn finish(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.over.set(true);
        self.close_outbox();
    }

    fn close_outbox(&self) {
        self.closed.set(true);
        self.outbox.borrow_mut().clear();
    }
}

impl StreamEnd for Rc<StreamCell> {
    fn begin(&self, _: &Limits, _: u32) {
        self.begun.set(true);
    }

    fn take_notice(&self) {}

    fn take_consumed(&self) -> u32 {
        self.consumed.take()
    }

    fn has_outgoing(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    fn is_ending(&self) -> bool {
        matches!(self.outbox.borrow().front(), Some(Outgoing::End(_)))
    }

    fn pop(&self) -> Option<Outgoing> {
        self.outbox.borrow_mut().pop_front()
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
    }

    /// The reader is on this thread, and looks.
    fn wake_reader(&self) {}

    fn close(&self) {
        self.close_outbox();
    }
}
