//! What 10,000 connections cost that do nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::TcpStream;
use support::builder;
use support::child::{ServerChild, role, serve};
use support::peer::{Peer, hello};
use support::until;

const CONNECTIONS: usize = 10_000;

/// Kernel memory of sockets is not in it: that is the same for every server.
const BYTES_MAX: u64 = 512;

/// Raises the limit on descriptors as far as this process may.
fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // It fails only above the hard limit, and then the old one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The child's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    if role().is_some() {
        descriptors();
        serve(builder(1))
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "the figure is what is asked for")]
fn ten_thousand_idle_connections() {
    let allowed = descriptors();
    if allowed < CONNECTIONS as u64 + 100 {
        eprintln!(
            "SKIPPED: {allowed} descriptors are allowed, and {CONNECTIONS} connections need more; raise ulimit -Hn"
        );
        return;
    }
    let mut server = ServerChild::start("child", "server");
    // What the first connections make once is not counted.
    let mut warm: Vec<Peer> = (0..100).map(|_| Peer::polite(server.address())).collect();
    warm.iter_mut().for_each(|peer| peer.assert_serves(1));
    let before = server.rss();
    let hello = hello();
    let mut idle: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut peer = Peer::silent(server.address());
        peer.send(&hello);
        peer.hello();
        // Each has made a call: it is an idle connection, not one that was never used.
        peer.assert_serves(1);
        idle.push(peer.stream);
    }
    until("all are there", || server.counters()["connections_open"] == CONNECTIONS as u64 + 100);
    let after = server.rss();
    let each = after.saturating_sub(before) / CONNECTIONS as u64;
    eprintln!(
        "{CONNECTIONS} idle connections: {each} bytes of server RSS each ({before} → {after})"
    );
    assert!(each <= BYTES_MAX, "{each} bytes each");
    // They are not in anybody's way.
    warm.iter_mut().for_each(|peer| peer.assert_serves(2));
    drop(idle);
    until("all are gone", || server.counters()["connections_open"] == 100);
    warm.iter_mut().for_each(|peer| peer.assert_serves(3));
}
