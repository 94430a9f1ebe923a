//! The program itself: exit codes, bad input, JSON, and the apply that takes itself back. All on
//! copies of a machine's files in a temporary directory; nothing here needs root or touches the machine.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/tree.rs"]
mod tree;

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use corewire_tune::host::Archive;
use tree::{Tree, class, code, text, tune};

#[test]
fn exit_codes_of_the_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let healthy = file("healthy", &class("i40e-tuned").to_text());
    let sick = file("sick", &class("neglected").to_text());
    assert_eq!(code(&tune(&["doctor", "--from", &healthy])), 0);
    let report = tune(&["doctor", "--from", &sick, "--format", "json"]);
    assert_eq!(code(&report), 1);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let finding = &report["findings"][0];
    for part in ["id", "severity", "subject", "title", "evidence", "why", "fix", "undo", "risk"] {
        assert!(!finding[part].is_null(), "{part}");
    }
    for bad in [
        &["doctor", "--from", "/no/such/file"][..],
        &["doctor", "--no-such-option"],
        &["doctor", "--iface"],
        &["nonsense"],
    ] {
        assert_eq!(code(&tune(bad)), 64, "{bad:?}");
    }
    let output = tune(&["doctor", "--from", &healthy, "--iface", "eth9"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("interface eth9: not there"), "{}", text(&output.stderr));
    assert_eq!(code(&tune(&["--help"])), 0);
}

#[test]
fn every_command_answers_in_json_with_its_version_and_the_kernel() {
    let tree = Tree::new("ixgbe-64-cpus");
    let (root, plan, out) = (tree.path("root"), tree.path("plan.json"), tree.path("capture"));
    let (before, after) = (tree.path("before.json"), tree.path("after.json"));
    let read = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", text(&output.stdout)))
    };
    let about = |arguments: &[&str]| {
        let output = tune(&[arguments, &["--json", "--root", &root]].concat());
        let answer = read(&output);
        // A plan is a file that is kept, with a version of its own.
        let version = if arguments[0] == "plan" { 1 } else { 2 };
        assert_eq!(answer["version"], version, "{arguments:?}");
        assert_eq!(answer["kernel"], "6.12.0", "{arguments:?}");
        answer
    };
    let look = ["--sample-ms", "0", "--iface", "eth0"];
    assert_eq!(about(&[&["doctor"][..], &look].concat())["cards"][0]["iface"], "eth0");
    let planned = about(&[&["plan"][..], &look].concat());
    assert!(planned["cards"][0].as_str().unwrap().starts_with("eth0: "), "{planned}");
    fs::write(&plan, planned.to_string()).unwrap();
    assert_eq!(about(&[&["capture", "--out", &out][..], &look].concat())["exit"], 0);
    let report = about(&["verify", "--iface", "eth0", "--duration", "1"]);
    assert_eq!((&report["verdict"], &report["exit"]), (&"INCONCLUSIVE".into(), &2.into()));
    fs::write(&before, report.to_string()).unwrap();
    fs::write(&after, report.to_string()).unwrap();
    let both = read(&tune(&["verify", "--before", &before, "--after", &after]));
    assert_eq!(both["version"], 2);
    let state = tree.path("state");
    let with_state = |arguments: &[&str]| about(&[arguments, &["--state-dir", &state]].concat());
    let applied = with_state(&["apply", &plan, "--confirm-within", "600"]);
    assert_eq!((&applied["id"], &applied["ifaces"][0]), (&"apply-1".into(), &"eth0".into()));
    assert_eq!(with_state(&["confirm"])["confirmed"][0], "apply-1");
    assert_eq!(with_state(&["status"])["applies"][0]["state"], "confirmed");
    let undone = with_state(&["undo"]);
    assert_eq!(
        (&undone["ifaces"][0], &undone["applies"][0]["left"]),
        (&"eth0".into(), &serde_json::json!([]))
    );
    let again = with_state(&["confirm"]);
    assert_eq!((&again["exit"], again["error"].is_string()), (&1.into(), true));
    let explained = read(&tune(&["explain", "--json", "irq_pile"]));
    assert_eq!(
        (&explained["version"], &explained["findings"][0]["id"]),
        (&2.into(), &"IRQ_PILE".into())
    );
}

#[test]
fn files_that_are_missing_empty_foreign_or_unreadable_are_named() {
    let needed = ["/sys/devices/system/cpu/online", "/proc/net/softnet_stat", "/proc/stat"];
    for path in needed {
        for (content, cause) in [
            (None, "not there"),
            (Some(""), "not understood"),
            (Some("garbage \u{1}\n"), "not understood"),
        ] {
            let mut archive = class("i40e-tuned");
            archive.later = None;
            match content {
                None => archive.first.files.remove(path),
                Some(content) => archive.first.files.insert(path.to_owned(), content.to_owned()),
            };
            assert_doctor_says(&archive, 2, path, cause);
        }
        let mut archive = class("i40e-tuned");
        archive.refused.insert(path.to_owned(), "EACCES".to_owned());
        assert_doctor_says(&archive, 2, path, "no permission");
    }
    // What is not needed to judge the rest is listed, and the rest is judged.
    let path = "/proc/irq/103/smp_affinity_list";
    for (reason, cause) in [("EACCES", "no permission"), ("EIO", "refused with EIO")] {
        let mut archive = class("i40e-tuned");
        archive.refused.insert(path.to_owned(), reason.to_owned());
        assert_doctor_says(&archive, 0, path, cause);
    }
    let mut archive = class("i40e-tuned");
    archive.first.files.insert(path.to_owned(), "zz\n".to_owned());
    assert_doctor_says(&archive, 0, path, "is not a CPU set");
    let mut archive = class("i40e-tuned");
    archive.first.nics.insert("eth0".to_owned(), "nonsense\n".to_owned());
    assert_doctor_says(&archive, 0, "card eth0", "not understood");
    // A card without any queue is looked at like any other.
    let mut archive = class("i40e-tuned");
    archive.first.files.retain(|path, _| !path.contains("/queues/"));
    assert_doctor_says(&archive, 0, "eth0", "0 rx and 0 tx queues");
}

fn assert_doctor_says(archive: &Archive, expected: i32, what: &str, cause: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive.to_text()).unwrap();
    let output = tune(&["doctor", "--from", &file.path().to_string_lossy()]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(code(&output), expected, "{what}, {cause}: {said}");
    let line = said.lines().find(|line| line.contains(what) && line.contains(cause));
    assert!(line.is_some(), "no line names {what} and {cause}:\n{said}");
}

#[test]
fn apply_status_drift_undo_and_their_codes() {
    let tree = Tree::new("ixgbe-64-cpus");
    let before = tree.contents();
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    let plan = tree.path("plan.json");
    let output = tree.with_state(&["apply", &plan, "--confirm"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("apply-1: 32 written"), "{}", text(&output.stdout));
    let output = tree.with_state(&["apply", &plan, "--confirm"]);
    assert!(text(&output.stdout).contains("nothing to do"));
    assert_eq!(code(&tree.with_state(&["status"])), 0);
    let path = tree.path("root/proc/irq/103/smp_affinity_list");
    fs::write(&path, "7\n").unwrap();
    let output = tree.with_state(&["status"]);
    assert_eq!(code(&output), 1);
    assert!(
        text(&output.stdout).contains("DRIFT  interrupt eth0-TxRx-3 of eth0 = 7, 3 was written"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(code(&tree.with_state(&["apply", &plan, "--confirm"])), 3);
    let output = tree.with_state(&["undo"]);
    assert_eq!(code(&output), 5);
    assert!(
        text(&output.stdout).contains("left: interrupt eth0-TxRx-3 of eth0 is 7"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(code(&tree.with_state(&["undo", "--force"])), 0);
    assert_eq!(tree.contents(), before);
    assert!(text(&tree.with_state(&["undo"]).stdout).contains("nothing to undo"));
    assert_eq!(code(&tree.with_state(&["confirm"])), 1);
    fs::write(&plan, "{}").unwrap();
    assert_eq!(code(&tree.with_state(&["apply", &plan])), 64);
}

#[test]
fn a_value_that_cannot_be_written_takes_everything_back() {
    let tree = Tree::new("ixgbe-64-cpus");
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    // Files of this process's own are writable whatever their mode where it is root, so the file becomes a link to one that
    // reads as planned for and takes no writing by anyone.
    let path = tree.path("root/proc/irq/107/smp_affinity_list");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let before = tree.contents();
    let output = tree.with_state(&["apply", &tree.path("plan.json"), "--confirm"]);
    // A directory in its place cannot be read either, and so the plan is refused before the first write.
    assert_eq!(code(&output), 3);
    assert!(
        text(&output.stderr).contains("/proc/irq/107/smp_affinity_list: refused with EISDIR"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(tree.contents(), before);
}

#[test]
fn an_apply_that_nobody_confirms_takes_itself_back() {
    let tree = Tree::new("ixgbe-64-cpus");
    let before = tree.contents();
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    let output = tree.with_state(&["apply", &tree.path("plan.json"), "--confirm-within", "1"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    until("it is taken back", || tree.contents() == before);
}

#[test]
fn an_apply_that_is_confirmed_stays() {
    let tree = Tree::new("ixgbe-64-cpus");
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    let apply = tree.with_state(&["apply", &tree.path("plan.json"), "--confirm-within", "600"]);
    assert_eq!(code(&apply), 0);
    assert!(
        text(&tree.with_state(&["status"]).stdout).contains("waiting for `corewire-tune confirm`")
    );
    assert_eq!(code(&tree.with_state(&["confirm"])), 0);
    assert!(text(&tree.with_state(&["status"]).stdout).contains("confirmed"));
    // A watcher ends at once where everything is settled, and where the journal is gone with its directory.
    let ended = ["watch", "--id", "apply-1", "--seconds", "600"];
    let start = Instant::now();
    assert_eq!(code(&tree.with_state(&ended)), 0);
    let nowhere = tree.path("nowhere");
    assert_eq!(code(&tune(&[&ended[..], &["--state-dir", &nowhere]].concat())), 0);
    assert!(start.elapsed() < Duration::from_secs(60), "the watcher waited");
}

/// A process that was started here, ended when the test is.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < give_up, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_apply_that_is_killed_in_the_middle_is_taken_back_at_once() {
    let tree = Tree::new("ixgbe-64-cpus");
    let before = tree.contents();
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    // The fifth interrupt's file is a pipe that nobody reads: the apply stops there, as at a driver that takes its time.
    let pipe = tree.path("root/proc/irq/104/smp_affinity_list");
    let mask = fs::read(&pipe).unwrap();
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (root, state) = (tree.path("root"), tree.path("state"));
    let child = Command::new(env!("CARGO_BIN_EXE_corewire-tune"))
        .args([
            "apply",
            &tree.path("plan.json"),
            "--confirm-within",
            "600",
            "--root",
            &root,
            "--state-dir",
            &state,
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    // The plan's precondition is read; then the step waits for its old value.
    fs::write(&pipe, "0-63\n").unwrap();
    until("the first interrupt is written", || {
        fs::read(tree.path("root/proc/irq/103/smp_affinity_list")).unwrap() == b"3\n"
    });
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    fs::remove_file(&pipe).unwrap();
    fs::write(&pipe, mask).unwrap();
    until("everything is taken back", || tree.contents() == before);
}

#[test]
fn one_apply_at_a_time_whatever_the_state_directory() {
    let tree = Tree::new("ixgbe-64-cpus");
    let before = tree.contents();
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    let (plan, root) = (tree.path("plan.json"), tree.path("root"));
    assert_eq!(code(&tree.with_state(&["apply", &plan, "--confirm-within", "600"])), 0);
    fs::write(tree.path("root/proc/irq/103/smp_affinity_list"), "0-63\n").unwrap();
    // The same journal, and another one.
    let again = tree.with_state(&["apply", &plan, "--confirm"]);
    assert_eq!(code(&again), 3);
    assert!(text(&again.stderr).contains("apply-1 waits for"), "{}", text(&again.stderr));
    let elsewhere =
        tune(&["apply", &plan, "--confirm", "--root", &root, "--state-dir", &tree.path("other")]);
    assert_eq!(code(&elsewhere), 3);
    assert!(text(&elsewhere.stderr).contains("apply-1 in "), "{}", text(&elsewhere.stderr));
    assert_eq!(code(&tree.with_state(&["undo"])), 0);
    assert_eq!(tree.contents(), before);
}

#[test]
fn a_damaged_journal_is_named_by_every_command() {
    let tree = Tree::new("ixgbe-64-cpus");
    let before = tree.contents();
    fs::write(tree.path("plan.json"), tree.plan(&["--format", "json"]).stdout).unwrap();
    assert_eq!(code(&tree.with_state(&["apply", &tree.path("plan.json"), "--confirm"])), 0);
    let journal = tree.path("state/journal.jsonl");
    let mut lines: Vec<String> =
        fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
    lines.insert(3, "garbage".to_owned());
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    for (arguments, expected) in [(&["status"][..], 5), (&["status", "--json"], 5), (&["undo"], 5)]
    {
        let output = tree.with_state(arguments);
        assert_eq!(code(&output), expected, "{arguments:?}");
        assert!(text(&output.stdout).contains("damaged in line 4"), "{}", text(&output.stdout));
    }
    assert_eq!(tree.contents(), before, "what can be read is taken back");
    let output = tree.with_state(&["apply", &tree.path("plan.json"), "--confirm"]);
    assert_eq!(code(&output), 3);
    assert!(text(&output.stderr).contains("damaged in line 4"), "{}", text(&output.stderr));
}

#[test]
fn the_other_card_of_the_same_names_is_never_touched() {
    let tree = Tree::new("14-two-vfs-one-name");
    let others = |tree: &Tree| {
        [100, 101, 102, 103].map(|irq| {
            fs::read_to_string(tree.path(&format!("root/proc/irq/{irq}/smp_affinity_list")))
                .unwrap()
        })
    };
    let (before, own) = (tree.contents(), others(&tree));
    let plan = tree.plan(&["--iface", "net1", "--only", "irq", "--format", "json"]);
    fs::write(tree.path("plan.json"), plan.stdout).unwrap();
    assert_eq!(code(&tree.with_state(&["apply", &tree.path("plan.json"), "--confirm"])), 0);
    assert_ne!(tree.contents(), before);
    assert_eq!(others(&tree), own);
    assert_eq!(code(&tree.with_state(&["undo"])), 0);
    assert_eq!(tree.contents(), before);
    // Without the device's list the name is ambiguous: nothing is planned, and the doctor says why.
    let mut archive = class("14-two-vfs-one-name");
    archive.dirs.retain(|dir| !dir.contains("msi_irqs"));
    for text in archive
        .first
        .files
        .values_mut()
        .chain(archive.later.iter_mut().flat_map(|(_, later)| later.files.values_mut()))
    {
        *text = text
            .replace("IR-PCI-MSIX-0000:18:02.0", "PCI-MSI")
            .replace("IR-PCI-MSIX-0000:18:02.5", "PCI-MSI");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive.to_text()).unwrap();
    let from = file.path().to_string_lossy().into_owned();
    let plan = tune(&["plan", "--from", &from, "--iface", "net1", "--only", "irq"]);
    assert!(
        text(&plan.stdout).contains("another interrupt has the same name"),
        "{}",
        text(&plan.stdout)
    );
    assert!(!text(&plan.stdout).contains("->"), "{}", text(&plan.stdout));
    assert!(text(&tune(&["doctor", "--from", &from]).stdout).contains("IRQ_AMBIGUOUS"));
}

#[test]
fn nothing_looked_at_is_not_clean() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, archive: &Archive| {
        let path = dir.path().join(name);
        fs::write(&path, archive.to_text()).unwrap();
        path.to_string_lossy().into_owned()
    };
    // A capture that only lists the other interface, a host whose cards are down, a process that is not there.
    let mut archive = class("i40e-tuned");
    archive.dirs.insert("/sys/class/net/eth1".to_owned());
    let capture = file("capture", &archive);
    archive.first.files.insert("/sys/class/net/eth0/operstate".to_owned(), "down\n".to_owned());
    let down = file("down", &archive);
    for (arguments, expected, says) in [
        (&["doctor", "--from", &capture, "--iface", "eth1"][..], 2, "interface eth1: not there"),
        (&["doctor", "--from", &down], 2, "no network card"),
        (&["plan", "--from", &down], 2, "no network card"),
        (
            &["doctor", "--from", &capture, "--engine-pid", "4194304"],
            2,
            "process 4194304: not there",
        ),
        (&["doctor", "--engine-pid", "4194304"], 2, "process 4194304: not there"),
    ] {
        let output = tune(arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", text(&output.stdout));
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_container_that_hides_the_interrupts_is_judged_by_the_rest() {
    for hidden in [None, Some("")] {
        let mut archive = class("i40e-tuned");
        let table = archive.first.files.remove("/proc/interrupts").unwrap();
        archive.later.as_mut().unwrap().1.files.remove("/proc/interrupts");
        if let Some(text) = hidden {
            archive.first.files.insert("/proc/interrupts".to_owned(), text.to_owned());
        }
        assert_doctor_says(&archive, 0, "eth0", "16 interrupts by msi_irqs");
        // The kernel says the names one by one, too.
        for line in table.lines().filter(|line| line.contains("TxRx")) {
            let (irq, name) =
                (line.split(':').next().unwrap().trim(), line.split(' ').next_back().unwrap());
            archive
                .first
                .files
                .insert(format!("/sys/kernel/irq/{irq}/actions"), format!("{name}\n"));
        }
        assert_doctor_says(&archive, 0, "eth0", "16 interrupts (found by names)");
    }
}

#[test]
fn the_affinity_of_the_tool_is_not_the_host_s() {
    let mut archive = class("i40e-tuned");
    archive
        .first
        .files
        .insert("/proc/self/status".to_owned(), "Cpus_allowed_list:\t0\n".to_owned());
    archive
        .first
        .files
        .insert("/proc/1/status".to_owned(), "Cpus_allowed_list:\t0-31\n".to_owned());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive.to_text()).unwrap();
    let from = file.path().to_string_lossy().into_owned();
    let placement = file.path().with_extension("toml").to_string_lossy().into_owned();
    assert_eq!(code(&tune(&["plan", "--from", &from, "--emit-placement", &placement])), 0);
    let output = tune(&["doctor", "--from", &from, "--placement", &placement]);
    let _ = fs::remove_file(&placement);
    assert!(!text(&output.stdout).contains("CPUSET_MISMATCH"), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("32 usable"), "{}", text(&output.stdout));
}

#[test]
fn explain_knows_every_finding_and_capture_can_be_read_back() {
    assert_eq!(code(&tune(&["explain", "irq_pile"])), 0);
    assert_eq!(code(&tune(&["explain", "NO_SUCH"])), 64);
    let tree = Tree::new("ixgbe-64-cpus");
    let (root, out) = (tree.path("root"), tree.path("out"));
    let output = tune(&[
        "capture",
        "--root",
        &root,
        "--sample-ms",
        "0",
        "--out",
        &out,
        "--comment",
        "a copy",
    ]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let of_tree = tune(&["doctor", "--root", &root, "--sample-ms", "0"]);
    let of_capture = tune(&["doctor", "--from", &out, "--sample-ms", "0"]);
    assert_eq!(text(&of_tree.stdout), text(&of_capture.stdout));
}
