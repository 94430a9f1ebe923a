//! Where the frames of a direction begin and end, as its reader takes them.

use corewire_codec::{HEADER_BYTES, PREAMBLE_BYTES};

/// What was taken of a direction, in frames. Bytes that do not follow the protocol give arbitrary results.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Whole frames that were taken; the hello is the first.
    whole: u64,
    /// The first bytes of the next frame, as many as are there.
    head: [u8; HEADER_BYTES],
    have: usize,
    /// What is missing of that frame, once its head is there.
    rest: Option<usize>,
    /// When its first byte was taken.
    since: Option<u64>,
}

impl Frames {
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    /// Since when there is a frame of which something is missing.
    pub(super) fn partial_since(&self) -> Option<u64> {
        self.since
    }

    /// These bytes are taken.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: u64) {
        while !bytes.is_empty() {
            self.since.get_or_insert(now);
            let rest = match self.rest {
                Some(rest) => rest,
                None => match self.take_head(&mut bytes) {
                    Some(rest) => rest,
                    None => return,
                },
            };
            let taken = rest.min(bytes.len());
            bytes = &bytes[taken..];
            self.rest = Some(rest - taken);
            if taken == rest {
                let whole = self.whole + 1;
                *self = Self { whole, ..Self::default() };
            }
        }
    }

    /// Takes what is missing of the head; returns how much follows it, if it is whole.
    fn take_head(&mut self, bytes: &mut &[u8]) -> Option<usize> {
        let wanted = if self.whole == 0 { PREAMBLE_BYTES } else { HEADER_BYTES };
        let taken = bytes.len().min(wanted - self.have);
        let (new, others) = bytes.split_at(taken);
        self.head[self.have..self.have + taken].copy_from_slice(new);
        self.have += taken;
        *bytes = others;
        if self.have < wanted {
            return None;
        }
        let [a, b, c, d, _, _, e, f, ..] = self.head;
        let rest = if self.whole == 0 {
            u16::from_le_bytes([e, f]).into()
        } else {
            u32::from_le_bytes([a, b, c, d])
        };
        Some(rest as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with two bytes of records, an empty frame, and one with three bytes.
    fn said() -> Vec<u8> {
        let mut bytes = vec![0xc7, b'W', b'R', b'E', 1, 0, 2, 0, 7, 7];
        bytes.extend([0; 16]);
        bytes.extend([3, 0, 0, 0]);
        bytes.extend([0; 12]);
        bytes.extend([9; 3]);
        bytes
    }

    #[test]
    fn frames_end_where_they_end_however_they_come() {
        let bytes = said();
        let ends = [10, 26, 45];
        for step in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut at = 0;
            for (now, piece) in (1..).zip(bytes.chunks(step)) {
                frames.take(piece, now);
                at += piece.len();
                let whole = ends.iter().filter(|&&end| end <= at).count();
                assert_eq!(frames.whole(), whole as u64, "{at} bytes in pieces of {step}");
                assert_eq!(frames.partial_since().is_none(), ends.contains(&at), "{at} of {step}");
            }
        }
    }

    #[test]
    fn the_time_of_a_frame_is_that_of_its_first_byte() {
        let mut frames = Frames::default();
        frames.take(&said()[..27], 5);
        assert_eq!((frames.whole(), frames.partial_since()), (2, Some(5)), "it came with others");
        frames.take(&said()[27..44], 9);
        assert_eq!(frames.partial_since(), Some(5));
        frames.take(&said()[44..], 11);
        assert_eq!((frames.whole(), frames.partial_since()), (3, None));
    }
}
