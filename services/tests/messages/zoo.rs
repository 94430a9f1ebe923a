//! Messages of every shape, and random ones.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "any bits do as random numbers"
)]

use corewire::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

#[corewire::message(name = "zoo.v1.Zoo", reserved(90, 95..=99))]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Zoo {
    #[id(1)]
    pub(crate) flag: bool,
    #[id(2)]
    pub(crate) small: u8,
    #[id(3)]
    pub(crate) short: i16,
    #[id(4)]
    pub(crate) count: u64,
    #[id(5)]
    pub(crate) name: String,
    #[id(6)]
    pub(crate) data: Vec<u8>,
    #[id(7)]
    pub(crate) shared: Bytes,
    #[id(8)]
    pub(crate) numbers: Vec<i64>,
    #[id(9)]
    pub(crate) names: Vec<String>,
    #[id(10)]
    pub(crate) maybe: Option<u32>,
    #[id(11)]
    pub(crate) ratio: f32,
    #[id(12)]
    pub(crate) exact: f64,
    #[id(13)]
    pub(crate) color: Color,
    #[id(14)]
    pub(crate) colors: Vec<Color>,
    #[id(15)]
    pub(crate) leaf: Leaf,
    #[id(16)]
    pub(crate) leaves: Vec<Leaf>,
    #[id(17)]
    pub(crate) animal: Option<Animal>,
    #[id(18)]
    pub(crate) animals: Vec<Animal>,
    #[id(19)]
    pub(crate) tree: Tree,
    #[id(20)]
    pub(crate) lasts: Duration,
    #[id(21)]
    pub(crate) since: SystemTime,
    #[id(22)]
    pub(crate) by_name: BTreeMap<String, Leaf>,
    #[id(23)]
    pub(crate) by_number: HashMap<i32, String>,
    #[id(24)]
    pub(crate) by_flag: HashMap<bool, f64>,
    #[id(25)]
    pub(crate) page: Page<Leaf>,
    #[id(100)]
    pub(crate) blobs: Vec<Vec<u8>>,
}

#[corewire::message(name = "zoo.v1.Color")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Color {
    #[id(0)]
    White,
    #[id(1)]
    Yellow,
    #[id(5)]
    LightRed,
    #[unknown]
    Other(i32),
}

#[corewire::message(name = "zoo.v1.Leaf")]
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Leaf {
    #[id(1)]
    pub(crate) value: u32,
}

/// A oneof.
#[corewire::message(name = "zoo.v1.Animal")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Animal {
    #[id(1)]
    Nobody,
    #[id(2)]
    Named(String),
    #[id(3)]
    Planted(Box<Tree>),
    #[id(4)]
    Counted(u64),
}

/// Holds itself.
#[corewire::message(name = "zoo.v1.Tree")]
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tree {
    #[id(1)]
    pub(crate) value: i32,
    #[id(2)]
    pub(crate) children: Vec<Self>,
    #[id(3)]
    pub(crate) best: Option<Box<Self>>,
}

/// A part of a list of anything.
#[corewire::message(name = "zoo.v1.Page")]
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Page<T> {
    #[id(1)]
    pub(crate) items: Vec<T>,
    #[id(2)]
    pub(crate) next: Option<u64>,
}

/// Has no fields.
#[corewire::message(name = "zoo.v1.Nothing")]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Nothing {}

/// Random numbers, the same for each seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number (splitmix64).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// A number of any size, small ones and bounds more often than others.
    fn wide(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(3),
            1 => u64::MAX - self.below(3),
            2 => (1 << self.below(64)) - self.below(2),
            _ => self.next(),
        }
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| element(self)).collect()
    }

    fn text(&mut self) -> String {
        const CHARACTERS: [char; 12] =
            ['a', 'Z', '0', ' ', '"', '\\', '\n', '\u{0}', '\u{7f}', 'é', '\u{2028}', '🦀'];
        let length = if self.below(20) == 0 { 200 } else { self.below(6) };
        (0..length).map(|_| CHARACTERS[self.below(12) as usize]).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = if self.below(20) == 0 { 300 } else { self.below(6) };
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn float(&mut self) -> f64 {
        match self.below(6) {
            0 => 0.0,
            1 => -0.0,
            2 => f64::INFINITY,
            3 => f64::NEG_INFINITY,
            4 => self.next() as f64 / 7.0,
            _ => Some(f64::from_bits(self.next())).filter(|it| !it.is_nan()).unwrap_or(1.5),
        }
    }

    fn color(&mut self) -> Color {
        match self.below(4) {
            0 => Color::White,
            1 => Color::Yellow,
            2 => Color::LightRed,
            _ => Color::Other(6 + self.below(1000) as i32),
        }
    }

    fn leaf(&mut self) -> Leaf {
        Leaf { value: self.wide() as u32 }
    }

    fn tree(&mut self, depth: u64) -> Tree {
        let deeper = depth > 0;
        Tree {
            value: self.wide() as i32,
            children: if deeper { self.list(|it| it.tree(depth - 1)) } else { Vec::new() },
            best: (deeper && self.flag()).then(|| Box::new(self.tree(depth - 1))),
        }
    }

    fn animal(&mut self) -> Animal {
        match self.below(4) {
            0 => Animal::Nobody,
            1 => Animal::Named(self.text()),
            2 => Animal::Planted(Box::new(self.tree(2))),
            _ => Animal::Counted(self.wide()),
        }
    }

    fn since(&mut self) -> SystemTime {
        let seconds = self.next() % 253_402_300_800;
        let distance = Duration::new(seconds, self.nanos());
        let before = Duration::new(seconds % 62_135_596_800, self.nanos());
        if self.flag() {
            SystemTime::UNIX_EPOCH + distance
        } else {
            SystemTime::UNIX_EPOCH - before
        }
    }

    fn nanos(&mut self) -> u32 {
        let digits = 10_u64.pow(3 * self.below(4) as u32);
        (self.below(1_000_000_000) / digits * digits) as u32
    }

    /// A message with something in each of its fields, or not.
    pub(crate) fn zoo(&mut self) -> Zoo {
        Zoo {
            flag: self.flag(),
            small: self.next() as u8,
            short: self.wide() as i16,
            count: self.wide(),
            name: self.text(),
            data: self.bytes(),
            shared: self.bytes().into(),
            numbers: self.list(|it| it.wide() as i64),
            names: self.list(Self::text),
            maybe: self.flag().then(|| self.wide() as u32),
            ratio: Some(self.float() as f32).filter(|it| !it.is_nan()).unwrap_or(0.1),
            exact: self.float(),
            color: self.color(),
            colors: self.list(Self::color),
            leaf: self.leaf(),
            leaves: self.list(Self::leaf),
            animal: self.flag().then(|| self.animal()),
            animals: self.list(Self::animal),
            tree: self.tree(3),
            lasts: Duration::new(self.below(315_576_000_000), self.nanos()),
            since: self.since(),
            by_name: self.list(|it| (it.text(), it.leaf())).into_iter().collect(),
            by_number: self.list(|it| (it.wide() as i32, it.text())).into_iter().collect(),
            by_flag: self.list(|it| (it.flag(), it.float())).into_iter().collect(),
            page: Page { items: self.list(Self::leaf), next: self.flag().then(|| self.wide()) },
            blobs: self.list(Self::bytes),
        }
    }
}
