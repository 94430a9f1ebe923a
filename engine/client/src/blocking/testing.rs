//! Blocking channels over sockets and a clock of the simulator's. The code behind them is that of production, unchanged.

use super::Channel;
pub use super::system::{Connect, Connected, Socket, System};
use crate::address::Address;
use crate::config::ChannelConfig;
use crate::core::channel::CoreSnapshot;

/// A channel over sockets of this system. Settings may be outside their ranges.
#[must_use]
pub fn channel(system: Box<dyn System>, server: Address, config: ChannelConfig) -> Channel {
    Channel::with_system(system, server, config)
}

/// What a channel holds, unless a call is under way on it.
#[must_use]
pub fn snapshot(channel: &Channel) -> Option<CoreSnapshot> {
    channel.client.try_borrow().ok().map(|client| client.core.snapshot())
}
