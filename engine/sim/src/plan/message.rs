//! What clients send and servers answer: bodies that tell whose they are, and what is to be done.

use corewire_proto::{StreamKind, key_hash};

use crate::plan::script::{SCRIPT_BYTES, Script};

/// The bytes of an answer that is more than a caller accepts.
pub(crate) const TOO_MUCH: usize = 70_000;

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    /// One request, one reply.
    Unary,
    /// One request, and nothing comes back.
    OneWay,
    /// One side streams, or both do.
    Stream(StreamKind),
}

/// What the handler is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behaviour {
    /// Answer at once; of a stream, follow the script.
    Echo,
    /// Answer when a timer has fired.
    Wait,
    /// The same, twice in a row.
    WaitTwice,
    /// Wake itself several times before it answers.
    WakeSelf,
    /// Answer at once, and wake a waker of the past later on.
    WakeLate,
    /// Fail at once.
    Fail,
    /// Panic at once.
    Panic,
    /// Panic when a timer has fired.
    PanicLater,
    /// Never answer.
    Never,
    /// Never answer, and panic when dropped.
    PanicOnDrop,
    /// End without an answer.
    Mute,
    /// Answer with more than the caller accepts.
    TooMuch,
}

/// The behaviours by their number on the wire.
pub(crate) const BEHAVIOURS: [Behaviour; 12] = [
    Behaviour::Echo,
    Behaviour::Wait,
    Behaviour::WaitTwice,
    Behaviour::WakeSelf,
    Behaviour::WakeLate,
    Behaviour::Fail,
    Behaviour::Panic,
    Behaviour::PanicLater,
    Behaviour::Never,
    Behaviour::PanicOnDrop,
    Behaviour::Mute,
    Behaviour::TooMuch,
];

impl Behaviour {
    /// Whether its handler ends only when it is made to end.
    pub(crate) fn is_endless(self) -> bool {
        matches!(self, Self::Never | Self::PanicOnDrop)
    }
}

/// The fixed part of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) behaviour: Behaviour,
    /// How many more servers the call goes to: each calls the next one, and the last one behaves as asked.
    pub(crate) hops: u8,
    /// How long timers take, in µs.
    pub(crate) delay_us: u32,
    /// How many bytes the answer carries in addition to the id.
    pub(crate) reply_bytes: u32,
    /// What the two ends of a stream do.
    pub(crate) script: Script,
    /// The key that it belongs to; 0 for none.
    pub(crate) key: u8,
    /// Whether the request names the key.
    pub(crate) named: bool,
    /// What its handler does on other shards before it answers; 0 for nothing.
    pub(crate) errand: u8,
}

const HEAD_BYTES: usize = 18;
const SUM_AT: usize = HEAD_BYTES + SCRIPT_BYTES;
const ASK_BYTES: usize = SUM_AT + 8;

impl Ask {
    /// A request to answer at once with a few bytes.
    pub(crate) fn plain(id: u64) -> Self {
        Self {
            id,
            behaviour: Behaviour::Echo,
            hops: 0,
            delay_us: 1,
            reply_bytes: 8,
            script: Script::default(),
            key: 0,
            named: false,
            errand: 0,
        }
    }

    /// The hash of its key.
    pub(crate) fn key_hash(&self) -> Option<u64> {
        (self.key > 0).then(|| key_hash(&self.key))
    }

    /// What the head of the request says of its key.
    pub(crate) fn named_key(&self) -> Option<u64> {
        self.key_hash().filter(|_| self.named)
    }

    /// The body, with `more` bytes after the fixed part.
    pub(crate) fn body(&self, more: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(ASK_BYTES + more);
        body.extend_from_slice(&self.id.to_le_bytes());
        let number = BEHAVIOURS.iter().position(|other| *other == self.behaviour).unwrap_or(0);
        // What a mesh is needed for shares bytes with the rest, so that a request without it is as it always was.
        body.push(u8::try_from(number).unwrap_or(0) | self.errand << 4);
        body.push(self.hops | u8::from(self.named) << 2 | self.key << 3);
        body.extend_from_slice(&self.delay_us.to_le_bytes());
        body.extend_from_slice(&self.reply_bytes.to_le_bytes());
        body.extend_from_slice(&self.script.bytes());
        let sum = sum(&body);
        body.extend_from_slice(&sum.to_le_bytes());
        fill(&mut body, self.id, more);
        body
    }

    /// Reads a body; `None` if it is not one that [`body`](Self::body) made.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (fixed, more) = body.split_at_checked(ASK_BYTES)?;
        let (head, stated) = fixed.split_at_checked(SUM_AT)?;
        if sum(head).to_le_bytes() != stated {
            return None;
        }
        let id = u64::from_le_bytes(*head.first_chunk()?);
        let (first, second) = (*head.get(8)?, *head.get(9)?);
        let behaviour = *BEHAVIOURS.get(usize::from(first & 15))?;
        let (errand, hops) = (first >> 4, second & 3);
        let (key, named) = (second >> 3, second & 4 != 0);
        let delay_us = u32::from_le_bytes(*head.get(10..)?.first_chunk()?);
        let reply_bytes = u32::from_le_bytes(*head.get(14..)?.first_chunk()?);
        let script = Script::read(head.get(HEAD_BYTES..)?.first_chunk()?)?;
        is_filled(more, id).then_some(Self {
            id,
            behaviour,
            hops,
            delay_us,
            reply_bytes,
            script,
            key,
            named,
            errand,
        })
    }

    /// How many bytes an answer has in addition to the id.
    pub(crate) fn read_answer_bytes(body: &[u8]) -> Option<u32> {
        u32::try_from(body.len().checked_sub(8)?).ok()
    }

    /// The body of the answer.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let bytes = self.reply_bytes as usize;
        let mut body = Vec::with_capacity(8 + bytes);
        body.extend_from_slice(&self.id.to_le_bytes());
        fill(&mut body, self.id, bytes);
        body
    }
}

/// Whether a body is the answer to the call with this id.
pub(crate) fn is_answer(body: &[u8], id: u64, reply_bytes: u32) -> bool {
    body.split_at_checked(8).is_some_and(|(head, rest)| {
        head == id.to_le_bytes() && rest.len() == reply_bytes as usize && is_filled(rest, id)
    })
}

/// A message of a stream: whose it is, which way it goes, its number, and `more` bytes.
pub(crate) fn message(id: u64, up: bool, number: u32, more: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(13 + more);
    body.extend_from_slice(&id.to_le_bytes());
    body.push(u8::from(up));
    body.extend_from_slice(&number.to_le_bytes());
    fill(&mut body, id ^ u64::from(number), more);
    body
}

/// Whether a body is exactly this message.
pub(crate) fn is_message(body: &[u8], id: u64, up: bool, number: u32, more: usize) -> bool {
    body.split_at_checked(13).is_some_and(|(head, rest)| {
        head[..8] == id.to_le_bytes()
            && head[8] == u8::from(up)
            && head[9..] == number.to_le_bytes()
            && rest.len() == more
            && is_filled(rest, id ^ u64::from(number))
    })
}

fn filler(id: u64) -> impl Iterator<Item = u8> {
    let [a, b, ..] = id.to_le_bytes();
    (0u64..).map(move |at| {
        let [low, high, ..] = at.to_le_bytes();
        low.wrapping_mul(31) ^ high ^ a ^ b.rotate_left(3)
    })
}

fn fill(body: &mut Vec<u8>, id: u64, count: usize) {
    body.extend(filler(id).take(count));
}

fn is_filled(rest: &[u8], id: u64) -> bool {
    rest.iter().copied().eq(filler(id).take(rest.len()))
}

/// FNV-1a of 64 bits: a mutated body must not be taken for another one.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written_and_no_changed_one_is() {
        let ask = Ask {
            behaviour: Behaviour::Wait,
            delay_us: 12,
            reply_bytes: 9,
            hops: 2,
            key: 31,
            named: true,
            errand: 7,
            ..Ask::plain(77)
        };
        let body = ask.body(40);
        assert_eq!(Ask::read(&body), Some(ask));
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 4;
            assert_eq!(Ask::read(&changed), None, "byte {at}");
        }
        assert!(is_answer(&ask.answer(), 77, 9) && !is_answer(&ask.answer(), 78, 9));
        let body = message(77, true, 3, 20);
        assert!(is_message(&body, 77, true, 3, 20));
        assert!(!is_message(&body, 77, false, 3, 20) && !is_message(&body, 77, true, 4, 20));
    }
}
