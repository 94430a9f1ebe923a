//! What the example programs share: their flags, their log, the key-value service, and the services that
//! stream.
#![forbid(unsafe_code)]

use clap::Args;
use corewire::{
    Address, Ended, Placement, Running, Server, ServerBuilder, Service, ShardInfo, Spin,
    StartError, Steering,
};
use std::process::ExitCode;

pub mod kv;
pub mod room;

/// The flags of an example server.
#[derive(Args, Clone, Debug)]
pub struct ServerFlags {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, default_value = "127.0.0.1:7000")]
    pub addr: String,

    /// Where the shards run: CPUs such as 0,2-5, all, cores, split:2, node-of:eth0, unpinned:4, or file:placement.toml
    #[arg(long, default_value = "all")]
    pub cores: Placement,

    /// Which shard a connection goes to: auto, incoming-cpu, cbpf or hash
    #[arg(long, default_value = "auto")]
    pub steering: Steering,

    /// Whether an idle shard looks for work before it sleeps: off, always, or for up to this many
    /// microseconds while that pays
    #[arg(long, default_value = "off", value_name = "off|always|MICROSECONDS")]
    pub spin: Spin,
}

impl ServerFlags {
    /// A builder with the flags applied.
    #[must_use]
    pub fn builder(self) -> ServerBuilder {
        Server::builder()
            .address(self.addr)
            .placement(self.cores)
            .steering(self.steering)
            .spin(self.spin)
    }
}

/// A server to call: one that runs elsewhere, or one that was started here.
#[derive(Debug)]
pub struct Kept {
    /// Where it listens.
    pub address: Address,
    /// The one that was started here.
    pub server: Option<Running>,
}

/// Starts a key-value server with one shard on a port of the system's choice, unless there is an
/// address to call already.
///
/// # Errors
///
/// What keeps the server from starting, and how to fix it.
pub fn keep_server(address: Option<Address>) -> Result<Kept, StartError> {
    let parts = kv::Store::parts();
    keep(address, move |_shard| kv::KeyValueServer::new(kv::Store::new(&parts)))
}

/// Starts a server of any service with one shard on a port of the system's choice, unless there is an
/// address to call already.
///
/// # Errors
///
/// What keeps the server from starting, and how to fix it.
pub fn keep<S: Service>(
    address: Option<Address>,
    make: impl Fn(ShardInfo) -> S + Send + Sync + 'static,
) -> Result<Kept, StartError> {
    if let Some(address) = address {
        return Ok(Kept { address, server: None });
    }
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(make)
        .start()?;
    let address = server.addresses().first().cloned();
    let address = address.ok_or_else(|| StartError::Config("the server has no address".into()))?;
    Ok(Kept { address, server: Some(server) })
}

/// Drains a server that was started here.
///
/// # Errors
///
/// One sentence when shards were lost.
pub fn end(server: Option<Running>) -> Result<(), String> {
    let Some(server) = server else { return Ok(()) };
    server.stop();
    match server.wait().map_err(|error| error.to_string())?.shards_lost {
        0 => Ok(()),
        lost => Err(format!("{lost} shards were lost; the log says why")),
    }
}

/// Starts the server, says where it listens, and serves until a signal. An error ends in one
/// sentence and exit code 2.
#[must_use]
#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the programs say to people"
)]
pub fn serve(builder: ServerBuilder) -> ExitCode {
    log();
    let running = match builder.drain_on_signal().start() {
        Ok(running) => running,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    for address in running.addresses() {
        println!("listening {address}");
    }
    match running.wait() {
        Ok(Ended { shards_lost: 0, .. }) => ExitCode::SUCCESS,
        Ok(Ended { shards_lost, .. }) => {
            eprintln!("error: {shards_lost} shards were lost; the log says why");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Logs to standard error; `RUST_LOG` chooses what, `warn` is the default.
pub fn log() {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // Colours are for people: a log that goes to a file has none.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
}

/// The README's program, compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
