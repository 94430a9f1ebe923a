//! Python's official `protobuf` package reads what a message writes, and the reverse, in protobuf and in JSON.
//!
//! `bash .ci/run protobuf` installs the package and runs it. By hand: `COREWIRE_PYTHON=…/bin/python cargo test -p corewire
//! --test messages_python -- --ignored`, with a Python that has it.

#[path = "messages/zoo.rs"]
mod zoo;

use corewire::Bytes;
use corewire::message::{Schema, from_json, from_protobuf, to_json, to_protobuf};
use std::process::Command;
use zoo::{Dice, Zoo};

const MESSAGES: u64 = 10_000;

fn put(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(u32::try_from(part.len()).expect("a small part").to_le_bytes());
    out.extend(part);
}

fn take(rest: &mut Bytes) -> Bytes {
    let length = rest.split_to(4);
    let length = u32::from_le_bytes(length[..].try_into().expect("four bytes"));
    rest.split_to(length as usize)
}

#[test]
#[ignore = "needs Python's package protobuf; run it with: bash .ci/run protobuf"]
fn python_reads_what_is_written_and_writes_what_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let mut sent = Vec::new();
    put(&mut sent, &Schema::of::<Zoo>().file_descriptor("zoo/v1/zoo.proto").expect("a descriptor"));
    for seed in 0..MESSAGES {
        let zoo = Dice(seed).zoo();
        put(&mut sent, &to_protobuf(&zoo).expect("protobuf"));
        put(&mut sent, to_json(&zoo).expect("JSON").as_bytes());
    }
    std::fs::write(&ours, sent).expect("a file");

    let python = std::env::var("COREWIRE_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/messages/agree.py");
    let ended = Command::new(python).arg(script).arg(&ours).arg(&theirs).status().expect("Python");
    assert!(ended.success(), "Python does not agree");

    let mut got = Bytes::from(std::fs::read(&theirs).expect("Python's answer"));
    for seed in 0..MESSAGES {
        let zoo = Dice(seed).zoo();
        let (protobuf, json) = (take(&mut got), take(&mut got));
        assert_eq!(from_protobuf::<Zoo>(&protobuf).expect("protobuf"), zoo, "seed {seed}");
        assert_eq!(from_json::<Zoo>(&json).expect("JSON"), zoo, "seed {seed}");
        // It packs, orders and omits as we do; only the order of entries in maps is free.
        assert_eq!(protobuf.len(), to_protobuf(&zoo).expect("protobuf").len(), "seed {seed}");
    }
    assert!(got.is_empty());
}
