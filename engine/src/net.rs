//! Sockets: what the kernel offers to one shard.

#[cfg(feature = "shard")]
pub(crate) mod doorbell;
#[allow(
    unsafe_code,
    reason = "bytes that the kernel wrote are declared initialised; proof in place"
)]
#[cfg(feature = "shard")]
pub mod epoll;
#[cfg(feature = "shard")]
pub mod io;
#[cfg(feature = "shard")]
pub(crate) mod listener;
#[cfg(feature = "shard")]
pub(crate) mod recv_pool;
