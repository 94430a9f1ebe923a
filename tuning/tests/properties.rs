//! What must hold whatever happens: undo restores, a second apply does nothing, and neither a refused write nor the end of the
//! program at any point leaves anything behind that undo does not find.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::classes;
use common::fake::{FakeHost, MemoryJournal, Sabotage, settings_by_name};
use corewire_tune::apply::{ApplyError, ApplyOptions, Outcome, drift, undo};
use corewire_tune::host::{Archive, FaultKind, Host as _};
use corewire_tune::journal::{Journal as _, Record};
use corewire_tune::placement;
use corewire_tune::plan::{Goal, Plan, PlanOptions, Setting, make};
use corewire_tune::snapshot::{Scope, Snapshot};
use proptest::prelude::*;

/// The classes whose plans have steps of every kind: channels up and down, rings, moderation, interrupts, RPS, XPS, sysctl, power.
const CLASSES: [&str; 10] = [
    "ixgbe-64-cpus",
    "ice-ring-drops",
    "mlx5-two-sockets",
    "bnxt-few-queues",
    "virtio-four-queues",
    "bond-of-two",
    "offline-hole-old-kernel",
    "isolated-cpus",
    "neglected",
    "disks-and-irqbalance",
];

fn options() -> impl Strategy<Value = PlanOptions> {
    let goal = prop_oneof![Just(None), Just(Some(Goal::Latency)), Just(Some(Goal::Throughput))];
    (
        proptest::option::of(1_u32..5),
        proptest::option::of(1_u32..5),
        goal,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(shards, queues, goal, rps, smt)| PlanOptions {
            derive: placement::Options { shards, queues, smt, ..placement::Options::default() },
            is_named: true,
            goal,
            rps,
            ..PlanOptions::default()
        })
}

fn machine(name: &str) -> (FakeHost, Vec<String>) {
    let (_, archive, ifaces) =
        classes::all().into_iter().find(|(known, _, _)| *known == name).unwrap();
    (FakeHost::new(archive), ifaces)
}

fn plan_for(host: &FakeHost, ifaces: &[String], options: &PlanOptions) -> Plan {
    let snapshot =
        Snapshot::take(host, &Scope { ifaces: ifaces.to_vec(), ..Scope::default() }).unwrap();
    make(&snapshot, options).unwrap()
}

/// An apply without a watcher.
fn apply(
    host: &FakeHost,
    journal: &mut MemoryJournal,
    plan: &Plan,
    options: &ApplyOptions,
) -> Result<Outcome, ApplyError> {
    corewire_tune::apply::apply(host, journal, plan, options, &mut |_| Ok(()))
}

fn confirm(journal: &mut MemoryJournal, outcome: &Outcome) {
    if let Some(id) = outcome.id.clone() {
        journal.append(&Record::Confirmed { id }).unwrap();
    }
}

fn banned() -> ApplyOptions {
    ApplyOptions { irqbalance_is_banned: true, ..ApplyOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32,
        failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn undo_after_apply_restores(class in 0..CLASSES.len(), options in options()) {
        let (host, ifaces) = machine(CLASSES[class]);
        let plan = plan_for(&host, &ifaces, &options);
        let before = settings_by_name(&host);
        let mut journal = MemoryJournal::default();
        let outcome = apply(&host, &mut journal, &plan, &banned()).unwrap();
        if let Some(id) = outcome.id {
            let report = undo(&host, &mut journal, &id, false).unwrap();
            prop_assert_eq!(report.left, Vec::<String>::new());
        }
        prop_assert_eq!(settings_by_name(&host), before);
    }

    #[test]
    fn a_second_apply_changes_nothing(class in 0..CLASSES.len(), options in options()) {
        let (host, ifaces) = machine(CLASSES[class]);
        let plan = plan_for(&host, &ifaces, &options);
        let mut journal = MemoryJournal::default();
        let outcome = apply(&host, &mut journal, &plan, &banned()).unwrap();
        confirm(&mut journal, &outcome);
        let (state, writes) = (settings_by_name(&host), host.write_count());
        let again = apply(&host, &mut journal, &plan, &banned()).unwrap();
        prop_assert_eq!(again.id, None);
        prop_assert_eq!(host.write_count(), writes);
        // A plan made on the tuned machine leaves what was placed where it is. (Steps that wait for evidence, such as doubling a
        // ring, may come again: the counters of this machine go on growing.)
        let again = plan_for(&host, &ifaces, &options);
        let placed = again.steps.iter().filter(|step| matches!(step.setting, Setting::Irq { .. } | Setting::Mask { .. })).count();
        prop_assert_eq!(placed, 0, "{:?}", again.steps);
        prop_assert_eq!(settings_by_name(&host), state);
    }

    #[test]
    fn a_refused_write_takes_everything_back(class in 0..CLASSES.len(), options in options(), skip in 0_u32..40, kind in 0..4_usize) {
        let (host, ifaces) = machine(CLASSES[class]);
        let plan = plan_for(&host, &ifaces, &options);
        let before = settings_by_name(&host);
        let refused = |name: &str| FaultKind::Refused(name.to_owned());
        let kind = [refused("EIO"), refused("ENOSPC"), refused("EOVERFLOW"), FaultKind::Denied][kind].clone();
        host.sabotage().fail_write_after(skip, kind.clone());
        let mut journal = MemoryJournal::default();
        match apply(&host, &mut journal, &plan, &banned()) {
            // The plan was shorter than the fault's place.
            Ok(outcome) => prop_assert!(outcome.written <= skip as usize),
            Err(ApplyError::RolledBack(cause)) => {
                prop_assert_eq!(cause.kind, kind);
                prop_assert_eq!(settings_by_name(&host), before);
                prop_assert!(journal.records().unwrap().applies().iter().all(|applied| applied.is_ended));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn undo_after_the_end_of_the_program_at_any_point_restores(
        class in 0..CLASSES.len(), options in options(), steps in 0_u32..80, undo_steps in 0_u32..80,
    ) {
        let (host, ifaces) = machine(CLASSES[class]);
        let plan = plan_for(&host, &ifaces, &options);
        let before = settings_by_name(&host);
        let mut journal = MemoryJournal::new(host.sabotage());
        host.sabotage().kill_after(steps);
        let _ = apply(&host, &mut journal, &plan, &banned());
        // The undo may be ended as well, and is then run again.
        host.sabotage().kill_after(undo_steps);
        undo_all(&host, &mut journal);
        host.sabotage().lift();
        undo_all(&host, &mut journal);
        prop_assert_eq!(settings_by_name(&host), before);
        prop_assert!(journal.records().unwrap().applies().iter().all(|applied| applied.is_ended));
    }
}

fn undo_all(host: &FakeHost, journal: &mut MemoryJournal) {
    for applied in journal.records().unwrap().applies() {
        if let Ok(report) = undo(host, journal, &applied.id, false) {
            assert_eq!(report.left, Vec::<String>::new());
        }
    }
}

/// Every single place of one plan with all kinds of steps, so that no place depends on luck.
#[test]
fn every_place_of_a_long_plan() {
    let options = PlanOptions {
        derive: placement::Options { queues: Some(3), ..placement::Options::default() },
        goal: Some(Goal::Latency),
        rps: true,
        ..PlanOptions::default()
    };
    let mut reached = 0;
    for steps in 0.. {
        let (host, ifaces) = machine("neglected");
        let plan = plan_for(&host, &ifaces, &options);
        let before = settings_by_name(&host);
        let mut journal = MemoryJournal::new(host.sabotage());
        host.sabotage().kill_after(steps);
        let done = apply(&host, &mut journal, &plan, &banned()).is_ok();
        host.sabotage().lift();
        undo_all(&host, &mut journal);
        assert_eq!(settings_by_name(&host), before, "ended after {steps} steps");
        reached = steps;
        if done {
            break;
        }
    }
    assert!(reached > 30, "the plan has only {reached} places");
}

#[test]
fn what_somebody_else_changed_is_named_and_left() {
    let (host, ifaces) = machine("neglected");
    let plan = plan_for(&host, &ifaces, &PlanOptions::default());
    let mut journal = MemoryJournal::new(Sabotage::default());
    let id = apply(&host, &mut journal, &plan, &banned()).unwrap().id.unwrap();
    let path = "/proc/sys/net/core/somaxconn";
    host.overwrite(path, "9999\n");
    let report = undo(&host, &mut journal, &id, false).unwrap();
    assert_eq!(report.left.len(), 1);
    assert!(report.left[0].contains(path) && report.left[0].contains("9999"), "{}", report.left[0]);
    assert_eq!(host.read(path).unwrap(), "9999\n");
    let report = undo(&host, &mut journal, &id, true).unwrap();
    assert_eq!((report.left.len(), host.read(path).unwrap().as_str()), (0, "128\n"));
}

#[test]
fn a_changed_machine_irqbalance_or_a_restart_refuse_the_plan() {
    let (host, ifaces) = machine("neglected");
    let plan = plan_for(&host, &ifaces, &PlanOptions::default());
    let refusal = |host: &FakeHost, options: &ApplyOptions| match apply(
        host,
        &mut MemoryJournal::default(),
        &plan,
        options,
    ) {
        Err(ApplyError::Refused(reasons)) => reasons.join("\n"),
        other => panic!("{other:?}"),
    };
    assert!(refusal(&host, &ApplyOptions::default()).contains("irqbalance (process 811)"));
    host.overwrite("/proc/sys/net/core/somaxconn", "77\n");
    assert!(
        refusal(&host, &banned())
            .contains("/proc/sys/net/core/somaxconn is 77, the plan expected 128")
    );
    host.overwrite("/proc/sys/kernel/random/boot_id", "another\n");
    assert!(refusal(&host, &banned()).contains("restarted"));
    assert_eq!(host.write_count(), 0);
}

#[test]
fn a_managed_interrupt_is_explained_and_everything_taken_back() {
    let (_, archive, _) =
        classes::all().into_iter().find(|(name, _, _)| *name == "ixgbe-64-cpus").unwrap();
    let host = FakeHost::new(archive).with_managed_irqs([105]);
    let plan = plan_for(&host, &[], &PlanOptions::default());
    let before = settings_by_name(&host);
    let error = apply(&host, &mut MemoryJournal::default(), &plan, &banned()).unwrap_err();
    assert!(matches!(error, ApplyError::RolledBack(_)));
    assert!(
        error.to_string().contains("/proc/irq/105/smp_affinity_list: refused with EIO"),
        "{error}"
    );
    assert!(error.to_string().contains("IRQ_MANAGED"), "{error}");
    assert_eq!(settings_by_name(&host), before);
}

/// The plan for a placement of the last four CPUs, on a host whose disks interrupt those.
fn disks() -> (FakeHost, Plan) {
    disks_with(|_| {})
}

fn disks_with(change: impl Fn(&mut Archive)) -> (FakeHost, Plan) {
    let mut archive = classes::disks_and_irqbalance();
    change(&mut archive);
    let host = FakeHost::new(archive);
    let ifaces = ["eth0".to_owned()];
    let cpus = placement::CpuOrder(vec![4, 5, 6, 7]);
    let derive = placement::Options { cpus: Some(cpus), ..placement::Options::default() };
    let placed =
        plan_for(&host, &ifaces, &PlanOptions { is_named: true, derive, ..PlanOptions::default() });
    let host = host.with_traffic(1000, &ifaces);
    let scope = Scope { ifaces: ifaces.to_vec(), ..Scope::default() };
    let snapshot = Snapshot::take(&host, &scope).unwrap();
    let given = PlanOptions { given: Some(placed.placement), ..PlanOptions::default() };
    (host, make(&snapshot, &given).unwrap())
}

#[test]
fn an_interrupt_of_a_disk_that_the_kernel_manages_stays_and_the_plan_goes_on() {
    let (host, plan) = disks();
    let irq = |host: &FakeHost, name: &str| {
        let text = host.read("/proc/interrupts").unwrap();
        let table = corewire_tune::parse::interrupts(&text).unwrap();
        let irq = table.iter().find(|line| line.name == name).unwrap().irq;
        (irq, host.read(&format!("/proc/irq/{irq}/smp_affinity_list")).unwrap())
    };
    assert!(plan.left_out.iter().any(|line| line.contains("nvme0q1")), "{:?}", plan.left_out);
    let (managed, mask) = irq(&host, "megasas0-msix0");
    let host = host.with_managed_irqs([managed]);
    let before = settings_by_name(&host);
    let mut journal = MemoryJournal::default();
    let outcome = apply(&host, &mut journal, &plan, &ApplyOptions::default()).unwrap();
    assert_eq!(outcome.refused.len(), 1, "{:?}", outcome.refused);
    assert!(outcome.refused[0].contains("EIO"), "{:?}", outcome.refused);
    assert_eq!(irq(&host, "megasas0-msix0").1, mask);
    assert_eq!(irq(&host, "nvme0q0").1, "0-3\n", "the others are moved");
    let applied = journal.records().unwrap().applies().remove(0);
    assert!(drift(&host, &applied).iter().all(|(_, holds)| *holds), "{:?}", drift(&host, &applied));
    let report = undo(&host, &mut journal, &applied.id, false).unwrap();
    assert_eq!(report.left, Vec::<String>::new());
    assert_eq!(settings_by_name(&host), before);
}

#[test]
fn the_ban_is_written_before_interrupts_are_moved_and_outlasts_a_restart_of_the_machine() {
    let (host, plan) = disks();
    let config = "/etc/default/irqbalance";
    let before = host.read(config).unwrap();
    assert!(matches!(plan.steps[0].setting, Setting::Irqbalance { .. }), "{:?}", plan.steps[0]);
    let mut journal = MemoryJournal::default();
    let id = apply(&host, &mut journal, &plan, &ApplyOptions::default()).unwrap().id.unwrap();
    let text = host.read(config).unwrap();
    assert_eq!(
        text,
        "# arguments\nIRQBALANCE_ARGS=\"--foreground --banmod=ixgbe --banmod=eth0\"\n# end\n\
         IRQBALANCE_BANNED_CPULIST=\"4-7\"\n"
    );
    assert!(host.read("/proc/811/cmdline").unwrap().contains("\0--banmod=eth0\0"));
    host.overwrite("/proc/sys/kernel/random/boot_id", "another\n");
    let applied = journal.records().unwrap().applies().remove(0);
    assert_eq!(drift(&host, &applied).len(), 2, "{:?}", drift(&host, &applied));
    let report = undo(&host, &mut journal, &id, false).unwrap();
    assert_eq!((report.restored, report.left.len()), (2, 0));
    assert_eq!(host.read(config).unwrap(), before);
}

#[test]
fn an_irqbalance_whose_unit_does_not_read_the_ban_takes_the_plan_back() {
    let (host, mut plan) = disks();
    let before = settings_by_name(&host);
    // The fake's unit reads another variable.
    let setting = Setting::Irqbalance {
        path: "/etc/default/irqbalance".to_owned(),
        name: "OPTIONS".to_owned(),
    };
    plan.steps[0].setting = setting;
    plan.steps[0].old = Some(String::new());
    plan.steps[0].new = "OPTIONS=\"--banmod=ixgbe\"".to_owned();
    let mut journal = MemoryJournal::default();
    let error = apply(&host, &mut journal, &plan, &ApplyOptions::default()).unwrap_err();
    assert!(matches!(error, ApplyError::RolledBack(_)), "{error}");
    assert!(error.to_string().contains("started without --banmod=ixgbe"), "{error}");
    assert_eq!(settings_by_name(&host), before);
}

#[test]
fn disks_are_left_where_irqbalance_would_bring_them_back() {
    for (path, text) in [
        ("/etc/default/irqbalance", "IRQBALANCE_BANNED_CPUS=3\nIRQBALANCE_ARGS=\n"),
        ("/etc/default/irqbalance", "IRQBALANCE_BANNED_CPULIST=x\nIRQBALANCE_ARGS=\n"),
        ("/etc/default/other", ""),
    ] {
        let (host, plan) = disks_with(|archive| {
            archive.first.files.remove("/etc/default/irqbalance");
            archive.first.files.insert(path.to_owned(), text.to_owned());
        });
        let moves = |step: &&corewire_tune::plan::Step| step.finding == "IRQ_OTHERS_ON_SHARDS";
        assert_eq!(plan.steps.iter().filter(moves).count(), 0, "{text} {:?}", host.write_count());
        assert!(plan.left_out.iter().any(|line| line.contains("nvme0q0")), "{:?}", plan.left_out);
    }
}

#[test]
fn an_undo_that_is_ended_before_irqbalance_is_restarted_is_finished_by_the_next() {
    for steps in 0.. {
        let (host, plan) = disks();
        let before = settings_by_name(&host);
        let mut journal = MemoryJournal::new(host.sabotage());
        let id = apply(&host, &mut journal, &plan, &ApplyOptions::default()).unwrap().id.unwrap();
        host.sabotage().kill_after(steps);
        let first = undo(&host, &mut journal, &id, false);
        host.sabotage().lift();
        assert_eq!(undo(&host, &mut journal, &id, false).unwrap().left, Vec::<String>::new());
        assert_eq!(settings_by_name(&host), before, "ended after {steps} steps");
        if first.is_ok() {
            return;
        }
    }
}
