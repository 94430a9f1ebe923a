//! Threads that are no shards run beside the shards. One test alone: what it looks at is the whole process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{ClientShard, ClientThread, Placement, allowed_cpus};
use corewire_placement::CpuSet;
use std::collections::BTreeMap;
use support::{builder, end, until};

/// The CPUs that each thread of this process may use, by its name; of two with one name, one.
fn masks() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        found.insert(read("comm").trim().to_owned(), mask.unwrap_or_default().trim().to_owned());
    }
    found
}

/// The supervisor, and a client thread, keep off the only shard's CPU; when the server is gone nothing keeps them.
#[test]
fn threads_that_are_no_shards_keep_off_the_shards_cpus() {
    let all = allowed_cpus().unwrap();
    if all.len() < 2 {
        eprintln!("SKIPPED: with one CPU there is no other");
        return;
    }
    let (shard, others) = all.split_first().unwrap();
    let others: CpuSet = others.iter().map(|&cpu| u32::try_from(cpu).unwrap()).collect();
    let server = builder(1).placement(Placement::Cpus(vec![*shard])).start().unwrap();
    let pinned = ClientShard { cpu: Some(*shard), ..ClientShard::default() };
    drop(ClientThread::start(pinned).expect("one that is to be pinned may go to a shard's CPU"));
    until("that one has ended", || !masks().contains_key("corewire-client"));
    let client = ClientThread::start(ClientShard::default()).unwrap();
    // A thread takes its mask as its first act, maybe after its start was told.
    until("the supervisor is beside the shard", || {
        masks().get("corewire-watch") == Some(&others.to_string())
    });
    let masks = masks();
    assert_eq!(masks["corewire-client"], others.to_string());
    assert_eq!(masks["corewire-0"], shard.to_string());
    end(server);
    drop(client);
    until("the client thread has ended", || !self::masks().contains_key("corewire-client"));
    let free = ClientThread::start(ClientShard::default()).unwrap();
    let mask: CpuSet = self::masks()["corewire-client"].parse().unwrap();
    assert_eq!(mask.len(), all.len(), "no server, no limit");
    drop(free);
}
