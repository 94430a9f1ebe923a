//! What the peers share: their flags, one pinned thread with a tokio runtime, and closed-loop load.
//!
//! Each peer is one program with two commands, `serve` and `load`, that keep the contract of
//! [`corewire_benches::load::contender::Contender`]. All of them use mimalloc: glibc's allocator gives large blocks back to the
//! kernel and faults them in again, which halves some peers' rate with large bodies.

mod flags;
mod load;

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
pub use flags::{Command, Load, MAX_BODY, Serve};
pub use load::{Caller, run as run_load};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// Runs a future to its end on one thread, pinned to the core if there is one.
///
/// # Errors
///
/// When the core may not be used, the runtime cannot start, or the future fails.
pub fn block_on_core<T>(cpu: Option<usize>, future: impl Future<Output = Result<T>>) -> Result<T> {
    if let Some(cpu) = cpu {
        anyhow::ensure!(cpu < CpuSet::MAX_CPU, "there is no core {cpu}");
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cpu}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no tokio runtime")?;
    LocalSet::new().block_on(&runtime, future)
}

/// Listens and reports that on standard output, as every server here does.
///
/// # Errors
///
/// When the address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let mut out = std::io::stdout();
    writeln!(out, "listening {}", listener.local_addr()?)?;
    out.flush()?;
    Ok(listener)
}

/// Hands each connection to `serve` until SIGTERM. Nagle's algorithm is off, as everywhere here.
///
/// # Errors
///
/// When the signal cannot be watched or connections cannot be accepted.
pub async fn accept_until_told(
    listener: TcpListener,
    mut serve: impl FnMut(TcpStream),
) -> Result<()> {
    let mut told = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    loop {
        tokio::select! {
            _ = told.recv() => return Ok(()),
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("cannot accept")?;
                stream.set_nodelay(true)?;
                serve(stream);
            }
        }
    }
}

/// Resolves on SIGTERM.
pub async fn told_to_stop() {
    match signal(SignalKind::terminate()) {
        Ok(mut told) => _ = told.recv().await,
        // Without the signal there is nothing to wait for, and the server runs until it is killed.
        Err(_) => std::future::pending().await,
    }
}
