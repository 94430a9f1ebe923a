//! The flags of every peer; the flags of `load` are those that all load generators of this comparison take.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use corewire_benches::load::flags::{whole, within};
use corewire_cli::pace::{Arrivals, parse_rate};

/// The largest body, in bytes, the same as the floor's.
pub const MAX_BODY: usize = 16 << 20;

/// What a peer's program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Echo what is sent
    Serve(Serve),
    /// Load an echo server with calls
    Load(Load),
}

/// Where to listen and run.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: SocketAddr,
    /// The core to run on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// What load to make.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// The server
    pub addr: SocketAddr,
    /// Bytes of each body
    #[arg(long, default_value_t = 64, value_parser = whole(0..=MAX_BODY))]
    pub payload: usize,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = whole(1..=100_000_usize))]
    pub conns: usize,
    /// Calls in flight on each connection; with --rate, the most that may be
    #[arg(long, default_value_t = 1, value_parser = whole(1..=100_000_usize))]
    pub inflight: usize,
    /// Measured seconds, after half a second of warm-up
    #[arg(long, default_value_t = 2.0, value_parser = within("seconds", 0.05..=3600.0))]
    pub secs: f64,
    /// The core to run on
    #[arg(long)]
    pub cpu: Option<usize>,
    /// A server on this machine whose CPU time and memory are to be read
    #[arg(long)]
    pub server_pid: Option<i32>,
    /// Open loop: calls per second over all connections, each timed from when it was due; the client spins for it
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// How the calls of --rate are spread: constant or poisson
    #[arg(long, default_value = "constant", requires = "rate")]
    pub arrivals: Arrivals,
    /// What poisson arrivals are drawn from
    #[arg(long, default_value_t = 1, requires = "rate")]
    pub seed: u64,
    /// Print one line of JSON (the only form of output that there is)
    #[arg(long)]
    pub json: bool,
}
