//! What clients send and servers answer: bodies that tell whose they are, and what is to be done.

/// What kind of call it is. Streams and one-way calls will be others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    /// One request, one reply.
    Unary,
}

/// What the handler is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behaviour {
    /// Answer at once.
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

/// The fixed part of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) behaviour: Behaviour,
    /// How long timers take, in µs.
    pub(crate) delay_us: u32,
    /// How many bytes the answer carries besides the id.
    pub(crate) reply_bytes: u32,
}

const ASK_BYTES: usize = 25;

impl Ask {
    /// The body, with so many more bytes behind the fixed part.
    pub(crate) fn body(&self, more: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(ASK_BYTES + more);
        body.extend_from_slice(&self.id.to_le_bytes());
        let number = BEHAVIOURS.iter().position(|other| *other == self.behaviour).unwrap_or(0);
        body.push(u8::try_from(number).unwrap_or(0));
        body.extend_from_slice(&self.delay_us.to_le_bytes());
        body.extend_from_slice(&self.reply_bytes.to_le_bytes());
        let sum = sum(&body);
        body.extend_from_slice(&sum.to_le_bytes());
        fill(&mut body, self.id, more);
        body
    }

    /// Reads a body; `None` if it is not one that [`body`](Self::body) made.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (fixed, more) = body.split_at_checked(ASK_BYTES)?;
        let (head, stated) = fixed.split_at_checked(17)?;
        if sum(head).to_le_bytes() != stated {
            return None;
        }
        let id = u64::from_le_bytes(*head.first_chunk()?);
        let behaviour = *BEHAVIOURS.get(usize::from(*head.get(8)?))?;
        let delay_us = u32::from_le_bytes(*head.get(9..)?.first_chunk()?);
        let reply_bytes = u32::from_le_bytes(*head.get(13..)?.first_chunk()?);
        is_filled(more, id).then_some(Self { id, behaviour, delay_us, reply_bytes })
    }

    /// How many bytes an answer has besides the id.
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
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written_and_no_changed_one_is() {
        let ask = Ask { id: 77, behaviour: Behaviour::Wait, delay_us: 12, reply_bytes: 9 };
        let body = ask.body(40);
        assert_eq!(Ask::read(&body), Some(ask));
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 4;
            assert_eq!(Ask::read(&changed), None, "byte {at}");
        }
        assert!(is_answer(&ask.answer(), 77, 9) && !is_answer(&ask.answer(), 78, 9));
    }
}
