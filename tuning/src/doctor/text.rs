//! The report for people to read.

use crate::host::Knob;
use crate::snapshot::{Nic, Snapshot};

use super::{Finding, Report, Severity};

/// One line that says what a card is.
#[must_use]
pub fn card_line(nic: &Nic) -> String {
    let mut parts = vec![nic.driver.clone().unwrap_or_else(|| nic.kind.clone())];
    if !nic.lowers.is_empty() {
        parts.push(format!("over {}", nic.lowers.join(" and ")));
    }
    parts.push(format!("{} rx and {} tx queues", nic.rx.len(), nic.tx.len()));
    if let (Some(ring), Some(max)) = (nic.facts.value(Knob::RingRx), nic.facts.max(Knob::RingRx)) {
        parts.push(format!("ring {ring} of {max}"));
    }
    parts.push(match nic.node {
        Some(node) => format!("node {node}"),
        None => "node not said".to_owned(),
    });
    if let Some(speed) = nic.speed.filter(|speed| *speed > 0) {
        parts.push(format!("{speed} Mb/s"));
    }
    parts.push(match (nic.vector_method, nic.own_irqs) {
        ("none", Some(count)) => {
            format!("{count} interrupts by msi_irqs, none of them matched to a queue")
        }
        ("none", None) if nic.device.is_some() => "interrupts not shown here".to_owned(),
        ("none", None) => "no interrupts of its own".to_owned(),
        (method, _) => format!("{} interrupts (found by {method})", nic.vectors.len()),
    });
    format!("{}: {}", nic.name, parts.join(", "))
}

/// The whole report.
#[must_use]
pub fn report_text(snapshot: &Snapshot, report: &Report) -> String {
    let watched = snapshot.second.as_ref().map_or(0.0, |(period, _)| period.as_secs_f64());
    let mut text = format!(
        "kernel {}, CPUs {} online, {} usable, watched for {watched:.1} s\n",
        snapshot.kernel,
        snapshot.cpus.online,
        snapshot.cpus.local(None).len()
    );
    for nic in &snapshot.nics {
        text.push_str(&card_line(nic));
        text.push('\n');
    }
    for finding in &report.findings {
        text.push('\n');
        put_finding(&mut text, finding);
    }
    if !report.not_readable.is_empty() {
        text.push_str("\nnot readable:\n");
        for line in &report.not_readable {
            text.push_str(&format!("  {line}\n"));
        }
    }
    let count =
        |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    text.push_str(&format!(
        "\n{} faults, {} advice, {} notes\n",
        count(Severity::Fault),
        count(Severity::Advice),
        count(Severity::Note)
    ));
    text
}

fn put_finding(text: &mut String, finding: &Finding) {
    text.push_str(&format!(
        "{:<7}{}  {}: {}\n",
        finding.severity, finding.id, finding.subject, finding.title
    ));
    for evidence in &finding.evidence {
        text.push_str(&format!("  evidence  {} = {}\n", evidence.source, evidence.value));
    }
    text.push_str(&format!("  why       {}\n", finding.why));
    for command in &finding.fix {
        text.push_str(&format!("  fix       {command}\n"));
    }
    for command in &finding.undo {
        text.push_str(&format!("  undo      {command}\n"));
    }
    if !finding.fix.is_empty() {
        text.push_str(&format!("  risk      {}\n", finding.risk));
    }
}
