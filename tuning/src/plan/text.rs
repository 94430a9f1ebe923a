//! The plan for people to read.

use corewire_placement::CpuSet;

use super::form::Plan;
use super::setting::Setting;

/// The whole plan.
#[must_use]
pub fn plan_text(plan: &Plan) -> String {
    let placement = &plan.placement;
    let mut text = format!(
        "layout {}: {} shards on CPUs {}, interrupts on CPUs {}\n",
        placement.layout,
        placement.shards.len(),
        placement.shard_cpus(),
        if placement.irq_cpus.is_empty() {
            "none of their own".to_owned()
        } else {
            placement.irq_cpus.to_string()
        }
    );
    if plan.steps.is_empty() {
        text.push_str("nothing to do\n");
    }
    for (step, number) in plan.steps.iter().zip(1..) {
        let old = match (&step.old, &step.setting) {
            // Kernels of large machines print masks of a hundred digits, nearly all of them zero.
            (Some(old), Setting::Mask { .. }) => {
                CpuSet::from_mask(old).map_or_else(|_| old.clone(), |set| set.to_mask())
            }
            (Some(old), _) if old.is_empty() => "(none)".to_owned(),
            (Some(old), _) => old.clone(),
            (None, _) => "(recreated by an earlier step)".to_owned(),
        };
        text.push_str(&format!("{number:>3}. {}: {old} -> {}\n", step.setting, step.new));
        text.push_str(&format!("     {}: {}", step.finding, step.why));
        if step.disturbs != "no" {
            text.push_str(&format!(" [{}]", step.disturbs));
        }
        text.push('\n');
    }
    for line in &plan.left_out {
        text.push_str(&format!("left out: {line}\n"));
    }
    text
}
