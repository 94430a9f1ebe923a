//! Bugs to plant, one at a time, so that a checker can show that it finds them.
//!
//! Only a build with the feature `canary` can plant one, on the thread that calls `plant`. In any other build
//! [`is_planted`] is a constant `false`, and the compiler leaves the bug out.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The last request that a go-away counts as taken is treated as one that will not run.
    GoAwayByOne,
    /// A call whose deadline passed gives its slot back before the server has answered.
    EarlySlot,
    /// A call with an earlier deadline than those before it is not timed.
    LateDeadline,
    /// The cost of a stream's message is not given back to the connection if its call is already over.
    LostCredit,
    /// A message that finds no credit goes to the end of those that wait.
    OvertakenMessage,
    /// A reader that waits is not woken when its stream's end comes.
    LostEnd,
    /// A unary call that its caller gives up is forgotten, and the server is not told.
    SilentCancel,
    /// A one-way call for which there is no room is not counted.
    UncountedOneWay,
    /// A slot freed by a reply that nobody waits for is not given to a call that waits for a slot.
    LostTurn,
    /// A call that ends before a byte of it was written is not taken back.
    DeadRequest,
    /// Calls are written no matter how much is waiting for the socket.
    UnboundedUnsent,
    /// A connection whose socket is full keeps asking for the next turn.
    FullSocketTurns,
    /// A shard forgets the connections waiting to be accepted when it looks at its busy connection, and when it
    /// goes to sleep.
    ForgottenAccept,
    /// Timeouts are judged before the socket is read.
    BlindClocks,
    /// The time during which a shard was away counts against its peers.
    CountedAbsence,
    /// What the handler of a call that was handed to another shard has read of a stream is not granted again.
    LostRelayedCredit,
    /// What comes back from another shard is given to whoever has its place now.
    CrossedReply,
    /// The owner of a call's key is not told that its caller has gone.
    LostForwardedCancel,
    /// A shard that sleeps is not woken for what another one has left.
    UnwokenShard,
    /// A call by key is run by the shard next to its owner.
    WrongOwner,
    /// What was away and is back keeps its place on the way.
    LostPlace,
    /// A shard that has ended is not noticed by those who wait for it.
    UnheardDeath,
    /// What is sent to a shard overtakes what waits because the ring was full.
    OvertakenParcel,
    /// A part of a stream that comes from another shard wakes nobody.
    UnwokenPart,
    /// A call that comes to its key's owner too late is run.
    LateForward,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 25] = [
        Self::GoAwayByOne,
        Self::EarlySlot,
        Self::LateDeadline,
        Self::LostCredit,
        Self::OvertakenMessage,
        Self::LostEnd,
        Self::SilentCancel,
        Self::UncountedOneWay,
        Self::LostTurn,
        Self::DeadRequest,
        Self::UnboundedUnsent,
        Self::FullSocketTurns,
        Self::ForgottenAccept,
        Self::BlindClocks,
        Self::CountedAbsence,
        Self::LostRelayedCredit,
        Self::CrossedReply,
        Self::LostForwardedCancel,
        Self::UnwokenShard,
        Self::WrongOwner,
        Self::LostPlace,
        Self::UnheardDeath,
        Self::OvertakenParcel,
        Self::UnwokenPart,
        Self::LateForward,
    ];

    /// Whether it is one of what passes between the shards of a server.
    #[must_use]
    pub fn is_of_mesh(self) -> bool {
        self as usize >= Self::LostRelayedCredit as usize
    }
}

#[cfg(feature = "canary")]
pub use plants::{is_planted, plant};

#[cfg(feature = "canary")]
mod plants {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread, in place of the one that was planted before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted on this thread.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

/// Whether this bug is planted on this thread: never in this build.
#[cfg(not(feature = "canary"))]
#[must_use]
#[inline(always)]
#[allow(clippy::inline_always, reason = "a constant that must leave no trace")]
pub const fn is_planted(_: Bug) -> bool {
    false
}
