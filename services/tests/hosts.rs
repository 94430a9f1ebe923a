//! Shards on both hosts: which one they get, and that calls do not notice.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{ClientShard, Host, Placement, Server, ServerBuilder, block_on_shard};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use support::child::{ServerChild, role, say};
use support::service::{SubjectClient, SubjectServer, Target};
use support::{PATIENCE, address, end};

/// What the child tells when it is done, followed by what it found.
const FOUND: &str = "child-found";

/// Client shards of one process under the usual limit of locked memory.
const SHARDS: usize = 100;

/// The calls of io_uring.
const CALLS: [i64; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Refuses these calls as the default profiles of containers do.
fn forbid(calls: &[i64]) {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
}

fn limit_locked_memory(bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Memlock, limit).unwrap();
}

fn builder(host: Host) -> ServerBuilder {
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(2))
        .host(host)
        .service(|_| SubjectServer::new(Target::default()))
}

fn has_io_uring() -> bool {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().map_while(Result::ok);
    links
        .map_while(|link| std::fs::read_link(link.path()).ok())
        .any(|to| to.to_string_lossy().contains("io_uring"))
}

/// A server and a client's shard on this host, one call, and which host they got.
fn one_call(host: Host) -> Result<&'static str, String> {
    let server = builder(host).start().map_err(|error| error.to_string())?;
    let to = address(&server);
    let uses = has_io_uring();
    let shard = ClientShard { host, ..ClientShard::default() };
    let sum = block_on_shard(shard, move || async move {
        SubjectClient::connect(to).await.unwrap().add(1, 2).await
    });
    assert_eq!(sum.map_err(|error| error.to_string())?, Ok(3));
    end(server);
    Ok(if uses { "glommio" } else { "plain" })
}

/// Each waits until all have made their calls.
fn many_client_shards() -> String {
    let server = builder(Host::Auto).start().unwrap();
    let to = address(&server);
    let together = Arc::new(Barrier::new(SHARDS));
    let shards: Vec<_> = (0..SHARDS)
        .map(|_| {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                let sum = block_on_shard(ClientShard::default(), move || async move {
                    let client = SubjectClient::connect(to).await.unwrap();
                    let sum = client.add(1, 2).await;
                    together.wait();
                    sum
                });
                sum.is_ok_and(|sum| sum == Ok(3))
            })
        })
        .collect();
    let good = shards.into_iter().filter_map(|it| it.join().ok()).filter(|good| *good).count();
    end(server);
    good.to_string()
}

#[test]
fn a_child() {
    let Some(role) = role() else { return };
    let (what, host) = role.split_once(' ').unwrap();
    match what {
        "denied" => forbid(&CALLS),
        "denied-setup" => forbid(&CALLS[..1]),
        "denied-enter" => forbid(&CALLS[1..2]),
        "denied-register" => forbid(&CALLS[2..]),
        "locked" => limit_locked_memory(64 * 1024),
        "many" => limit_locked_memory(8 * 1024 * 1024),
        _ => {}
    }
    let found = match what {
        "many" => many_client_shards(),
        _ => one_call(host.parse().unwrap()).map_or_else(|error| error, ToOwned::to_owned),
    };
    say(FOUND, &found);
}

/// What a child in this role finds.
fn found(role: &str, variables: &[(&str, &str)]) -> String {
    let mut child = ServerChild::start_silent_with("a_child", role, variables);
    let found = child.said(FOUND);
    assert!(child.end(PATIENCE).0.success());
    found.trim().to_owned()
}

#[test]
fn shards_start_where_io_uring_is_forbidden_or_memory_cannot_be_locked() {
    // All of them, as profiles do, and each alone.
    for role in ["denied", "denied-setup", "denied-enter", "denied-register"] {
        assert_eq!(found(&format!("{role} auto"), &[]), "plain", "{role}");
    }
    assert_eq!(found("locked auto", &[]), "plain");
}

#[test]
fn glommio_that_was_asked_for_says_why_it_cannot() {
    let text = found("denied glommio", &[]);
    assert!(text.contains("io_uring"), "{text}");
    let text = found("locked glommio", &[]);
    assert!(text.contains("locked memory") || text.contains("memlock"), "{text}");
}

#[test]
fn the_environment_says_what_auto_means() {
    assert_eq!(found("free auto", &[("COREWIRE_HOST", "plain")]), "plain");
    assert_eq!(found("free plain", &[("COREWIRE_HOST", "glommio")]), "plain");
    let text = found("free auto", &[("COREWIRE_HOST", "quick")]);
    assert!(text.contains("COREWIRE_HOST") && text.contains("auto, glommio or plain"), "{text}");
}

#[test]
fn a_hundred_client_shards_run_in_one_process() {
    assert_eq!(found("many auto", &[("COREWIRE_HOST", "plain")]), SHARDS.to_string());
    assert_eq!(found("many auto", &[]), SHARDS.to_string());
}

/// A plain shard sleeps in the kernel until its timers are due, and the supervisor does not take that for a stall.
#[test]
fn a_plain_shard_sleeps_and_wakes() {
    let server = builder(Host::Plain).stall_after(Duration::from_millis(100)).start().unwrap();
    let to = address(&server);
    let shard = ClientShard { host: Host::Plain, ..ClientShard::default() };
    let slept = block_on_shard(shard, move || async move {
        let client = SubjectClient::connect(to).await.unwrap();
        assert_eq!(client.add(1, 2).await, Ok(3));
        // Longer than a stall, with nothing to do on either side.
        corewire::sleep(Duration::from_millis(400)).await;
        // A listener that was taken out of service would refuse it.
        SubjectClient::connect(to).await.unwrap().add(1, 2).await
    });
    assert_eq!(slept.unwrap(), Ok(3));
    end(server);
}
