//! Which shard owns a key: the bytes of a key, their hash, and the owner that follows from it.
//!
//! Clients and servers in any language must come to the same owner, so `docs/PROTOCOL.md` specifies all three
//! (REQ-96, REQ-97), and `engine/proto/tests/keys.txt` is a table to check an implementation with.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::identity::ShardId;

/// A value that says which shard its call belongs to: the key of `#[corewire(key = "…")]`, and of a store that is spread
/// over the shards.
///
/// Texts and byte strings are hashed as their bytes, integers as their own width in little-endian order (`usize` and
/// `isize` as 64 bits), a `bool` as one byte, a `char` as four. So `7u32` and `7u64` are different keys, and `"a"`
/// and `b"a"` are the same. References, boxes and shared pointers are what they point to.
///
/// A type of one's own gives the bytes of the part that identifies it. Two keys that are equal must give the same bytes.
/// Keys that differ may give the same bytes: then they have one owner. The hash is public and has no secret, so
/// whoever chooses keys can choose them for one shard.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::{ShardKey, owner_of_key};
///
/// struct Account { tenant: u32, number: u32 }
///
/// impl ShardKey for Account {
///     /// All accounts of a tenant are on one shard.
///     fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
///         self.tenant.with_key_bytes(take)
///     }
/// }
///
/// let (one, two) = (Account { tenant: 7, number: 1 }, Account { tenant: 7, number: 2 });
/// assert_eq!(owner_of_key(&one, 16), owner_of_key(&two, 16));
/// # let _ = one.number + two.number;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a call: it has no bytes to hash",
    label = "cannot be a key",
    note = "texts, byte strings, integers, `bool` and `char` can; for a type of your own, implement `corewire::ShardKey`"
)]
pub trait ShardKey {
    /// Gives the bytes that identify the key to `take`, once, and returns what it returns.
    fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R;
}

/// The hash of a key: XXH3 of 64 bits, with seed 0, over its bytes (REQ-96). It is the same in every process, on every
/// machine and in every release.
///
/// It costs a few nanoseconds for keys of up to a few hundred bytes.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::key_hash;
///
/// assert_eq!(key_hash("user:42"), 0x9fc1_e605_fa71_74aa);
/// assert_eq!(key_hash("user:42"), key_hash(&"user:42".to_owned()));
/// assert_ne!(key_hash(&42u32), key_hash(&42u64));
/// ```
#[must_use]
#[inline]
pub fn key_hash<K: ShardKey + ?Sized>(key: &K) -> u64 {
    key.with_key_bytes(XxHash3_64::oneshot)
}

/// The shard that owns the keys with this hash, of a server that has `shards` shards: `hash × shards / 2⁶⁴`, rounded
/// down (REQ-97). A server always has one; 0 is taken for 1.
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::{ShardId, key_hash, owner_of};
///
/// assert_eq!(owner_of(key_hash("user:42"), 4), ShardId(2));
/// assert_eq!(owner_of(key_hash("user:42"), 1), ShardId(0));
/// ```
#[must_use]
#[inline]
pub const fn owner_of(hash: u64, shards: u16) -> ShardId {
    // The product has at most 80 bits, and its upper part is below `shards`.
    #[allow(clippy::cast_possible_truncation, reason = "the quotient is below a u16")]
    let owner = ((hash as u128).wrapping_mul(shards as u128) >> 64) as u16;
    ShardId(owner)
}

/// The shard that owns a key: [`owner_of`] its [`key_hash`].
///
/// ```
/// # use corewire_proto as corewire;
/// use corewire::{ShardId, owner_of_key};
///
/// assert_eq!(owner_of_key("user:42", 4), ShardId(2));
/// ```
#[must_use]
#[inline]
pub fn owner_of_key<K: ShardKey + ?Sized>(key: &K, shards: u16) -> ShardId {
    owner_of(key_hash(key), shards)
}

/// Types whose bytes are there already.
macro_rules! of_bytes {
    ($($key:ty => $bytes:expr;)*) => { $(
        impl ShardKey for $key {
            #[inline]
            fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
                let bytes: fn(&Self) -> &[u8] = $bytes;
                take(bytes(self))
            }
        }
    )* };
}

of_bytes! {
    str => |key| key.as_bytes();
    String => |key| key.as_bytes();
    [u8] => |key| key;
    Vec<u8> => |key| key;
    Bytes => |key| key;
}

impl<const N: usize> ShardKey for [u8; N] {
    #[inline]
    fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
        take(self)
    }
}

/// Types with a fixed number of bytes.
macro_rules! of_numbers {
    ($($key:ty => $bytes:expr;)*) => { $(
        impl ShardKey for $key {
            #[inline]
            fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
                let bytes: fn(Self) -> _ = $bytes;
                take(&bytes(*self))
            }
        }
    )* };
}

of_numbers! {
    u8 => Self::to_le_bytes;
    u16 => Self::to_le_bytes;
    u32 => Self::to_le_bytes;
    u64 => Self::to_le_bytes;
    u128 => Self::to_le_bytes;
    i8 => Self::to_le_bytes;
    i16 => Self::to_le_bytes;
    i32 => Self::to_le_bytes;
    i64 => Self::to_le_bytes;
    i128 => Self::to_le_bytes;
    usize => |key| (key as u64).to_le_bytes();
    isize => |key| (key as i64).to_le_bytes();
    bool => |key| [u8::from(key)];
    char => |key| u32::from(key).to_le_bytes();
}

/// Types that stand for what they point to.
macro_rules! of_pointers {
    ($([$($generics:tt)*] $key:ty;)*) => { $(
        impl<$($generics)*> ShardKey for $key {
            #[inline]
            fn with_key_bytes<R>(&self, take: impl FnOnce(&[u8]) -> R) -> R {
                (**self).with_key_bytes(take)
            }
        }
    )* };
}

of_pointers! {
    [K: ShardKey + ?Sized] &K;
    [K: ShardKey + ?Sized] Box<K>;
    [K: ShardKey + ?Sized] Rc<K>;
    [K: ShardKey + ?Sized] Arc<K>;
    [K: ShardKey + ToOwned + ?Sized] Cow<'_, K>;
}
