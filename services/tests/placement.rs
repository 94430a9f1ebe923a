//! Where a real server's shards run, by policy and by file.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Placement, Running, allowed_cpus};
use corewire_placement::{CpuSet, Facts, Options, Root, derive};
use std::path::Path;
use support::{builder, end};

fn facts() -> Facts {
    let own: CpuSet =
        allowed_cpus().unwrap().into_iter().map(|it| u32::try_from(it).unwrap()).collect();
    Facts::read(&mut Root::system(), Some(&own)).unwrap()
}

fn cpus(server: &Running) -> Vec<Option<usize>> {
    server.shards().iter().map(|shard| shard.info.cpu).collect()
}

/// A file that was made for this machine is followed, in its order; one of another machine starts nothing.
#[test]
fn a_server_starts_where_its_placement_file_says_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("placement.toml");
    let named = allowed_cpus().unwrap().into_iter().rev();
    let named: Vec<u32> = named.map(|cpu| u32::try_from(cpu).unwrap()).collect();
    let options =
        Options { cpus: Some(corewire_placement::CpuOrder(named.clone())), ..Options::default() };
    let text = derive(&facts().topology, &[], &options).unwrap().to_toml().unwrap();
    let save = |text: &str| std::fs::write(&path, text).unwrap();
    let start = |path: &Path| builder(1).placement(Placement::File(path.to_owned())).start();
    save(&text);
    let server = start(&path).unwrap();
    let expected: Vec<Option<usize>> = named.iter().map(|&cpu| Some(cpu as usize)).collect();
    assert_eq!(cpus(&server), expected);
    end(server);

    let digest = facts().topology.digest();
    for (text, words) in [
        (
            text.replace(&digest, "0123456789abcdef"),
            &["other CPUs, cores or nodes", "--emit-placement"][..],
        ),
        (
            text.replacen(&format!("cpu = {}", named[0]), "cpu = 1023", 1),
            &["CPU 1023 is not online"],
        ),
        (text.replace("schema = 1", "schema = 2"), &["schema 2"]),
        ("zero".to_owned(), &["not a placement file"]),
    ] {
        save(&text);
        let error = start(&path).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(error.contains("placement.toml"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = start(Path::new("/no/such.toml")).unwrap_err().to_string();
    assert!(error.contains("/no/such.toml"), "{error}");
}

/// What a policy in words chooses is what the shared rule chooses here.
#[test]
fn policies_choose_as_the_shared_rule_does() {
    for text in ["all", "cores", "split:1", "split:999", "node-of:lo", "node-of:none0"] {
        let policy: corewire_placement::Policy = text.parse().unwrap();
        let wanted = policy.choose(&mut Root::system(), &facts());
        let started = builder(1).placement(text.parse().unwrap()).start();
        match (wanted, started) {
            (Ok(choice), Ok(server)) => {
                let wanted: Vec<Option<usize>> =
                    choice.shards.iter().map(|cpu| cpu.map(|cpu| cpu as usize)).collect();
                assert_eq!(cpus(&server), wanted, "{text}");
                end(server);
            }
            (Err(wanted), Err(error)) => assert_eq!(wanted.to_string(), error.to_string()),
            (wanted, started) => panic!("{text}: {wanted:?} but {:?}", started.map(drop)),
        }
    }
}
