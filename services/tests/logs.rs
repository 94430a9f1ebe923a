//! What peers can have logged: a few lines and a count, however often they misbehave; and what is no fault is
//! not called one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire_codec::Rule;
use std::net::Shutdown;
use support::lines::Lines;
use support::peer::{Peer, Said, hello, request};
use support::{address, count, end, server, until};

/// All in one test, because the subscriber is that of the whole process.
#[test]
fn peers_cannot_fill_the_log() {
    const MANY: u64 = 200;
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let server = server();
    let faulted = || count(&server, |it| it.connections_faulted.value());

    // Faults: five lines, and a count of the rest, per rule.
    for _ in 0..MANY {
        let mut peer = Peer::polite(address(&server));
        peer.send(&[0; 16]);
        peer.assert_turned_away(Rule::UnknownFrameKind);
    }
    let mut other = Peer::polite(address(&server));
    other.send(&request(0x7fff, "echo", b""));
    other.assert_turned_away(Rule::CallSlot);
    assert_eq!(faulted(), MANY + 1);
    until("the rest is summed up", || lines.count("WARN", "rule=10 ") == (5, MANY - 5));
    assert_eq!(lines.count("WARN", "rule=21 "), (1, 0), "another rule has a bound of its own");

    // Handlers that panic.
    let mut peer = Peer::polite(address(&server));
    for call in 0..20 {
        peer.send(&request(call, "panic", &[0]));
        peer.failure();
    }
    until("the rest is summed up", || {
        let (said, left) = lines.count("", "a handler panicked");
        said as u64 + left == 20 && said == 5
    });

    // Probes of other protocols, and of the port: no faults, and no warnings.
    let warnings = lines.count("WARN", "").0;
    for probe in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\n", b"\x16\x03\x01\x02\0"]
    {
        for _ in 0..20 {
            let mut peer = Peer::silent(address(&server));
            peer.send(probe);
            assert_eq!(peer.hello().version, 1);
            peer.assert_turned_away(Rule::NotCorewire);
        }
    }
    for round in 0..20 {
        let mut peer = Peer::silent(address(&server));
        if round % 2 == 0 {
            peer.reset();
        } else {
            // Half a hello, and the end.
            peer.send(&hello()[..round]);
            peer.stream.shutdown(Shutdown::Write).unwrap();
            while !matches!(peer_end(&mut peer), Said::End | Said::Reset) {}
        }
    }
    let mut half = Peer::silent(address(&server));
    half.send(&hello()[..20]);
    half.reset();
    for protocol in ["HTTP/1", "HTTP/2", "TLS"] {
        until("the probes are summed up", || lines.count("INFO", protocol) == (5, 15));
    }
    drop(peer);
    until("all are gone", || count(&server, |it| it.connections_open.value()) == 0);
    assert_eq!(faulted(), MANY + 1, "a probe is no fault");
    assert_eq!(lines.count("WARN", "").0, warnings, "{:?}", lines.0.lock().unwrap());
    end(server);
}

/// What a server says to a peer that never said a whole hello.
fn peer_end(peer: &mut Peer) -> Said {
    use std::io::Read;
    match peer.stream.read(&mut [0; 1024]) {
        Ok(0) => Said::End,
        Ok(_) => Said::GoAway(corewire_codec::GoAway { accepted: 0, rule: 0 }, String::new()),
        Err(_) => Said::Reset,
    }
}
