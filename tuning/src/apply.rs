//! Applying a plan, and undoing it.

mod settings;

use std::fmt;

use serde::Serialize;

use crate::host::{Fault, FaultKind, Host};
use crate::journal::{Applied, Journal, Record};
use crate::plan::{Plan, Setting, Step};
use settings::Settings;

/// What an apply needs in addition to the plan.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// The operator says that irqbalance leaves the card alone.
    pub irqbalance_is_banned: bool,
    /// The time to record, in seconds since 1970.
    pub unix_seconds: u64,
}

/// What an apply did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Its id in the journal; `None` when there was nothing to do.
    pub id: Option<String>,
    /// How many steps were written.
    pub written: usize,
    /// How many steps were already as planned.
    pub already: usize,
    /// Steps that the kernel refused and that the plan can do without, each with the reason.
    pub refused: Vec<String>,
}

/// Why an apply did not end as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// Nothing was written: the machine is not as the plan expects, or another program places interrupts.
    Refused(Vec<String>),
    /// A step failed, and all steps before it were undone.
    RolledBack(Fault),
    /// A step failed, and these could not be undone.
    Stuck {
        /// The step's failure.
        cause: Fault,
        /// The steps left, each with its reason.
        left: Vec<String>,
    },
    /// The journal could not be written; nothing was written to the machine after that.
    Journal(Fault),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reasons) => write!(f, "nothing was written:\n  {}", reasons.join("\n  ")),
            Self::RolledBack(cause) => write!(f, "{cause}\nall steps before it were taken back"),
            Self::Stuck { cause, left } => {
                write!(f, "{cause}\nand these could not be taken back:\n  {}", left.join("\n  "))
            }
            Self::Journal(cause) => write!(f, "the journal failed: {cause}"),
        }
    }
}

impl std::error::Error for ApplyError {}

/// Applies a plan: each step is announced in the journal, written, and read back. At the first failure everything is
/// undone.
///
/// `watch` is called with the apply's name once it is in the journal and before anything is written to the machine: it
/// starts the watcher that undoes the apply when this program is ended or nobody confirms. If it fails, nothing is
/// written.
///
/// # Errors
///
/// See [`ApplyError`].
pub fn apply(
    host: &dyn Host,
    journal: &mut dyn Journal,
    plan: &Plan,
    options: &ApplyOptions,
    watch: &mut dyn FnMut(&str) -> Result<(), Fault>,
) -> Result<Outcome, ApplyError> {
    let settings = Settings::new(host);
    let journaled = journal.records().map_err(ApplyError::Journal)?;
    let mut reasons = objections(host, &settings, plan, options);
    reasons.extend(journaled.damage());
    let applies = journaled.applies();
    for applied in &applies {
        reasons.extend(applied.is_open(&plan.boot_id).map(|why| format!("{} {why}", applied.id)));
    }
    if !reasons.is_empty() {
        return Err(ApplyError::Refused(reasons));
    }
    let is_there = |step: &Step| {
        settings.read(&step.setting).is_ok_and(|now| step.setting.same(&now, &step.new))
    };
    if plan.steps.iter().all(is_there) {
        return Ok(Outcome { already: plan.steps.len(), ..Outcome::default() });
    }
    let refuse = |fault: Fault| ApplyError::Refused(vec![fault.to_string()]);
    journal.reserve(journal_bytes(plan)).map_err(refuse)?;
    let id = format!("apply-{}", applies.len() + 1);
    let begin = Record::Begin {
        id: id.clone(),
        boot_id: plan.boot_id.clone(),
        unix_seconds: options.unix_seconds,
    };
    journal.append(&begin).map_err(refuse)?;
    if let Err(fault) = watch(&id) {
        // There is nothing to undo; without this record the journal would say that there is.
        let ended = journal.append(&Record::Ended { id });
        return Err(ended.map_or_else(ApplyError::Journal, |()| refuse(fault)));
    }
    let mut outcome = Outcome { id: Some(id.clone()), ..Outcome::default() };
    for (step, number) in plan.steps.iter().zip(0..) {
        match do_step(&settings, journal, &id, number, plan, step) {
            Ok(Done::Written) => outcome.written += 1,
            Ok(Done::Already) => outcome.already += 1,
            Ok(Done::Refused(fault)) => outcome.refused.push(fault.to_string()),
            Err(cause) => return Err(roll_back(host, journal, &id, cause)),
        }
    }
    if let Err(cause) = journal.append(&Record::Complete { id: id.clone() }) {
        return Err(roll_back(host, journal, &id, cause));
    }
    Ok(outcome)
}

/// More than the records of an apply and of its undo take together.
fn journal_bytes(plan: &Plan) -> u64 {
    let text = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let steps = plan.steps.iter().map(|step| {
        text(
            step.setting.to_string().len()
                + step.old.as_deref().unwrap_or("").len()
                + step.new.len(),
        ) * 2
            + 1024
    });
    let kept = plan
        .kept
        .iter()
        .map(|kept| text(kept.setting.to_string().len() + kept.old.len()) * 2 + 512);
    steps.chain(kept).sum::<u64>() + 4096
}

fn roll_back(host: &dyn Host, journal: &mut dyn Journal, id: &str, cause: Fault) -> ApplyError {
    match undo(host, journal, id, false) {
        Ok(report) if report.left.is_empty() => ApplyError::RolledBack(cause),
        Ok(report) => ApplyError::Stuck { cause, left: report.left },
        Err(fault) => ApplyError::Stuck { cause, left: vec![fault.to_string()] },
    }
}

/// The objections to the plan on this machine, at this time.
fn objections(
    host: &dyn Host,
    settings: &Settings<'_>,
    plan: &Plan,
    options: &ApplyOptions,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if boot_id.trim() != plan.boot_id {
        reasons
            .push("the machine was restarted since the plan was made; make a new one".to_owned());
        return reasons;
    }
    let moves_irqs = plan.steps.iter().any(|step| matches!(step.setting, Setting::Irq { .. }));
    let bans = plan.steps.iter().any(|step| matches!(step.setting, Setting::Irqbalance { .. }));
    let irqbalance = host.processes(&["irqbalance"]).unwrap_or_default();
    let is_banned = options.irqbalance_is_banned || plan.irqbalance_is_banned || bans;
    if let (true, false, Some((pid, _))) = (moves_irqs, is_banned, irqbalance.first()) {
        reasons.push(format!("irqbalance (process {pid}) would move the interrupts again; plan with --only irq,irqbalance, or ban the card and say --irqbalance-is-banned"));
    }
    for step in &plan.steps {
        let Some(old) = &step.old else { continue };
        match settings.read(&step.setting) {
            Ok(now) if step.setting.same(&now, old) || step.setting.same(&now, &step.new) => {}
            Ok(now) => reasons.push(format!(
                "{} is {now}, the plan expected {old}: somebody changed it; make a new plan",
                step.setting
            )),
            Err(fault) => reasons.push(fault.to_string()),
        }
    }
    reasons
}

/// The result of a step.
enum Done {
    Written,
    Already,
    Refused(Fault),
}

/// Does one step.
fn do_step(
    settings: &Settings<'_>,
    journal: &mut dyn Journal,
    id: &str,
    number: u32,
    plan: &Plan,
    step: &Step,
) -> Result<Done, Fault> {
    let old = settings.read(&step.setting)?;
    if step.setting.same(&old, &step.new) {
        return Ok(Done::Already);
    }
    if let Setting::Card { iface, .. } = &step.setting
        && step.setting.remakes_queues()
    {
        for kept in plan.kept.iter().filter(|kept| kept.setting.iface() == Some(iface)) {
            // A value that is gone or cannot be read now cannot be lost by this step either.
            if let Ok(old) = settings.read(&kept.setting) {
                journal.append(&Record::Keep {
                    id: id.to_owned(),
                    step: number,
                    setting: kept.setting.clone(),
                    old,
                })?;
            }
        }
    }
    journal.append(&Record::Intent {
        id: id.to_owned(),
        step: number,
        setting: step.setting.clone(),
        old: old.clone(),
        new: step.new.clone(),
    })?;
    if let Err(fault) = settings.write(&step.setting, &step.new) {
        // Kernels before 6.11 return EIO for an interrupt that they manage themselves, later ones EPERM.
        let is_managed = matches!(&fault.kind, FaultKind::Denied)
            || matches!(&fault.kind, FaultKind::Refused(reason) if reason.starts_with("EIO"));
        let is_as_before =
            || settings.read(&step.setting).is_ok_and(|now| step.setting.same(&now, &old));
        if step.may_refuse && is_managed && is_as_before() {
            journal.append(&Record::Undone { id: id.to_owned(), step: number })?;
            return Ok(Done::Refused(fault));
        }
        return Err(fault);
    }
    let seen = settings.read(&step.setting)?;
    if !step.setting.same(&seen, &step.new) {
        return Err(Fault::format(
            &step.setting.to_string(),
            format!("reads {seen} after {} was written", step.new),
        ));
    }
    journal.append(&Record::Done { id: id.to_owned(), step: number })?;
    Ok(Done::Written)
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UndoReport {
    /// The apply that was undone.
    pub id: String,
    /// Values that were put back.
    pub restored: usize,
    /// Values that could not be put back, or that were changed meanwhile: each with its reason.
    pub left: Vec<String>,
}

/// Undoes an apply, last step first. A value is put back only while it is still the one that was written; a value that
/// was changed meanwhile is left and named, unless `force` is set.
///
/// # Errors
///
/// When the journal cannot be read or written, or has no apply of that name. What was put back until then stays so, and
/// undo can be run again.
pub fn undo(
    host: &dyn Host,
    journal: &mut dyn Journal,
    id: &str,
    force: bool,
) -> Result<UndoReport, Fault> {
    let journaled = journal.records()?;
    let all = journaled.applies();
    let Some(applied) = all.iter().rev().find(|applied| applied.id == id) else {
        return Err(Fault::new(format!("journal, {id}"), FaultKind::Missing));
    };
    let settings = Settings::new(host);
    let mut report = UndoReport { id: id.to_owned(), ..UndoReport::default() };
    if applied.is_ended {
        return Ok(report);
    }
    let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    for (number, setting, old, new) in applied.steps.iter().rev() {
        // A restart of the machine has removed the other values.
        let is_there = boot_id.trim() == applied.boot_id || setting.is_kept_on_disk();
        if is_there && !applied.undone.contains(number) {
            undo_step(
                &settings,
                journal,
                applied,
                (*number, setting, old, new),
                force,
                &mut report,
            )?;
        }
    }
    if report.left.is_empty() {
        note(journal, Record::Ended { id: id.to_owned() }, &mut report)?;
    }
    report.left.extend(journaled.damage());
    Ok(report)
}

/// Writes a record of an undo. A journal that accepts no more, on a full disk, must not keep values from being put
/// back: reading them shows that they are, so that the undo can be run again.
fn note(journal: &mut dyn Journal, record: Record, report: &mut UndoReport) -> Result<(), Fault> {
    match journal.append(&record) {
        Err(fault) if fault.kind == FaultKind::Killed => Err(fault),
        Err(fault) => {
            let line = format!(
                "{fault}; the values were put back all the same, run `corewire-tune undo` again once there is room"
            );
            if !report.left.contains(&line) {
                report.left.push(line);
            }
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn undo_step(
    settings: &Settings<'_>,
    journal: &mut dyn Journal,
    applied: &Applied,
    (number, setting, old, new): (u32, &Setting, &str, &str),
    force: bool,
    report: &mut UndoReport,
) -> Result<(), Fault> {
    let id = || applied.id.clone();
    let now = match settings.read(setting) {
        Ok(now) => now,
        Err(fault) if fault.kind == FaultKind::Killed => return Err(fault),
        // A queue or a card that is gone took the value with it.
        Err(fault) if fault.kind == FaultKind::Missing => {
            return note(journal, Record::Undone { id: id(), step: number }, report);
        }
        Err(fault) => {
            report.left.push(fault.to_string());
            return Ok(());
        }
    };
    let was_begun = applied.undoing.contains(&number);
    let is_old = setting.same(&now, old);
    if !is_old && !setting.same(&now, new) && !force {
        report.left.push(format!("{setting} is {now}; {new} was written, so somebody changed it since: left as it is (--force puts {old} back)"));
        return Ok(());
    }
    // An undo that was ended between writing a file and restarting the program that reads it left the old value
    // and the new effect.
    let is_half_done = was_begun && setting.is_kept_on_disk();
    if !is_old || is_half_done {
        note(journal, Record::Undoing { id: id(), step: number }, report)?;
        let result = if is_half_done {
            settings.write(setting, old)
        } else {
            put_back(settings, setting, old).map(|_| ())
        };
        if let Err(fault) = result {
            if fault.kind == FaultKind::Killed {
                return Err(fault);
            }
            report.left.push(fault.to_string());
            return Ok(());
        }
        report.restored += 1;
    }
    // Settings that the step reset are restored only when the step itself was undone, by this run or by one that was
    // cut off.
    if !is_old || was_begun {
        let left_before = report.left.len();
        for (_, kept, old) in applied.kept.iter().filter(|(step, _, _)| *step == number) {
            match put_back(settings, kept, old) {
                Ok(true) => report.restored += 1,
                Ok(false) => {}
                Err(fault) if fault.kind == FaultKind::Killed => return Err(fault),
                Err(fault) => report.left.push(fault.to_string()),
            }
        }
        if report.left.len() > left_before {
            return Ok(());
        }
    }
    note(journal, Record::Undone { id: id(), step: number }, report)
}

/// Puts a value back and reads it. Returns whether it had to be written.
fn put_back(settings: &Settings<'_>, setting: &Setting, old: &str) -> Result<bool, Fault> {
    if settings.read(setting).is_ok_and(|now| setting.same(&now, old)) {
        return Ok(false);
    }
    settings.write(setting, old)?;
    let seen = settings.read(setting)?;
    if setting.same(&seen, old) {
        Ok(true)
    } else {
        Err(Fault::format(&setting.to_string(), format!("reads {seen} after {old} was written")))
    }
}

/// One line for each value of an apply that should still hold: whether it does.
#[must_use]
pub fn drift(host: &dyn Host, applied: &Applied) -> Vec<(String, bool)> {
    let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let settings = Settings::new(host);
    let is_gone = boot_id.trim() != applied.boot_id;
    let line = |(_, setting, _, new): &(u32, Setting, String, String)| match settings.read(setting)
    {
        Ok(now) if setting.same(&now, new) => (format!("{setting} = {now}"), true),
        Ok(now) => (format!("{setting} = {now}, {new} was written"), false),
        Err(fault) => (fault.to_string(), false),
    };
    let holds = |(number, setting, ..): &&(u32, Setting, String, String)| {
        !applied.is_ended
            && !applied.undone.contains(number)
            && (!is_gone || setting.is_kept_on_disk())
    };
    applied.steps.iter().filter(holds).map(line).collect()
}
