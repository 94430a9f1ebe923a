//! The bytes of a key, their hash, and the owner: against a table from another implementation, and over many keys.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use corewire_proto::{ShardId, ShardKey, key_hash, owner_of, owner_of_key};
use proptest::prelude::*;

/// One line of the table.
struct Row {
    bytes: Vec<u8>,
    hash: u64,
    owners: Vec<u16>,
    about: &'static str,
}

const TABLE: &str = include_str!("keys.txt");
const SHARDS: [u16; 4] = [2, 3, 8, 1000];

fn row(line: &'static str) -> Row {
    let (values, about) = line.split_once("  # ").unwrap();
    let mut fields = values.split(' ');
    let bytes = fields.next().unwrap();
    let bytes = if let Some(count) = bytes.strip_prefix("0..") {
        (0..=u8::MAX).cycle().take(count.parse().unwrap()).collect()
    } else {
        let hex = bytes.trim_start_matches('-');
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    let hash = u64::from_str_radix(fields.next().unwrap(), 16).unwrap();
    Row { bytes, hash, owners: fields.map(|owner| owner.parse().unwrap()).collect(), about }
}

fn table() -> Vec<Row> {
    let rows: Vec<Row> = TABLE.lines().filter(|line| !line.starts_with('#')).map(row).collect();
    assert!(rows.len() > 30);
    rows
}

/// REQ-96, REQ-97: hashes and owners are those of the table, which the reference implementation of XXH3 made.
#[test]
fn hashes_and_owners_are_those_of_the_table() {
    for Row { bytes, hash, owners, about } in table() {
        assert_eq!(key_hash(&bytes), hash, "{about}");
        let found: Vec<u16> = SHARDS.iter().map(|&shards| owner_of(hash, shards).0).collect();
        assert_eq!(found, owners, "{about}");
    }
}

fn bytes_of<K: ShardKey + ?Sized>(key: &K) -> Vec<u8> {
    key.with_key_bytes(<[u8]>::to_vec)
}

/// REQ-96: each type of the table has the bytes that the table says.
#[test]
fn each_type_gives_its_bytes() {
    let typed: [(&str, Vec<u8>); 17] = [
        ("\"\"", bytes_of("")),
        ("\"a\"", bytes_of("a")),
        ("\"abc\"", bytes_of(&"abc".to_owned())),
        ("\"user:42\"", bytes_of(&Bytes::from_static(b"user:42"))),
        ("\"Grüße\"", bytes_of("Grüße")),
        ("\"corewire\"", bytes_of(b"corewire")),
        ("false", bytes_of(&false)),
        ("true", bytes_of(&true)),
        ("'ß'", bytes_of(&'ß')),
        ("7u8", bytes_of(&7u8)),
        ("7u16", bytes_of(&7u16)),
        ("7u32", bytes_of(&7u32)),
        ("7u64", bytes_of(&7usize)),
        ("7u128", bytes_of(&7u128)),
        ("-1i8", bytes_of(&-1i8)),
        ("-1i32", bytes_of(&-1i32)),
        ("-2i64", bytes_of(&-2isize)),
    ];
    let rows = table();
    for (about, bytes) in typed {
        let row = rows.iter().find(|row| row.about == about).unwrap();
        assert_eq!(bytes, row.bytes, "{about}");
    }
    assert_eq!(bytes_of(&-2i16), (-2i16).to_le_bytes());
    assert_eq!(bytes_of(&-2i128), (-2i128).to_le_bytes());
    assert_eq!(bytes_of(&0xdead_beef_u32), 0xdead_beef_u32.to_le_bytes());
}

#[test]
fn what_points_to_a_key_is_that_key() {
    let text = "user:42";
    let hash = key_hash(text);
    assert_eq!(key_hash(&text), hash);
    assert_eq!(key_hash(&&text.to_owned()), hash);
    assert_eq!(key_hash(&Box::<str>::from(text)), hash);
    assert_eq!(key_hash(&Rc::new(text.to_owned())), hash);
    assert_eq!(key_hash(&Arc::<str>::from(text)), hash);
    assert_eq!(key_hash(&Cow::Borrowed(text)), hash);
    assert_eq!(key_hash(text.as_bytes()), hash);
    assert_eq!(key_hash(&text.as_bytes().to_vec()), hash);
}

/// REQ-97: the ends of the range of hashes belong to the first and the last shard, and no number of shards makes
/// an owner that there is not.
#[test]
fn the_ends_of_the_range_have_owners() {
    for shards in [1, 2, 3, 255, 1000, u16::MAX] {
        assert_eq!(owner_of(0, shards), ShardId(0));
        assert_eq!(owner_of(u64::MAX, shards), ShardId(shards - 1));
    }
    assert_eq!(owner_of(u64::MAX, 0), ShardId(0), "a server has at least one shard");
    assert_eq!(owner_of(u64::MAX / 2, 2), ShardId(0));
    assert_eq!(owner_of(u64::MAX / 2 + 1, 2), ShardId(1));
}

/// How far the fullest and the emptiest of `shards` shards are from their share of `keys`, in standard deviations of a fair
/// draw.
fn deviation(shards: u16, keys: impl Iterator<Item = u64>) -> f64 {
    let mut counts = vec![0_u32; usize::from(shards)];
    let mut total = 0.0;
    for hash in keys {
        counts[usize::from(owner_of(hash, shards).0)] += 1;
        total += 1.0;
    }
    let share = total / f64::from(shards);
    let sigma = (share * (1.0 - 1.0 / f64::from(shards))).sqrt();
    counts.iter().map(|&count| (f64::from(count) - share).abs() / sigma).fold(0.0, f64::max)
}

/// REQ-97: keys that count upwards, as texts and as numbers, are spread evenly: no shard is further from its share than
/// chance explains.
#[test]
fn keys_that_count_are_spread_evenly() {
    const KEYS: u64 = 100_000;
    for shards in [2, 3, 7, 16, 64, 100] {
        let texts = deviation(shards, (0..KEYS).map(|n| key_hash(&format!("user:{n}"))));
        let numbers = deviation(shards, (0..KEYS).map(|n| key_hash(&n)));
        // Of 100 shards the worst is beyond five standard deviations once in 17,000 fair draws.
        assert!(texts < 5.0 && numbers < 5.0, "{shards} shards: {texts}, {numbers}");
    }
    // The check can fail: the keys themselves are not spread at all.
    assert!(deviation(8, 0..KEYS) > 100.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// REQ-97: there is such a shard, and more shards never move a key to a lower share of the range.
    #[test]
    fn an_owner_is_a_shard_that_there_is(hash in any::<u64>(), shards in 1..=u16::MAX) {
        let owner = owner_of(hash, shards);
        prop_assert!(owner.0 < shards);
        let exact = (u128::from(hash) * u128::from(shards)) >> 64;
        prop_assert_eq!(u128::from(owner.0), exact);
        prop_assert!(owner_of(hash, shards.saturating_add(1)) >= owner);
    }

    /// REQ-96: texts and the same bytes are one key; the hash follows from nothing but the bytes.
    #[test]
    fn the_hash_follows_from_the_bytes(text in ".{0,300}") {
        prop_assert_eq!(key_hash(text.as_str()), key_hash(text.as_bytes()));
        prop_assert_eq!(owner_of_key(text.as_str(), 7), owner_of(key_hash(&text), 7));
        let other = format!("{text}\0");
        prop_assert_ne!(key_hash(&text), key_hash(&other));
    }
}
