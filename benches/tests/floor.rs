//! The C programs keep their own contract: bytes come back unchanged however they are cut, wrong peers are refused,
//! and a load generator that met a wrong answer reports it by its exit code.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use corewire_benches::load::process::{Server, run_to_end};
use corewire_benches::load::toolbox;
use corewire_benches::measure::sample::Sample;
use corewire_cli::pace::{Arrivals, Schedule};

const LIMIT: Duration = Duration::from_secs(60);

/// The programs, compiled once for all tests.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("floor");
        toolbox::build_floor(&folder).unwrap();
        folder
    })
}

fn server(wait: &str) -> Server {
    let mut command = Command::new(folder().join("floor_server"));
    command.args(["--addr", "127.0.0.1:0", "--wait", wait]);
    Server::start("floor_server", &mut command).unwrap()
}

fn client(address: &str, flags: &str) -> anyhow::Result<String> {
    let mut command = Command::new(folder().join("floor_client"));
    command.arg(address).args(["--secs", "0.1", "--json"]).args(flags.split_whitespace());
    run_to_end("floor_client", &mut command, LIMIT)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes()[..], body].concat()
}

#[test]
fn the_histogram_keeps_its_precision() {
    let sources = ["histogram_test.c", "histogram.c", "common.c"];
    toolbox::compile("histogram_test", &sources, folder()).unwrap();
    run_to_end("histogram_test", &mut Command::new(folder().join("histogram_test")), LIMIT)
        .unwrap();
}

#[test]
fn every_load_is_answered() {
    for wait in ["epoll", "spin"] {
        let server = server(wait);
        for load in [
            "--payload 0",
            "--payload 3 --conns 5 --inflight 7",
            "--payload 70000 --conns 3 --inflight 4",
        ] {
            let flags = format!("{load} --wait {wait} --server-pid {}", server.pid());
            let sample = Sample::parse(&client(server.address(), &flags).unwrap()).unwrap();
            assert!(sample.server_cpu_s.is_some_and(|cpu| cpu > 0.0), "{sample:?}");
            assert!(sample.server_rss_mb.is_some_and(|peak| peak > 0.1), "{sample:?}");
            assert!(
                sample.p50_us > 0.0
                    && sample.p50_us <= sample.p99_us
                    && sample.p99_us <= sample.max_us,
                "{sample:?}"
            );
        }
        server.stop().unwrap();
    }
}

#[test]
fn the_largest_body_comes_back() {
    let server = server("epoll");
    let stdout = client(server.address(), "--payload 16777216 --inflight 2").unwrap();
    assert!(Sample::parse(&stdout).unwrap().calls > 0);
    server.stop().unwrap();
}

#[test]
fn frames_may_come_byte_by_byte_and_end_with_a_half_close() {
    let server = server("epoll");
    let mut stream = connect(&server);
    let sent = [frame(b""), frame(b"x"), frame(&[7; 300])].concat();
    for byte in &sent {
        stream.write_all(&[*byte]).unwrap();
    }
    // The last frame, all at once and directly followed by the end of the stream.
    stream.write_all(&frame(b"last")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, [sent, frame(b"last")].concat());
    server.stop().unwrap();
}

#[test]
fn a_slow_reader_gets_everything_in_the_end() {
    let server = server("epoll");
    let mut stream = connect(&server);
    let mut reader = stream.try_clone().unwrap();
    // Far more than both socket buffers hold: the server must stop reading, and go on when there is room again.
    let sent = frame(&vec![42; 1 << 20]).repeat(24);
    let expected = sent.clone();
    let writer = thread::spawn(move || stream.write_all(&sent).unwrap());
    let mut back = vec![0; expected.len()];
    for part in back.chunks_mut(100_000) {
        reader.read_exact(part).unwrap();
    }
    writer.join().unwrap();
    assert!(back == expected, "the bytes came back changed");
    server.stop().unwrap();
}

#[test]
fn a_frame_above_the_limit_closes_its_connection_alone() {
    for wait in ["epoll", "spin"] {
        let server = server(wait);
        let mut good = connect(&server);
        let mut greedy = connect(&server);
        greedy.write_all(&((16 << 20) + 1_u32).to_le_bytes()).unwrap();
        assert_eq!(greedy.read(&mut [0; 8]).unwrap(), 0);
        good.write_all(&frame(b"still here")).unwrap();
        let mut back = [0; 14];
        good.read_exact(&mut back).unwrap();
        assert_eq!(back[..], frame(b"still here")[..]);
        server.stop().unwrap();
    }
}

/// A server that reads the first call and answers with these bytes, then closes.
fn answer_once(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        stream.write_all(&answer).unwrap();
    });
    address
}

#[test]
fn the_client_notices_wrong_replies() {
    let wrong_content = frame(&[0; 64]);
    let wrong_length = frame(&[0; 63]);
    for (answer, complaint) in [
        (wrong_content, "a reply is not what was sent"),
        (wrong_length, "a reply is not what was sent"),
        (vec![0; 200], "the server sent more than it was asked for"),
        (Vec::new(), "the server closed a connection"),
    ] {
        for wait in ["epoll", "spin"] {
            let error = client(&answer_once(answer.clone()), &format!("--wait {wait}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(complaint), "{error} instead of {complaint}");
        }
    }
}

#[test]
fn wrong_flags_end_with_code_2_and_a_sentence() {
    for (program, flags) in [
        ("floor_server", "--wait nap"),
        ("floor_server", "--addr nowhere"),
        ("floor_server", "--cpu -1"),
        ("floor_client", ""),
        ("floor_client", "127.0.0.1:1 --payload 16777217"),
        ("floor_client", "127.0.0.1:1 --secs 0"),
        ("floor_client", "127.0.0.1:1 --rate 0"),
        ("floor_client", "127.0.0.1:1 --rate fast"),
        ("floor_client", "127.0.0.1:1 --rate 10 --arrivals bursts"),
        ("floor_client", "127.0.0.1:1 --conns 1000000 --inflight 1000000"),
    ] {
        let output =
            Command::new(folder().join(program)).args(flags.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{program} {flags}");
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("error: "),
            "{program} {flags}"
        );
    }
}

/// Echoes one connection's frames of 64 bytes, and stalls for `stall` after `after` frames.
fn stalling_server(after: usize, stall: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frame = [0; 68];
        for number in 0.. {
            if stream.read_exact(&mut frame).is_err() {
                return;
            }
            if number == after {
                thread::sleep(stall);
            }
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn an_open_loop_sees_a_stall_in_every_call_that_fell_due_meanwhile() {
    for wait in ["epoll", "spin"] {
        // At 1000 calls per second, call 600 is due 100 ms after the warm-up.
        for inflight in [5, 1000] {
            let address = stalling_server(600, Duration::from_millis(100));
            let flags = format!("--rate 1000 --inflight {inflight} --wait {wait} --secs 0.4");
            let sample = Sample::parse(&client(&address, &flags).unwrap()).unwrap();
            // A quarter of the calls fell due in the stall. In a closed loop only one would have seen it.
            assert!(sample.max_us > 90e3 && sample.p90_us > 40e3, "{flags}: {sample:?}");
            let open = sample.open.unwrap();
            assert_eq!(open.offered, 400);
            if inflight == 5 {
                assert!(open.late_p99_us > 40e3, "without room, calls are sent late: {open:?}");
            }
        }
    }
}

#[test]
fn c_and_rust_draw_the_same_arrivals() {
    let server = server("epoll");
    let flags = "--rate 3000 --arrivals poisson --seed 9 --inflight 1000";
    let sample = Sample::parse(&client(server.address(), flags).unwrap()).unwrap();
    server.stop().unwrap();
    let mut schedule = Schedule::new(3000.0, Arrivals::Poisson, 9);
    let due = std::iter::repeat_with(|| schedule.take()).take_while(|due| *due < 600_000_000);
    let measured = due.filter(|due| *due >= 500_000_000).count();
    assert_eq!(usize::try_from(sample.open.unwrap().offered).unwrap(), measured);
}
