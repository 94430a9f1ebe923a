//! From a snapshot and options to ordered steps. Pure: nothing is read or written here.

mod form;
mod setting;
mod shell;
mod steps;
mod text;
mod wishes;

pub use form::{Kept, Plan, PlanError, Step};
pub use setting::Setting;
pub use shell::script;
pub use text::plan_text;
pub use wishes::{Goal, PlanOptions, Topic};

use crate::doctor;
use crate::snapshot::Snapshot;
use corewire_placement as placement;

/// Makes the plan.
///
/// # Errors
///
/// When no placement is possible, or the given one uses CPUs that this machine does not have.
pub fn make(snapshot: &Snapshot, options: &PlanOptions) -> Result<Plan, PlanError> {
    if snapshot.cards().next().is_none() {
        return Err(PlanError::NoCard);
    }
    if !options.is_named {
        let cards: Vec<_> = snapshot.cards().collect();
        let is_one = cards
            .windows(2)
            .all(|pair| pair[0].master.is_some() && pair[0].master == pair[1].master);
        if !is_one && options.given.is_none() {
            return Err(PlanError::SeveralCards(
                cards.into_iter().map(doctor::card_line).collect(),
            ));
        }
    }
    let placement = match &options.given {
        Some(given) => {
            if let Some(why) = snapshot.misfit(given) {
                return Err(PlanError::Misfit(why));
            }
            given.clone()
        }
        None => {
            let mut limits = snapshot.queue_limits();
            if options.derive.queues.is_some() {
                // A requested number of queues also applies to cards that would otherwise be left as they are.
                for (limit, nic) in limits.iter_mut().zip(snapshot.cards()) {
                    if let Some((_, _, max)) = nic.channels() {
                        limit.queues_max = max.min(nic.hash_limit().unwrap_or(max));
                        limit.fixed = false;
                    }
                }
            }
            placement::derive(&snapshot.topology(), &limits, &options.derive)
                .map_err(PlanError::Placement)?
        }
    };
    let report = doctor::diagnose(snapshot, options.given.as_ref());
    let mut builder = steps::Builder::new(snapshot, options, &placement, &report);
    builder.build();
    let steps::Builder { steps, kept, left_out, .. } = builder;
    Ok(Plan {
        version: form::PLAN_VERSION,
        boot_id: snapshot.boot_id.clone(),
        kernel: snapshot.kernel.clone(),
        cards: snapshot.cards().map(doctor::card_line).collect(),
        steps,
        kept,
        left_out,
        irqbalance_is_banned: snapshot.fought().is_empty(),
        placement,
    })
}
