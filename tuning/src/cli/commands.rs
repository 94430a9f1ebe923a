//! The commands, each one call from the library to the text that people or programs read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::apply::{self, ApplyError, ApplyOptions};
use crate::doctor::{self as diagnosis, catalogue, entry};
use crate::host::{Archive, ArchiveHost, Host};
use crate::journal::{Applied, FileJournal, Journal as _, Record};
use crate::lock::HostLock;
use crate::plan::{self as planning, Plan, PlanError, PlanOptions, Setting, plan_text, script};
use crate::snapshot::{Scope, Snapshot};
use crate::verify::{self as proof, Judgement, VerifyOptions, VerifyReport, compare, heat_strip};
use corewire_placement::{self as placement, Placement};

use super::answer::{Exit, Failure, Out};
use super::args::{self, Format};
use super::watch;

type Answer = Result<Exit, Failure>;

fn subject(look: &args::Look) -> Result<Box<dyn Host>, Failure> {
    let Some(path) = &look.from else {
        return Ok(look.machine.host());
    };
    let archive = Archive::from_text(&read_file(path)?)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))?;
    Ok(Box::new(ArchiveHost::new(archive)))
}

fn read_file(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
}

fn read_placement(path: Option<&Path>) -> Result<Option<Placement>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let placement = Placement::from_toml(&read_file(path)?);
    placement
        .map(Some)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
}

fn scope(look: &args::Look, engine_pid: Option<u32>) -> Scope {
    Scope { ifaces: look.iface.clone(), sample: Duration::from_millis(look.sample_ms), engine_pid }
}

/// Adds which kernel the output is about.
fn about(out: &mut Out, host: &dyn Host) {
    let kernel = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    out.set("kernel", kernel.trim());
}

/// Adds which cards the output is about.
fn about_cards<'s>(out: &mut Out, settings: impl Iterator<Item = &'s Setting>) {
    // No interface has a space in its name; other devices' interrupts do not belong to a card.
    let ifaces = settings.filter_map(Setting::iface).filter(|iface| !iface.contains(' '));
    out.set("ifaces", ifaces.collect::<BTreeSet<_>>());
}

/// The settings of applies.
fn settings(applies: &[Applied]) -> impl Iterator<Item = &Setting> {
    applies.iter().flat_map(|applied| applied.steps.iter().map(|(_, setting, ..)| setting))
}

fn unclear(fault: impl ToString) -> Failure {
    Failure::new(Exit::Unclear, fault)
}

pub(super) fn doctor(args: &args::Doctor, out: &mut Out) -> Answer {
    let host = subject(&args.look)?;
    let given = read_placement(args.look.placement.as_deref())?;
    let snapshot =
        Snapshot::take(host.as_ref(), &scope(&args.look, args.engine_pid)).map_err(unclear)?;
    let report = diagnosis::diagnose(&snapshot, given.as_ref());
    if args.format == Format::Sh {
        let why = "the doctor writes text or json; `plan --format sh` writes a script";
        return Err(Failure::new(Exit::Usage, why));
    }
    out.json |= args.format == Format::Json;
    out.say(&diagnosis::report_text(&snapshot, &report));
    out.set_all(diagnosis::report_json(&snapshot, &report));
    if snapshot.nics.is_empty() {
        let why = "no network card was looked at: none is up, or none is in the capture; name one with --iface";
        return Err(Failure::new(Exit::Unclear, why));
    }
    Ok(if report.has_fault() { Exit::Bad } else { Exit::Good })
}

pub(super) fn plan(args: &args::PlanArgs, out: &mut Out) -> Answer {
    let host = subject(&args.look)?;
    let snapshot = Snapshot::take(host.as_ref(), &scope(&args.look, None)).map_err(unclear)?;
    let options = PlanOptions {
        derive: placement::Options {
            layout: args.layout,
            cpus: args.cpus.clone(),
            shards: args.shards,
            smt: args.smt,
            queues: args.queues,
        },
        is_named: !args.look.iface.is_empty(),
        given: read_placement(args.look.placement.as_deref())?,
        only: args.only.iter().copied().collect(),
        goal: args.goal,
        rps: args.rps,
    };
    let plan = planning::make(&snapshot, &options).map_err(|error| {
        let exit = if error == PlanError::NoCard { Exit::Unclear } else { Exit::Usage };
        Failure::new(exit, error)
    })?;
    let text = match args.format {
        Format::Sh => script(&plan),
        Format::Text if !out.json => plan_text(&plan),
        Format::Text | Format::Json => plan.to_json().map_err(unclear)? + "\n",
    };
    match &args.out {
        Some(path) => write_file(path, &text)?,
        // The plan file has its own version.
        None => out.text.push_str(&text),
    }
    if let Some(path) = &args.emit_placement {
        write_file(path, &plan.placement.to_toml().map_err(unclear)?)?;
    }
    Ok(Exit::Good)
}

/// The host's lock and the journal. The watcher may hold the lock for a moment, so a held lock is tried again.
fn open_journal(state: &args::State) -> Result<(HostLock, FileJournal), Failure> {
    let give_up = Instant::now() + Duration::from_secs(2);
    loop {
        match watch::open(state) {
            Ok(both) => return Ok(both),
            Err(fault) if watch::is_held(&fault) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(fault) => return Err(Failure::new(Exit::Refused, fault)),
        }
    }
}

pub(super) fn apply(args: &args::Apply, out: &mut Out) -> Answer {
    let host = args.state.machine.host();
    let plan = Plan::from_json(&read_file(&args.plan)?)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", args.plan.display())))?;
    about(out, host.as_ref());
    about_cards(out, plan.steps.iter().map(|step| &step.setting));
    let (lock, mut journal) = open_journal(&args.state)?;
    if let Some(why) = lock.open_elsewhere(&args.state.state_dir, &plan.boot_id) {
        return Err(Failure::new(Exit::Refused, format!("nothing was written:\n  {why}")));
    }
    let unix_seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let options = ApplyOptions { irqbalance_is_banned: args.irqbalance_is_banned, unix_seconds };
    // The watcher starts before the first write; otherwise nothing would undo what this program does if it is ended.
    let mut watch = |id: &str| {
        lock.begin(&args.state.state_dir)?;
        watch::start(&args.state, id, args.confirm_within)
    };
    let outcome = apply::apply(host.as_ref(), &mut journal, &plan, &options, &mut watch).map_err(
        |error| {
            let exit = match &error {
                ApplyError::Refused(_) => Exit::Refused,
                ApplyError::RolledBack(_) => Exit::RolledBack,
                ApplyError::Stuck { .. } | ApplyError::Journal(_) => Exit::Stuck,
            };
            Failure::new(exit, error)
        },
    )?;
    out.set_all(&outcome);
    out.set("is_confirmed", args.confirm);
    for line in &outcome.refused {
        out.say(&format!("left as it is: {line}\n"));
    }
    let Some(id) = outcome.id else {
        out.say("nothing to do: everything is as planned\n");
        return Ok(Exit::Good);
    };
    out.say(&format!(
        "{id}: {} written and read back, {} already as planned\n",
        outcome.written, outcome.already
    ));
    if args.confirm {
        journal
            .append(&Record::Confirmed { id: id.clone() })
            .map_err(|fault| Failure::new(Exit::Stuck, fault))?;
        out.say("confirmed; `corewire-tune undo` takes it back\n");
    } else {
        let seconds = args.confirm_within;
        out.say(&format!(
            "run `corewire-tune confirm` within {seconds} s, or it is taken back by itself\n"
        ));
    }
    Ok(Exit::Good)
}

pub(super) fn confirm(args: &args::Confirm, out: &mut Out) -> Answer {
    about(out, args.state.machine.host().as_ref());
    let (_lock, mut journal) = open_journal(&args.state)?;
    let all = journal.records().map_err(unclear)?.applies();
    about_cards(out, settings(&all));
    let open: Vec<_> = all
        .iter()
        .filter(|applied| applied.is_complete && !applied.is_ended && !applied.is_confirmed)
        .collect();
    if open.is_empty() {
        return match all.iter().rev().find(|applied| applied.is_complete && !applied.is_ended) {
            Some(last) => {
                out.say(&format!("{} is confirmed\n", last.id));
                out.set("confirmed", [&last.id]);
                Ok(Exit::Good)
            }
            None => Err(Failure::new(Exit::Bad, "there is nothing to confirm: no apply holds")),
        };
    }
    out.set("confirmed", open.iter().map(|applied| &applied.id).collect::<Vec<_>>());
    for applied in open {
        journal
            .append(&Record::Confirmed { id: applied.id.clone() })
            .map_err(|fault| Failure::new(Exit::Stuck, fault))?;
        out.say(&format!("{} is confirmed\n", applied.id));
    }
    Ok(Exit::Good)
}

pub(super) fn undo(args: &args::Undo, out: &mut Out) -> Answer {
    let host = args.state.machine.host();
    about(out, host.as_ref());
    let (_lock, mut journal) = open_journal(&args.state)?;
    let journaled = journal.records().map_err(unclear)?;
    let all = journaled.applies();
    about_cards(out, settings(&all));
    let ids: Vec<String> = match &args.id {
        Some(id) => vec![id.clone()],
        None => {
            let holding = all
                .iter()
                .rev()
                .filter(|applied| !applied.is_ended)
                .map(|applied| applied.id.clone());
            if args.all { holding.collect() } else { holding.take(1).collect() }
        }
    };
    let mut exit = Exit::Good;
    if ids.is_empty() {
        out.say("nothing to undo\n");
        if let Some(damage) = journaled.damage() {
            out.say(&format!("  left: {damage}\n"));
            out.set("damage", damage);
            exit = Exit::Stuck;
        }
    }
    let mut reports = Vec::new();
    for id in ids {
        let report = apply::undo(host.as_ref(), &mut journal, &id, args.force)
            .map_err(|fault| Failure::new(Exit::Stuck, fault))?;
        out.say(&format!("{id}: {} values put back\n", report.restored));
        for line in &report.left {
            out.say(&format!("  left: {line}\n"));
            exit = Exit::Stuck;
        }
        reports.push(report);
    }
    out.set("applies", reports);
    Ok(exit)
}

/// One apply as `status` shows it.
#[derive(serde::Serialize)]
struct Standing {
    id: String,
    state: &'static str,
    /// (the value and what was written, whether it holds); empty where nothing should hold any more.
    values: Vec<(String, bool)>,
}

pub(super) fn status(args: &args::Status, out: &mut Out) -> Answer {
    let host = args.state.machine.host();
    let journaled = FileJournal::peek(&args.state.state_dir).map_err(unclear)?;
    let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stand = |applied: &Applied| {
        let values = apply::drift(host.as_ref(), applied);
        let state = match applied {
            applied if applied.is_ended => "taken back",
            applied if applied.boot_id != boot_id.trim() && values.is_empty() => {
                "of an earlier boot, gone with it"
            }
            applied if applied.boot_id != boot_id.trim() => {
                "of an earlier boot; of its values these outlast it"
            }
            applied if !applied.is_complete => "cut off; run `corewire-tune undo`",
            applied if applied.is_confirmed => "confirmed",
            _ => "waiting for `corewire-tune confirm`",
        };
        Standing { id: applied.id.clone(), state, values }
    };
    let applies = journaled.applies();
    let all: Vec<Standing> = applies.iter().map(stand).collect();
    let damage = journaled.damage();
    about(out, host.as_ref());
    about_cards(out, settings(&applies));
    out.set("applies", &all);
    out.set("damage", &damage);
    if all.is_empty() {
        out.say("nothing was applied\n");
    }
    for (standing, applied) in all.iter().zip(&applies) {
        out.say(&format!("{}: {} steps, {}\n", standing.id, applied.steps.len(), standing.state));
        for (line, holds) in &standing.values {
            out.say(&format!("  {} {line}\n", if *holds { "holds " } else { "DRIFT " }));
        }
    }
    if let Some(damage) = &damage {
        out.say(&format!("{damage}\n"));
    }
    let holds = all.iter().flat_map(|standing| &standing.values).all(|(_, holds)| *holds);
    Ok(match (damage, holds) {
        (Some(_), _) => Exit::Stuck,
        (None, true) => Exit::Good,
        (None, false) => Exit::Bad,
    })
}

pub(super) fn verify(args: &args::Verify, out: &mut Out) -> Answer {
    if let (Some(before), Some(after)) = (&args.before, &args.after) {
        let read = |path: &Path| -> Result<VerifyReport, Failure> {
            serde_json::from_str(&read_file(path)?)
                .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", path.display())))
        };
        let comparison = compare(&read(before)?, &read(after)?);
        out.json = true;
        out.set_all(comparison);
        return Ok(Exit::Good);
    }
    let host = args.machine.host();
    let placement = read_placement(args.placement.as_deref())?;
    let options = VerifyOptions {
        ifaces: args.iface.clone(),
        targets: args.cpus.clone().or_else(|| placement.map(|placement| placement.all_cpus())),
        samples: args.duration,
        period: Duration::from_secs(1),
        skew_max: args.max_skew,
        flows: args.flows,
    };
    let mut load = start_load(&args.load)?;
    let mut is_running = || match &mut load {
        Some(child) => matches!(child.try_wait(), Ok(None)),
        None => true,
    };
    let report = proof::verify(host.as_ref(), &options, &mut is_running);
    if let Some(child) = &mut load {
        // We started the load, so it ends with the watching.
        let _ = child.kill();
        let _ = child.wait();
    }
    let report = report.map_err(unclear)?;
    out.say(&heat_strip(&report));
    out.set_all(&report);
    Ok(match report.verdict {
        Judgement::Pass => Exit::Good,
        Judgement::Fail => Exit::Bad,
        Judgement::Inconclusive => Exit::Unclear,
    })
}

fn start_load(words: &[String]) -> Result<Option<Child>, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(None);
    };
    let child = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    child.map(Some).map_err(|error| Failure::new(Exit::Usage, format!("{program}: {error}")))
}

pub(super) fn capture(args: &args::Capture, out: &mut Out) -> Answer {
    let host = subject(&args.look)?;
    let archive = crate::capture::capture(host.as_ref(), &scope(&args.look, None), &args.comment)
        .map_err(unclear)?;
    write_file(&args.out, &archive.to_text())?;
    about(out, host.as_ref());
    out.set("files", archive.first.files.len());
    out.set("out", &args.out);
    out.say(&format!(
        "{} files in {}; read it before you send it\n",
        archive.first.files.len(),
        args.out.display()
    ));
    Ok(Exit::Good)
}

pub(super) fn explain(args: &args::Explain, out: &mut Out) -> Answer {
    let Some(id) = &args.id else {
        out.set("findings", catalogue().collect::<Vec<_>>());
        for entry in catalogue() {
            out.say(&format!("{:<20} {}\n", entry.id, entry.shows));
        }
        return Ok(Exit::Good);
    };
    let Some(entry) = entry(&id.to_uppercase()) else {
        return Err(Failure::new(
            Exit::Usage,
            format!("no finding is called {id}; `corewire-tune explain` lists them"),
        ));
    };
    out.set("findings", [entry]);
    out.say(&format!(
        "{}\n\nshown by  {}\nwhy       {}\nrisk      {}\nbefore    {}\n",
        entry.id, entry.shows, entry.why, entry.risk, entry.detail
    ));
    Ok(Exit::Good)
}
