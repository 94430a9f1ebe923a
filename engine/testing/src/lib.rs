//! The ground of Corewire's simulations, and the one that users test their services with.
//!
//! What runs is production's driver, channels and protocol; sockets, clock and threads are simulated, on one thread, by a
//! seed:
//!
//! - [`ground`]: virtual time, the dice, future events; [`trace`]: what happened, hashed;
//! - [`net`]: wires, listeners, readiness, and the engine's `Io` over them. What a network is like is asked of the
//!   simulation around it ([`net::Surroundings`]);
//! - [`Simulation`]: hosts with names, commands to harm them, and a test that runs among them. Users find it as
//!   `corewire::testing`.
//!
//! `corewire-sim`, which tests the engine itself, stands on the first two, with hosts, callers and a judge of its own.
#![forbid(unsafe_code)]

mod failure;
pub mod ground;
mod hosts;
pub mod net;
mod network;
mod record;
mod role;
mod simulation;
mod state;
pub mod trace;
mod world;

pub use failure::{FailureKind, SimulationFailed, TestOutcome};
pub use network::Network;
pub use role::SimulatedServer;
pub use simulation::Simulation;
