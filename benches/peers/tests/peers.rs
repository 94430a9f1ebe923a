//! Every peer answers its load, ends well on SIGTERM, and its load generator notices a server that is gone.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;
use std::time::Duration;

use corewire_benches::load::process::{Server, run_to_end};
use corewire_benches::measure::sample::Sample;

const LIMIT: Duration = Duration::from_secs(60);

fn serve(program: &str) -> Server {
    Server::start(program, Command::new(program).args(["serve", "--addr", "127.0.0.1:0"])).unwrap()
}

fn load(program: &str, address: &str, flags: &str) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(["load", address, "--secs", "0.1", "--json"]).args(flags.split_whitespace());
    run_to_end(program, &mut command, LIMIT)
}

fn answers_and_ends(program: &str) {
    let server = serve(program);
    for flags in
        ["--payload 64", "--payload 0 --inflight 3", "--payload 70000 --conns 3 --inflight 4"]
    {
        let flags = format!("{flags} --server-pid {}", server.pid());
        let sample = Sample::parse(&load(program, server.address(), &flags).unwrap()).unwrap();
        assert!(sample.server_cpu_s.is_some_and(|cpu| cpu > 0.0), "{sample:?}");
        assert!(sample.server_rss_mb.is_some_and(|peak| peak > 0.1), "{sample:?}");
        // Calls in flight divided by their rate is the mean latency, and the longest latency cannot be
        // below it.
        #[expect(clippy::cast_precision_loss, reason = "a dozen calls")]
        let mean_us = (sample.conns * sample.inflight) as f64 / sample.rps * 1e6;
        assert!(sample.p50_us <= sample.max_us && sample.max_us > mean_us * 0.5, "{sample:?}");
    }
    let flags = "--rate 2000 --arrivals poisson --conns 3 --inflight 50";
    let sample = Sample::parse(&load(program, server.address(), flags).unwrap()).unwrap();
    let open = sample.open.unwrap();
    // 0.1 s of 2000 calls per second, give or take the variation of Poisson arrivals.
    assert!((120..280).contains(&open.offered), "{open:?}");
    assert!(load(program, server.address(), "--rate 0").is_err());
    let address = server.address().to_owned();
    server.stop().unwrap();
    assert!(load(program, &address, "").is_err(), "{program} did not notice that nobody listens");
}

#[test]
fn tarpc_answers_and_ends() {
    answers_and_ends(env!("CARGO_BIN_EXE_peer_tarpc"));
}

#[test]
fn tonic_answers_and_ends() {
    answers_and_ends(env!("CARGO_BIN_EXE_peer_tonic"));
}

#[test]
fn tokio_echoes_the_frames_of_the_floor() {
    use std::io::{Read as _, Write as _};

    let server = serve(env!("CARGO_BIN_EXE_peer_tokio"));
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let sent = b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0!";
    for byte in sent {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, sent);
    // A body above the limit closes the connection.
    stream.write_all(&[0xff; 4]).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    server.stop().unwrap();
}
