//! Many UDP flows at a steady rate: the load of `tests/story.sh`.
//!
//! ```text
//! flood sink 10.0.0.1:9000                      holds the port until it is ended
//! flood send 10.0.0.1:9000 FLOWS RATE SECONDS   sends RATE packets a second over FLOWS flows
//! ```
//!
//! UDP, because a flow is then a socket and nothing replies: the packets that arrive are the packets that were sent.
//! The sink never reads; what its buffer does not hold is dropped by the socket, far above the layer that is watched.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["sink", address] => {
            let _socket = UdpSocket::bind(address)?;
            loop {
                std::thread::park();
            }
        }
        ["send", address, flows, rate, seconds] => {
            send(address, flows.parse()?, rate.parse()?, Duration::from_secs(seconds.parse()?))
        }
        _ => Err("usage: flood sink ADDRESS | flood send ADDRESS FLOWS RATE SECONDS".into()),
    }
}

fn send(
    address: &str,
    flows: usize,
    rate: u64,
    period: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let sockets = (0..flows)
        .map(|_| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(address)?;
            Ok(socket)
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    // A sender that wanders between CPUs would move the packets' own softirqs about; CPU 0 is on every machine.
    let mut cpus = CpuSet::new();
    cpus.set(0);
    sched_setaffinity(None, &cpus)?;
    let packet = [0_u8; 100];
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < period {
        // As many as are due by now, in turn over the flows; then a short rest, so that the sender does not fill its CPU.
        let micros = u64::try_from(start.elapsed().as_micros())?;
        let due = micros * rate / 1_000_000;
        while sent < due {
            let index = usize::try_from(sent)? % sockets.len();
            // A full queue on the way is the receiver's concern, not the sender's.
            let _ = sockets[index].send(&packet);
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
