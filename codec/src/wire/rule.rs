//! The rules of the protocol, as numbers that a go-away names.

use core::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A rule of the protocol that a peer can break.
        ///
        /// The number is what a go-away frame carries (REQ-60); the text names the requirement of
        /// `docs/PROTOCOL.md`. Numbers are never reused.
        ///
        /// ```
        /// # mod corewire {
        /// #     pub use bytes::Bytes;
        /// #     pub use corewire_codec::*;
        /// #     pub mod codec { pub use corewire_codec::{FrameWriter as BodyWriter, *}; }
        /// # }
        /// use corewire::codec::Rule;
        ///
        /// assert_eq!(Rule::from_number(31), Some(Rule::WriteTimeout));
        /// println!("rule {}: {}", Rule::WriteTimeout.number(), Rule::WriteTimeout.text());
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum Rule {
            $($(#[$doc])* $name = $number,)*
        }

        impl Rule {
            /// Every rule, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number in a go-away frame.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The rule with this number, if this version knows it.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// One sentence that says what was wrong.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

rules! {
    /// The first bytes are not Corewire's magic.
    NotCorewire = 1, "the connection does not begin with Corewire's magic (REQ-1)";
    /// The hello asks for a version that this side does not speak.
    UnknownVersion = 2, "the hello's version is not spoken here (REQ-2)";
    /// The hello breaks its own layout.
    BrokenHello = 3, "the hello is broken: a reserved byte, a wrong role, or records that do not fit (REQ-3, REQ-4)";
    /// The hello names a limit outside its range.
    HelloLimit = 4, "a limit in the hello is outside its allowed range (REQ-5)";
    /// No complete hello within the hello timeout.
    HelloTimeout = 5, "no complete hello came in time (REQ-6)";
    /// A kind byte that no frame has.
    UnknownFrameKind = 10, "a frame has an unknown kind (REQ-11)";
    /// A reserved bit or field is not zero.
    ReservedBits = 11, "a reserved bit or field is not zero (REQ-15)";
    /// A frame is larger than the limit that this side stated.
    FrameTooLarge = 12, "a frame is larger than the limit stated in the hello (REQ-16)";
    /// Bytes follow a header whose kind has no payload, or a stream's good end.
    UnexpectedPayload = 13, "a frame carries bytes where its kind, or its code, has none (REQ-17)";
    /// A payload is shorter than its own fields.
    TruncatedPayload = 14, "a frame's payload is shorter than the fields it announces (REQ-18)";
    /// Metadata is malformed or over its bound.
    BadMetadata = 15, "metadata is malformed or over its bound (REQ-21)";
    /// A status code, priority, reason or text that has no meaning.
    BadField = 16, "a field holds a value that has no meaning (REQ-19)";
    /// A frame took too long to arrive.
    FrameTimeout = 17, "a frame took too long to arrive (REQ-23)";
    /// A frame kind that this side of a connection must not send.
    WrongDirection = 20, "a frame came from the side that must not send it (REQ-24)";
    /// A call id whose slot is at or over the in-flight limit.
    CallSlot = 21, "a call id's slot is not below the in-flight limit (REQ-32)";
    /// A call id that is still in flight.
    CallIdInUse = 22, "a call id is used while its slot is still in flight (REQ-33)";
    /// A reply to a call that was never made.
    UnknownReply = 23, "a reply names a call that is not in flight (REQ-41)";
    /// More bytes than the credit allows.
    CreditOverdrawn = 24, "more stream bytes were sent than credit was granted (REQ-52)";
    /// Credit of zero, or a sum past the maximum.
    BadCredit = 25, "a credit frame grants nothing or overflows the credit (REQ-53)";
    /// Data or an end for a stream that this side knows to be over or never opened.
    UnknownStream = 26, "a stream frame names a stream that was never opened (REQ-54)";
    /// A pong that answers no ping.
    UnexpectedPong = 27, "a pong answers no ping (REQ-57)";
    /// No call was in flight for longer than the idle timeout that this side stated in its hello.
    IdleTimeout = 30, "no call was in flight for longer than the idle timeout stated in the hello (REQ-58)";
    /// The peer does not read what was sent to it.
    WriteTimeout = 31, "the peer did not read what was sent to it in time (REQ-59)";
    /// A ping got no pong, and nothing else was heard either.
    PingTimeout = 32, "a ping got no pong in time, and nothing else was heard (REQ-58)";
    /// The receiver's memory is short, and this connection holds much of it without progress.
    MemoryShort = 33, "the receiver's memory is short, and this connection holds much of it without progress (REQ-95)";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.number(), self.text())
    }
}

impl core::error::Error for Rule {}
