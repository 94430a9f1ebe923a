//! Messages of every shape.

use corewire::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

#[corewire::message(name = "zoo.v1.Zoo", reserved(90, 95..=99))]
#[derive(Clone, Debug, PartialEq)]
pub struct Zoo {
    #[id(1)]
    pub flag: bool,
    #[id(2)]
    pub small: u8,
    #[id(3)]
    pub short: i16,
    #[id(4)]
    pub count: u64,
    #[id(5)]
    pub name: String,
    #[id(6)]
    pub data: Vec<u8>,
    #[id(7)]
    pub shared: Bytes,
    #[id(8)]
    pub numbers: Vec<i64>,
    #[id(9)]
    pub names: Vec<String>,
    #[id(10)]
    pub maybe: Option<u32>,
    #[id(11)]
    pub ratio: f32,
    #[id(12)]
    pub exact: f64,
    #[id(13)]
    pub color: Color,
    #[id(14)]
    pub colors: Vec<Color>,
    #[id(15)]
    pub leaf: Leaf,
    #[id(16)]
    pub leaves: Vec<Leaf>,
    #[id(17)]
    pub animal: Option<Animal>,
    #[id(18)]
    pub animals: Vec<Animal>,
    #[id(19)]
    pub tree: Tree,
    #[id(20)]
    pub lasts: Duration,
    #[id(21)]
    pub since: SystemTime,
    #[id(22)]
    pub by_name: BTreeMap<String, Leaf>,
    #[id(23)]
    pub by_number: HashMap<i32, String>,
    #[id(24)]
    pub by_flag: HashMap<bool, f64>,
    #[id(25)]
    pub page: Page<Leaf>,
    #[id(100)]
    pub blobs: Vec<Vec<u8>>,
}

#[corewire::message(name = "zoo.v1.Color")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Color {
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
pub struct Leaf {
    #[id(1)]
    pub value: u32,
}

/// A oneof.
#[corewire::message(name = "zoo.v1.Animal")]
#[derive(Clone, Debug, PartialEq)]
pub enum Animal {
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
pub struct Tree {
    #[id(1)]
    pub value: i32,
    #[id(2)]
    pub children: Vec<Tree>,
    #[id(3)]
    pub best: Option<Box<Tree>>,
}

/// A part of a list of anything.
#[corewire::message(name = "zoo.v1.Page")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page<T> {
    #[id(1)]
    pub items: Vec<T>,
    #[id(2)]
    pub next: Option<u64>,
}

/// Has no fields.
#[corewire::message(name = "zoo.v1.Nothing")]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nothing {}
