//! What a user's simulation takes note of, and how people read it.

use corewire_codec::MethodId;

use crate::net::{NetEvent, NetNote};
use crate::trace::time;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Note {
    /// Something arrived.
    Event(NetEvent),
    /// A partition keeps something from arriving.
    Held(NetEvent),
    /// Something happened at a socket.
    Net(NetNote),
    /// A shard of a host turned.
    Turn { host: usize, shard: usize, worked: bool },
    /// Something became of a host.
    Host { host: usize, what: Change },
    /// Something became of the way between two hosts.
    Way { from: usize, to: usize, cut: bool },
    /// A handler of a host went on.
    Handler { host: usize, call: u64, method: MethodId, what: Step },
}

/// What may become of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Started,
    Serves,
    CannotStart,
    Finished,
    Crashed,
    Drains,
    Drained,
    Stopped,
    Continued,
}

/// How a handler went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Begun,
    Pends,
    Ended,
    Dropped,
}

impl Note {
    /// Whether people want to see it.
    pub(crate) fn is_telling(self) -> bool {
        !matches!(
            self,
            Self::Turn { .. }
                | Self::Event(NetEvent::Ack { .. })
                | Self::Held(NetEvent::Ack { .. })
        )
    }
}

/// A note as a line; `host` names hosts, `method` methods, and `wire` the ends of a wire.
pub(crate) fn line(
    at: u64,
    note: Note,
    host: impl Fn(usize) -> String,
    method: impl Fn(MethodId) -> String,
    wire: impl Fn(usize) -> String,
) -> String {
    let text = match note {
        Note::Event(event) => match event {
            NetEvent::Connect { wire: it } => format!("{}: asks for a connection", wire(it)),
            NetEvent::Deliver { wire: it, to } => format!("{}: bytes reach {}", wire(it), end(to)),
            NetEvent::Ack { wire: it, bytes, .. } => format!("{}: {bytes} bytes taken", wire(it)),
            NetEvent::Reset { wire: it, side } => {
                format!("{}: a reset reaches {}", wire(it), end(side))
            }
        },
        Note::Held(event) => {
            let what = match event {
                NetEvent::Connect { .. } => "a request for a connection",
                NetEvent::Deliver { to: 0, .. } => "bytes for the client",
                NetEvent::Deliver { .. } => "bytes for the server",
                NetEvent::Ack { .. } => "an acknowledgement",
                NetEvent::Reset { .. } => "a reset",
            };
            format!("{}: held by the partition: {what}", wire(event.wire()))
        }
        Note::Net(note) => net(note, wire),
        Note::Turn { host: it, shard, worked } => {
            format!("{}: shard {shard} turns{}", host(it), if worked { "" } else { ", idle" })
        }
        Note::Host { host: it, what } => {
            let what = match what {
                Change::Started => "starts",
                Change::Serves => "serves",
                Change::CannotStart => "cannot start",
                Change::Finished => "has finished",
                Change::Crashed => "crashes",
                Change::Drains => "drains",
                Change::Drained => "has drained",
                Change::Stopped => "stops",
                Change::Continued => "continues",
            };
            format!("{}: {what}", host(it))
        }
        Note::Way { from, to, cut } => {
            let what = if cut { "cut" } else { "healed" };
            format!("{} - {}: {what}", host(from), host(to))
        }
        Note::Handler { host: it, call, method: of, what } => {
            let what = match what {
                Step::Begun => "begins",
                Step::Pends => "pends",
                Step::Ended => "has ended",
                Step::Dropped => "is dropped",
            };
            format!("{}: {} (handler {call}) {what}", host(it), method(of))
        }
    };
    format!("{} {text}", time(at))
}

/// The name of an end of a wire.
fn end(side: usize) -> &'static str {
    if side == 0 { "the client" } else { "the server" }
}

fn net(note: NetNote, wire: impl Fn(usize) -> String) -> String {
    match note {
        NetNote::Received { wire: it, side, bytes } => {
            format!("{}: {} reads {bytes} bytes", wire(it), end(side))
        }
        NetNote::Sent { wire: it, side, bytes } => {
            format!("{}: {} writes {bytes} bytes", wire(it), end(side))
        }
        NetNote::Blocked { wire: it, side } => {
            format!("{}: {} finds its socket full", wire(it), end(side))
        }
        NetNote::Closed { wire: it, side, reset } => {
            let how = if reset { ", which resets it" } else { "" };
            format!("{}: {} closes{how}", wire(it), end(side))
        }
        NetNote::Finished { wire: it, side } => {
            format!("{}: {} ends its direction", wire(it), end(side))
        }
        NetNote::Accepted { wire: it, id, .. } => {
            format!("{}: accepted as connection {id}", wire(it))
        }
        NetNote::ConnectRefused { wire: it } => format!("{}: refused", wire(it)),
        NetNote::Silenced { wire: it } => format!("{}: silent from now on", wire(it)),
        NetNote::Stalled { wire: it, until } => {
            format!("{}: stalls until{}", wire(it), time(until))
        }
        NetNote::Mutated { wire: it, .. } => format!("{}: a byte changes", wire(it)),
        NetNote::AcceptFailed { errno, .. } => format!("accepting fails with {errno}"),
    }
}
