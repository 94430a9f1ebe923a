//! Bytes that are meant to harm: no abort, no panic, and no more memory than the bound says.
#![allow(
    clippy::cast_possible_truncation,
    reason = "any bits do as random bytes, and lengths are small"
)]

#[path = "messages/zoo.rs"]
mod zoo;

use corewire::Bytes;
use corewire::codec::DecodeError;
use corewire::message::{
    AMPLIFICATION, DEPTH_MAX, MEMORY_FLOOR, from_json, from_protobuf, to_json, to_protobuf,
};
use speedy::{Readable, Writable};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use zoo::{Dice, Nothing, Page, Tree, Zoo};

/// Counts what this thread has allocated, and the most that it had.
struct Counting;

thread_local! {
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(grown: usize, shrunk: usize) {
    // A thread that ends may free after its counters are gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = (now + grown).saturating_sub(shrunk);
        held.set((now, most.max(now)));
    });
}

// SAFETY: everything is passed on to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may be there at once.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` had allocated at most, above what there was before.
fn most_allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let done = work();
    (done, HELD.with(Cell::get).1 - before)
}

/// The codecs, by a way to write and one to read.
type Write = fn(&Zoo) -> Vec<u8>;
type Read = fn(&Bytes) -> Result<Zoo, DecodeError>;

fn speedy(bytes: &Bytes) -> Result<Zoo, DecodeError> {
    <corewire::codec::Speedy as corewire::codec::Decode<Zoo>>::decode(bytes.clone())
}

const CODECS: [(&str, Write, Read); 3] = [
    ("speedy", |zoo| zoo.write_to_vec().expect("speedy"), speedy),
    ("protobuf", |zoo| to_protobuf(zoo).expect("protobuf"), from_protobuf),
    ("JSON", |zoo| to_json(zoo).expect("JSON").into_bytes(), |bytes| from_json(bytes)),
];

/// Changes some bytes, cuts, repeats or inserts.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.next() as u8),
            2 => {
                let piece = bytes[at..(at + 20).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            3 if at + 4 <= bytes.len() => bytes[at..at + 4].fill(0xff),
            _ if at < bytes.len() => bytes[at] = dice.next() as u8,
            _ => {}
        }
    }
}

#[test]
fn mutated_messages_end_within_the_bound() {
    // The count that the project is measured by is 1,000,000; a test run takes a part of it.
    let rounds =
        std::env::var("COREWIRE_MUTATIONS").map_or(20_000, |it| it.parse().expect("a count"));
    for (name, write, read) in CODECS {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..rounds {
            let mut dice = Dice(seed);
            let mut bytes = write(&dice.zoo());
            mutate(&mut bytes, &mut dice);
            let bytes = Bytes::from(bytes);
            let (read, most) = most_allocated(|| read(&bytes).map(|zoo| write(&zoo)));
            let bound = 3 * (AMPLIFICATION * bytes.len() + MEMORY_FLOOR);
            assert!(most <= bound, "{name}, seed {seed}: {most} above {bound}");
            match read {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        assert!(good > rounds / 100 && bad > rounds / 100, "{name}: {good} good, {bad} bad");
    }
}

#[test]
fn random_messages_come_back_and_cost_no_more_than_the_bound() {
    for (name, write, read) in CODECS {
        for seed in 0..2_000 {
            let zoo = Dice(seed).zoo();
            let bytes = Bytes::from(write(&zoo));
            let (back, most) = most_allocated(|| read(&bytes));
            assert_eq!(back.as_ref().ok(), Some(&zoo), "{name}, seed {seed}");
            assert!(most <= 3 * (AMPLIFICATION * bytes.len() + MEMORY_FLOOR), "{name}: {most}");
        }
    }
}

/// A tree of this many levels in protobuf: each is the field 3 of the one around it.
fn nested_protobuf(levels: usize) -> Bytes {
    let mut reversed = Vec::new();
    for _ in 1..levels {
        let length = reversed.len();
        let mut head = vec![0x1a];
        let mut rest = length;
        while rest >= 0x80 {
            head.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        head.push(rest as u8);
        reversed.extend(head.iter().rev());
    }
    reversed.reverse();
    reversed.into()
}

fn nested_speedy(levels: usize) -> Bytes {
    // `value`, no children, and a `best`; the last has none.
    let mut bytes = [0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(levels);
    *bytes.last_mut().expect("a level") = 0;
    bytes.into()
}

fn nested_json(levels: usize) -> Bytes {
    let mut text = r#"{"best":"#.repeat(levels - 1);
    text.push_str("{}");
    text.push_str(&"}".repeat(levels - 1));
    text.into()
}

#[test]
fn a_million_levels_are_a_clean_error_and_a_hundred_are_read() {
    type ReadTree = fn(&Bytes) -> Result<Tree, DecodeError>;
    let speedy: ReadTree =
        |bytes| <corewire::codec::Speedy as corewire::codec::Decode<Tree>>::decode(bytes.clone());
    type Nested = fn(usize) -> Bytes;
    let codecs: [(Nested, ReadTree); 3] = [
        (nested_speedy, speedy),
        (nested_protobuf, from_protobuf),
        (nested_json, |bytes| from_json(bytes)),
    ];
    for (nested, read) in codecs {
        // The outermost of a protobuf body is not nested.
        let most = DEPTH_MAX as usize;
        read(&nested(most)).expect("as deep as allowed");
        for levels in [most + 2, 1_000_000] {
            let error = read(&nested(levels)).expect_err("too deep").to_string();
            assert!(error.contains("more than 100 messages are nested"), "{levels}: {error:.300}");
        }
    }
}

#[test]
fn what_nests_too_deep_is_not_written_either() {
    let mut tree = Tree::default();
    for _ in 0..2 * DEPTH_MAX {
        tree = Tree { best: Some(Box::new(tree)), ..Tree::default() };
    }
    let told = |error: String| error.contains("more than 100 messages are nested");
    assert!(told(to_protobuf(&tree).expect_err("too deep").to_string()));
    assert!(tree.write_to_vec().is_err_and(|error| told(error.to_string())));
    let json = to_json(&tree).expect("up to three objects for each message");
    assert!(from_json::<Tree>(json.as_bytes()).is_err());
}

#[test]
fn a_length_promises_no_more_than_follows() {
    // Four bytes that promise 4,294,967,295 elements which have no fields.
    let bytes = [0xff, 0xff, 0xff, 0xff, 0];
    let (read, most) = most_allocated(|| Page::<Nothing>::read_from_buffer(&bytes));
    assert!(read.is_err_and(|error| error.to_string().contains("promises more than follows")));
    assert!(most < 1024, "{most}");
    let (read, most) = most_allocated(|| Vec::<Nothing>::read_from_buffer(&bytes));
    assert!(read.is_err());
    assert!(most < 1024, "{most}");
    assert_eq!(Nothing {}.write_to_vec().expect("a byte"), [0]);
    assert_eq!(to_protobuf(&Nothing {}).expect("nothing"), b"");
}

/// Takes little on the wire and much in memory: 576 bytes for 2.
#[corewire::message]
#[derive(Debug, Default)]
struct Wide {
    #[id(1)]
    f1: Option<String>,
    #[id(2)]
    f2: Option<String>,
    #[id(3)]
    f3: Option<String>,
    #[id(4)]
    f4: Option<String>,
    #[id(5)]
    f5: Option<String>,
    #[id(6)]
    f6: Option<String>,
    #[id(7)]
    f7: Option<String>,
    #[id(8)]
    f8: Option<String>,
    #[id(9)]
    f9: Option<String>,
    #[id(10)]
    f10: Option<String>,
    #[id(11)]
    f11: Option<String>,
    #[id(12)]
    f12: Option<String>,
    #[id(13)]
    f13: Option<String>,
    #[id(14)]
    f14: Option<String>,
    #[id(15)]
    f15: Option<String>,
    #[id(16)]
    f16: Option<String>,
    #[id(17)]
    f17: Option<String>,
    #[id(18)]
    f18: Option<String>,
    #[id(19)]
    f19: Option<String>,
    #[id(20)]
    f20: Option<String>,
    #[id(21)]
    f21: Option<String>,
    #[id(22)]
    f22: Option<String>,
    #[id(23)]
    f23: Option<String>,
    #[id(24)]
    f24: Option<String>,
}

#[test]
fn lists_of_what_takes_much_memory_are_bounded() {
    let protobuf = Bytes::from(b"\x0a\x00".repeat(1_000_000));
    let json = Bytes::from(format!("{{\"items\":[{}{{}}]}}", "{},".repeat(1_000_000)));
    let mut speedy = 1_000_000_u32.to_le_bytes().to_vec();
    speedy.resize(24 * 1_000_000 + 5, 0);
    type ReadPage = fn(&Bytes) -> Result<Page<Wide>, DecodeError>;
    let reads: [(Bytes, ReadPage); 2] =
        [(protobuf, from_protobuf), (json, |bytes| from_json(bytes))];
    for (bytes, read) in reads {
        let (read, most) = most_allocated(|| read(&bytes));
        let error = read.expect_err("too much memory").to_string();
        assert!(error.contains("64 times its bytes"), "{error:.300}");
        assert!(most <= 3 * (AMPLIFICATION * bytes.len() + MEMORY_FLOOR), "{most}");
    }
    // In speedy each element takes 24 bytes at least, which is within the bound.
    let (read, most) = most_allocated(|| Page::<Wide>::read_from_buffer(&speedy));
    assert_eq!(read.expect("24 times its bytes").items.len(), 1_000_000);
    assert!(most <= AMPLIFICATION * speedy.len() + MEMORY_FLOOR, "{most}");
}
