//! Shards on both hosts: which one they get, and that calls do not notice.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{ClientShard, Host, Placement, Server, ServerBuilder, block_on_shard};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use support::child::{ServerChild, role, say};
use support::lines::Lines;
use support::service::{SubjectClient, SubjectServer, Target};
use support::{PATIENCE, address, end};

/// What the child tells when it is done, followed by what it found.
const FOUND: &str = "child-found";

/// And then: how many warnings there were, and the last of them.
const WARNED: &str = "child-warned";

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

/// At most this much, or what the limit is already if that is less.
fn limit_locked_memory(bytes: u64) {
    let bytes = getrlimit(Resource::Memlock).maximum.map_or(bytes, |most| most.min(bytes));
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Memlock, limit).unwrap();
}

/// Root may lock more than its limit, by a capability. It is taken from this thread and those that it starts.
fn be_bound_by_limits() {
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(CapabilitySet::IPC_LOCK);
    }
    set_capabilities(None, sets).unwrap();
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

/// A server with more shards than may lock memory: which host they got.
fn server_of_many_shards(host: Host) -> String {
    match builder(host).placement(Placement::Unpinned(20)).start() {
        Ok(server) => {
            let uses = has_io_uring();
            end(server);
            if uses { "glommio" } else { "plain" }.to_owned()
        }
        Err(error) => error.to_string(),
    }
}

/// Each waits until all have made their calls, or were refused.
fn many_client_shards(host: Host) -> String {
    let server = builder(Host::Plain).start().unwrap();
    let to = address(&server);
    let together = Arc::new(Barrier::new(SHARDS));
    let shards: Vec<_> = (0..SHARDS)
        .map(|_| {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                let all = Arc::clone(&together);
                let shard = ClientShard { host, ..ClientShard::default() };
                let sum = block_on_shard(shard, move || async move {
                    let client = SubjectClient::connect(to).await.unwrap();
                    let sum = client.add(1, 2).await;
                    all.wait();
                    sum
                });
                if sum.is_err() {
                    together.wait();
                }
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
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    match what {
        "denied" => forbid(&CALLS),
        "denied-setup" => forbid(&CALLS[..1]),
        "denied-enter" => forbid(&CALLS[1..2]),
        "denied-register" => forbid(&CALLS[2..]),
        "locked" => limit_locked_memory(64 * 1024),
        "many" | "few" => {
            limit_locked_memory(8 * 1024 * 1024);
            be_bound_by_limits();
        }
        _ => {}
    }
    let found = match what {
        "many" => many_client_shards(host.parse().unwrap()),
        "few" => server_of_many_shards(host.parse().unwrap()),
        _ => one_call(host.parse().unwrap()).map_or_else(|error| error, ToOwned::to_owned),
    };
    say(FOUND, &found);
    let lines = lines.0.lock().unwrap();
    // A hundred shards on a few CPUs wait for them, which looks like a task that holds its shard.
    let is_of_hosts = |line: &&String| line.starts_with("WARN") && !line.contains("held_ms=");
    let warnings: Vec<_> = lines.iter().filter(is_of_hosts).collect();
    let last = warnings.last().map_or("", |line| line.as_str());
    say(WARNED, &format!("{} {last}", warnings.len()));
}

/// What a child in this role finds.
fn found(role: &str, variables: &[(&str, &str)]) -> String {
    found_and_warned(role, variables).0
}

/// The same, and what it was warned of.
fn found_and_warned(role: &str, variables: &[(&str, &str)]) -> (String, String) {
    let mut child = ServerChild::start_silent_with("a_child", role, variables);
    let (found, warned) = (child.said(FOUND), child.said(WARNED));
    assert!(child.end(PATIENCE).0.success());
    (found.trim().to_owned(), warned.trim().to_owned())
}

#[test]
fn shards_start_where_io_uring_is_forbidden_or_memory_cannot_be_locked() {
    // All of them, as profiles do, and each alone.
    for role in ["denied", "denied-setup", "denied-enter", "denied-register"] {
        assert_eq!(found(&format!("{role} auto"), &[]), "plain", "{role}");
    }
    assert_eq!(found("locked auto", &[]), "plain");
}

/// Whether glommio can run here at all. Where it cannot, its other limits do not show.
fn glommio_runs() -> bool {
    let found = found("free glommio", &[]);
    let runs = found == "glommio";
    if !runs {
        eprintln!("skipped in part, because glommio cannot run here: {found}");
    }
    runs
}

#[test]
fn glommio_that_was_asked_for_says_why_it_cannot() {
    let text = found("denied glommio", &[]);
    assert!(text.contains("io_uring"), "{text}");
    if !glommio_runs() {
        return;
    }
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

/// The limit is real: glommio alone does not get as many.
#[test]
fn a_hundred_client_shards_run_in_one_process() {
    let plain = found_and_warned("many auto", &[("COREWIRE_HOST", "plain")]);
    assert_eq!(plain, (SHARDS.to_string(), "0".to_owned()));
    let (good, warned) = found_and_warned("many auto", &[]);
    assert_eq!(good, SHARDS.to_string());
    if !glommio_runs() {
        return assert_told_once(&warned, "io_uring");
    }
    assert_told_once(&warned, "memory");
    let good: usize = found("many glommio", &[]).parse().unwrap();
    assert!((1..SHARDS).contains(&good), "{good} shards on glommio");
}

/// Root without the capability to lock memory, as in a container, is bound by its limit.
#[test]
fn a_server_whose_shards_need_more_than_may_be_locked_is_told_before_it_starts() {
    let (found, warned) = found_and_warned("few auto", &[]);
    assert_eq!(found, "plain");
    if !glommio_runs() {
        return assert_told_once(&warned, "io_uring");
    }
    assert_told_once(&warned, "locked memory");
    let text = found_and_warned("few glommio", &[]).0;
    assert!(text.contains("locked memory"), "{text}");
}

/// That there was one warning: why, what is missing, and how to choose this without it.
#[track_caller]
fn assert_told_once(warned: &str, why: &str) {
    assert!(warned.starts_with("1 WARN"), "{warned}");
    for part in [why, "glommio's own timers, files and tasks", "Host::Plain", "COREWIRE_HOST=plain"]
    {
        assert!(warned.contains(part), "{warned} does not say {part}");
    }
}

#[test]
fn one_warning_says_why_glommio_is_not_used_and_what_is_lost() {
    assert_told_once(&found_and_warned("denied auto", &[]).1, "io_uring");
    // Who asks for it is not warned, whatever is forbidden.
    for role in ["denied plain", "locked plain", "free plain"] {
        assert_eq!(found_and_warned(role, &[]).1, "0", "{role}");
    }
    if glommio_runs() {
        assert_told_once(&found_and_warned("locked auto", &[]).1, "locked memory");
        assert_eq!(found_and_warned("free auto", &[]).1, "0");
    }
    assert_eq!(found_and_warned("denied auto", &[("COREWIRE_HOST", "plain")]).1, "0");
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
