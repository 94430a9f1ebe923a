//! The ends of the network's wires in this simulation.

use crate::core::Core;

pub(crate) use corewire_testing::net::endpoint::{Accepted, address, number};

/// A poll set of this simulation's network.
pub(crate) type SimIo = corewire_testing::net::endpoint::SimIo<Core>;
