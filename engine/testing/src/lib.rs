//! The ground of Corewire's simulations: virtual time, the dice and future events ([`ground`]), what happened, hashed
//! ([`trace`]), and the network ([`net`]) with the engine's `Io` over it. What a network is like is asked of the simulation
//! around it ([`net::Surroundings`]).
#![forbid(unsafe_code)]

pub mod ground;
pub mod net;
pub mod trace;
