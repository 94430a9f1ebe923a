//! Which shard the kernel gives a connection to, and whether that is the one on the CPU of its packets.
//!
//! The tests in network namespaces of their own need root, `ip` and two CPUs, and say so when they skip. On loopback a
//! connection's packets are received on the CPU of the client's thread, so a pinned client says where.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Placement, Running, Server, ServerBuilder, ShardInfo, Status, Steering, allowed_cpus,
};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{address, client, end, until};

/// Says which shard it is, and can keep its thread.
#[corewire::service]
pub trait Hold {
    /// The shard's number.
    async fn shard(&self) -> Result<u16, Status>;
    /// Keeps the shard's thread until it is told to let go.
    async fn hold(&self) -> Result<(), Status>;
}

struct Holder {
    shard: u16,
    held: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
}

impl Hold for Holder {
    async fn shard(&self) -> Result<u16, Status> {
        Ok(self.shard)
    }

    async fn hold(&self) -> Result<(), Status> {
        self.held.store(true, Ordering::SeqCst);
        while !self.let_go.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Grip {
    held: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
}

/// A server with a shard on each of these CPUs.
fn server_on(cpus: &[usize], listen: &str, steering: Steering, grip: &Grip) -> ServerBuilder {
    let grip = grip.clone();
    let made = move |shard: ShardInfo| {
        let Grip { held, let_go } = grip.clone();
        HoldServer::new(Holder { shard: shard.id.0, held, let_go })
    };
    Server::builder()
        .address(listen)
        .placement(Placement::Cpus(cpus.to_vec()))
        .steering(steering)
        .stall_after(Duration::from_millis(200))
        .service(made)
}

/// Connections accepted, and those on the CPU of their packets, by shard.
fn counts(server: &Running) -> Vec<(u64, u64)> {
    let counters = server.shards().iter().map(|shard| &shard.counters);
    counters.map(|it| (it.connections_accepted.value(), it.connections_local.value())).collect()
}

/// Makes connections and waits until they are accepted; returns the accepted and the local ones among them by shard.
fn connect(server: &Running, to: SocketAddr, count: usize) -> Vec<(u64, u64)> {
    let before = counts(server);
    let open: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(to).unwrap()).collect();
    let since = || -> Vec<(u64, u64)> {
        let now = counts(server);
        now.iter().zip(&before).map(|(now, before)| (now.0 - before.0, now.1 - before.1)).collect()
    };
    until("all are accepted", || since().iter().map(|shard| shard.0).sum::<u64>() == count as u64);
    drop(open);
    since()
}

fn add(sum: &mut [(u64, u64)], more: Vec<(u64, u64)>) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = (sum.0 + more.0, sum.1 + more.1);
    }
}

/// How many of a hundred are local.
fn share(counts: &[(u64, u64)]) -> f64 {
    let sum = |of: fn(&(u64, u64)) -> u64| counts.iter().map(of).sum::<u64>() as f64;
    100.0 * sum(|it| it.1) / sum(|it| it.0)
}

/// Does something on a thread that runs on one CPU.
fn pinned<T: Send>(cpu: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            sched_setaffinity(None, &cpus).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Two CPUs, or a word why the test cannot run.
fn two_cpus() -> Option<[usize; 2]> {
    let cpus = allowed_cpus().unwrap();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: one CPU alone has nothing to choose from");
        return None;
    }
    Some([cpus[0], cpus[1]])
}

/// Steering by CPU follows the client's CPU on loopback, which is why it is not the default; by hash it does not.
#[test]
fn a_client_on_one_cpu_fills_one_shard_only_if_that_was_asked_for() {
    let Some(cpus) = two_cpus() else { return };
    let start =
        |steering| server_on(&cpus, "127.0.0.1:0", steering, &Grip::default()).start().unwrap();
    let load =
        |server: &Running, count| pinned(cpus[1], || connect(server, address(server), count));
    for steering in [Steering::IncomingCpu, Steering::Cbpf] {
        let server = start(steering);
        let counts = load(&server, 64);
        assert_eq!(counts, [(0, 0), (64, 64)], "{steering}");
        end(server);
    }
    for steering in [Steering::Hash, Steering::Auto] {
        let server = start(steering);
        // More than enough to make up its mind, and time for it.
        let mut counts = load(&server, 1200);
        let over = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < over {
            add(&mut counts, load(&server, 100));
        }
        eprintln!("{steering}: {counts:?}");
        let least = 0.35 * counts.iter().map(|shard| shard.0 as f64).sum::<f64>();
        assert!(counts.iter().all(|shard| shard.0 as f64 > least), "{steering}: {counts:?}");
        assert_eq!(counts[0].1, 0, "no packet arrived on the CPU of the first");
        assert_eq!(counts[1].0, counts[1].1, "every one that it has is local");
        end(server);
    }
}

/// `Auto` steers when packets arrive spread, and stops when they pile up.
#[test]
fn auto_steers_by_what_it_sees() {
    let Some(cpus) = two_cpus() else { return };
    let server = server_on(&cpus, "127.0.0.1:0", Steering::Auto, &Grip::default()).start().unwrap();
    let to = address(&server);
    let spread = |count: usize| {
        let mut sum = vec![(0, 0); 2];
        for cpu in cpus {
            add(&mut sum, pinned(cpu, || connect(&server, to, count / 2)));
        }
        sum
    };
    let by_hash = share(&spread(600));
    assert!((35.0..65.0).contains(&by_hash), "{by_hash} % local");
    until("it steers", || share(&spread(40)) == 100.0);
    let load = |count| pinned(cpus[0], || connect(&server, to, count));
    let piled = load(100);
    assert_eq!(piled[1].0, 0, "they follow the client: {piled:?}");
    until("it does no more", || load(40)[1].0 > 8);
    end(server);
}

/// What cannot be had is not asked for.
#[test]
fn shards_that_are_not_pinned_have_no_local_connections() {
    let server = support::builder(2).steering(Steering::IncomingCpu).start().unwrap();
    let counts = connect(&server, address(&server), 64);
    assert!(counts.iter().all(|shard| shard.0 > 8 && shard.1 == 0), "{counts:?}");
    end(server);
}

/// Two network namespaces, joined by a pair of virtual cards with four queues each; gone when it is dropped.
struct Wire {
    server: String,
    client: String,
}

impl Wire {
    const ADDRESS: &str = "198.18.7.1";

    /// `None` where it cannot be made, with a word why.
    fn new(cpus: [usize; 2], tag: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return None;
        }
        let id = format!("cwp-{tag}-{}", std::process::id());
        let wire = Self { server: format!("{id}-s"), client: format!("{id}-c") };
        let made = ip(&format!("netns add {}", wire.server))
            && ip(&format!("netns add {}", wire.client))
            && ip(&format!(
                "link add vs netns {} numtxqueues 4 numrxqueues 4 type veth peer name vc netns {} numtxqueues 5 numrxqueues 4",
                wire.server, wire.client
            ));
        if !made {
            eprintln!("SKIPPED: no program ip, no network namespaces or no veth here");
            return None;
        }
        for (space, card, address) in
            [(&wire.server, "vs", Self::ADDRESS), (&wire.client, "vc", "198.18.7.2")]
        {
            assert!(ip(&format!("-n {space} addr add {address}/30 dev {card}")));
            assert!(ip(&format!("-n {space} link set {card} up")));
        }
        // Seen on Linux 6.18: what queue k of a veth sends, queue k-1 of the other end receives. So queues 1 to 4 feed
        // all four alike.
        for queue in 1..=4 {
            wire.write(&wire.client, &format!("vc/queues/tx-{queue}/xps_cpus"), "ffffffff");
        }
        // What a card's interrupts do on real ones: each queue is received on the CPU of one shard.
        for queue in 0..4 {
            let mask = format!("{:x}", 1_u64 << cpus[queue % 2]);
            wire.write(&wire.server, &format!("vs/queues/rx-{queue}/rps_cpus"), &mask);
        }
        Some(wire)
    }

    fn write(&self, space: &str, file: &str, value: &str) {
        let script = format!("echo {value} > /sys/class/net/{file}");
        // The kernel takes no more bits than it has CPUs.
        let all = format!("echo 3 > /sys/class/net/{file}");
        let run = |script: &str| ip_exec(space, script);
        assert!(run(&script) || run(&all), "{file}");
    }

    /// Does something on a thread inside a namespace.
    fn inside<T: Send>(space: &str, work: impl FnOnce() -> T + Send) -> T {
        let link = File::open(format!("/run/netns/{space}")).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(link.as_fd(), kind).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for space in [&self.server, &self.client] {
            ip(&format!("netns del {space}"));
        }
    }
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

fn ip_exec(space: &str, script: &str) -> bool {
    let output = Command::new("ip").args(["netns", "exec", space, "sh", "-c", script]).output();
    output.is_ok_and(|output| output.status.success())
}

/// How many sockets of the server's namespace listen.
fn listening(wire: &Wire) -> usize {
    let table = Wire::inside(&wire.server, || {
        std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap()
    });
    table.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
}

/// Most connections are served on the CPU that receives their packets, also after a shard's listener was out of
/// service.
#[test]
fn steered_connections_are_served_where_their_packets_arrive() {
    const COUNT: usize = 400;
    let Some(cpus) = two_cpus() else { return };
    let Some(wire) = Wire::new(cpus, "l") else { return };
    let listen = format!("{}:0", Wire::ADDRESS);
    let over =
        |server: &Running| Wire::inside(&wire.client, || connect(server, address(server), COUNT));
    let start = |steering, grip: &Grip| {
        Wire::inside(&wire.server, || server_on(&cpus, &listen, steering, grip).start().unwrap())
    };

    let server = start(Steering::Hash, &Grip::default());
    let by_hash = over(&server);
    eprintln!("hash: {:.1} % local, {by_hash:?}", share(&by_hash));
    assert!((35.0..65.0).contains(&share(&by_hash)), "{by_hash:?}");
    end(server);

    for steering in [Steering::IncomingCpu, Steering::Cbpf] {
        let grip = Grip::default();
        let server = start(steering, &grip);
        let steered = over(&server);
        eprintln!("{steering}: {:.1} % local, {steered:?}", share(&steered));
        assert!(share(&steered) >= 95.0, "{steering}: {steered:?}");
        assert!(steered.iter().all(|shard| shard.0 > COUNT as u64 / 4), "{steered:?}");

        // The first shard stalls: its place in the group is taken by the other one.
        let to = address(&server);
        std::thread::scope(|scope| {
            let holding = scope.spawn(|| Wire::inside(&wire.client, || hold_first(to)));
            until("the first shard stands", || grip.held.load(Ordering::SeqCst));
            until("its listener is out of service", || listening(&wire) == 1);
            let alone = over(&server);
            assert_eq!(alone[1].0, COUNT as u64, "all go to the other one: {alone:?}");
            grip.let_go.store(true, Ordering::SeqCst);
            holding.join().unwrap();
        });
        until("it is back", || listening(&wire) == 2);
        // Listening is not all: with a program the table follows.
        let again = over(&server);
        let back = over(&server);
        eprintln!("{steering}, put back: {:.1} %, then {:.1} % local", share(&again), share(&back));
        assert!(share(&back) >= 95.0, "{steering} after a stall: {back:?}");
        assert!(back.iter().all(|shard| shard.0 > COUNT as u64 / 4), "{back:?}");
        end(server);
    }
}

/// Connects until the first shard answers, and has it keep its thread.
fn hold_first(to: SocketAddr) {
    client(move || async move {
        for _ in 0..64 {
            let client = HoldClient::connect(to).await.unwrap();
            if client.shard().await.unwrap() == 0 {
                return client.hold().await.unwrap();
            }
        }
        panic!("64 connections and none on the first shard");
    });
}
