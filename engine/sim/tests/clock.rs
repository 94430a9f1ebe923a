//! Nothing that is simulated reaches any clock but the simulated one.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the system's clock may be read: outside of the driver, or on the far side of `Io`.
const MAY: &[(&str, usize)] = &[
    // The production side of `Io`.
    ("src/net/epoll.rs", 1),
    // What hosts the driver in production, and is not simulated.
    ("src/driver/executor.rs", 1),
    ("src/driver/runtime.rs", 2),
    ("src/host/supervisor.rs", usize::MAX),
    // Threads beside the shards: in a simulation offloaded work runs at once.
    ("src/workers/pool.rs", 1),
    // A shard outside of its turns, and what stands for that in a simulation, which always sets its time.
    ("src/shard/clock.rs", 2),
    // The start of virtual time, and the time that a command took.
    ("testing/src/ground.rs", 1),
    ("sim/src/main.rs", 1),
    // Clients that no shard drives. Their core is given the time, and asks for none.
    ("client/src/blocking/system.rs", usize::MAX),
    ("client/src/tokio/bridge.rs", usize::MAX),
    ("client/src/dial.rs", usize::MAX),
    ("client/src/remote/channel.rs", 2),
    ("client/src/remote/command.rs", 1),
    // What a bell says unless it has a clock of its own, as the simulator's has.
    ("client/src/remote/mailbox.rs", 1),
    ("client/src/tokio/driver.rs", 1),
    ("client/src/tokio/watch.rs", 2),
    ("client/src/wait.rs", 1),
    // Random seeds that the simulator replaces by its own.
    ("client/src/reconnect.rs", 1),
    ("src/host/server.rs", 1),
    // Tests start their virtual clocks like this.
    ("client/src/log_limit.rs", 3),
    ("proto/src/in_flight.rs", usize::MAX),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the engine's folders can be read");
    for entry in entries {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The product's source files, with their names below the engine's folder. The part of a file with its own
/// tests does not run in a simulation.
fn products() -> Vec<(String, String)> {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine's folder");
    let mut files = Vec::new();
    for folder in ["src", "proto/src", "client/src", "testing/src", "sim/src"] {
        sources(&engine.join(folder), &mut files);
    }
    let name = |file: &Path| {
        file.strip_prefix(engine).expect("it is inside").to_string_lossy().into_owned()
    };
    let named = files.iter().map(|file| (name(file), file));
    named
        .filter(|(name, _)| {
            !name.contains("/tests/")
                && !name.ends_with("tests.rs")
                && !name.ends_with("fuzzing.rs")
        })
        .map(|(name, file)| {
            let text = fs::read_to_string(file).expect("a source file");
            let product = text.split("\nmod tests {").next().unwrap_or("").to_owned();
            (name, product)
        })
        .collect()
}

/// Nothing that is simulated keeps a table with random order: a seed would not give the same run again.
#[test]
fn no_table_that_is_simulated_has_an_order_of_chance() {
    let may_have_them = [
        // Asked by key alone: nothing goes through them.
        "client/src/core/channel",
        "src/host/client_thread",
        // Not simulated.
        "client/src/tokio",
    ];
    let mut found = 0;
    for (name, product) in products() {
        let hashes = product.contains("HashMap") || product.contains("HashSet");
        let may = may_have_them.iter().any(|folder| name.starts_with(folder));
        assert!(may || !hashes, "{name} has a HashMap or HashSet; take a BTreeMap or BTreeSet");
        found += usize::from(hashes);
    }
    assert!(found > 0, "the search finds what is there");
}

#[test]
fn only_the_far_side_of_the_seam_asks_the_system_for_the_time() {
    let mut found = 0;
    for (name, product) in products() {
        let count = ["Instant::now", "SystemTime::now", "RandomState::new"]
            .iter()
            .map(|name| product.matches(&format!("{name}()")).count())
            .sum::<usize>()
            + product.matches("or_else(Instant::now)").count();
        found += count;
        let may = MAY.iter().find(|(path, _)| *path == name).map_or(0, |(_, most)| *most);
        assert!(count <= may, "{name} asks the system {count} times for the time or for chance");
    }
    assert!(found >= 5, "the search finds what is there");
}
