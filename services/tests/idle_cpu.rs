//! What idle connections cost in CPU time, on a server that spins.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::builder;
use support::child::{ServerChild, role, serve};
use support::peer::Peer;

use corewire::Spin;

const CONNECTIONS: usize = 200;
const WATCH: Duration = Duration::from_secs(2);

/// The children's `main`; as a test of its own it has nothing to do.
#[test]
fn child() {
    if let Some(spin) = role() {
        serve(builder(1).spin(spin.parse::<Spin>().unwrap()))
    }
}

/// The part of a core that a server uses that has just answered calls, and has connections still.
#[allow(clippy::print_stderr, reason = "the figure is what is asked for")]
fn idle_share(spin: &str) -> f64 {
    let server = ServerChild::start("child", spin);
    let mut peers: Vec<Peer> = (0..CONNECTIONS).map(|_| Peer::polite(server.address())).collect();
    // Traffic that spinning is for, so that there is something to back off from.
    for call in 1..=20 {
        peers.iter_mut().for_each(|peer| peer.assert_serves(call));
    }
    let (start, before) = (Instant::now(), server.cpu());
    std::thread::sleep(WATCH);
    let share = (server.cpu() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    eprintln!("{CONNECTIONS} idle connections, spin {spin}: {:.3} % of a core", 100.0 * share);
    share
}

#[test]
fn a_server_that_adapts_backs_off_when_it_is_idle() {
    // The limit is generous: other tests run beside this one, and the first timers are in it.
    let share = idle_share("200");
    assert!(share < 0.05, "{share}");
    // The measure itself: one that never sleeps shows, however many tests share its core.
    let share = idle_share("always");
    assert!(share > 0.05, "{share}");
}
