//! Stable method ids.

use core::fmt;

/// The number of a method on the wire: FNV-1a (32 bits) over `service/method` (REQ-30).
///
/// It follows from names alone, so reordering or adding methods never changes it. Two methods of
/// one server whose names collide are refused when the service is compiled or the server built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(pub u32);

impl MethodId {
    /// The id of `method` in `service`.
    ///
    /// ```
    /// # use corewire_codec::MethodId;
    /// assert_eq!(MethodId::of("Echo", "echo"), MethodId::of("Echo", "echo"));
    /// assert_ne!(MethodId::of("Echo", "echo"), MethodId::of("Ech", "o/echo"));
    /// ```
    #[must_use]
    pub const fn of(service: &str, method: &str) -> Self {
        let hash = fnv1a(0x811c_9dc5, service.as_bytes());
        let hash = fnv1a(hash, b"/");
        Self(fnv1a(hash, method.as_bytes()))
    }
}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MethodId({:#010x})", self.0)
    }
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// One FNV-1a pass (Fowler, Noll, Vo; RFC 9923), 32-bit variant.
const fn fnv1a(mut hash: u32, mut bytes: &[u8]) -> u32 {
    while let Some((&byte, rest)) = bytes.split_first() {
        hash = (hash ^ byte as u32).wrapping_mul(0x0100_0193);
        bytes = rest;
    }
    hash
}
