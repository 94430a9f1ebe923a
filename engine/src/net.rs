//! Sockets: the kernel's interface for one shard.

pub(crate) mod doorbell;
#[allow(
    unsafe_code,
    reason = "bytes that the kernel wrote are declared initialised; proof in place"
)]
pub(crate) mod epoll;
pub(crate) mod holder;
pub(crate) mod io;
pub(crate) mod listener;
pub(crate) mod recv_pool;
pub(crate) mod steering;
