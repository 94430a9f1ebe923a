//! Verifies whether the packets are spread over the CPUs that the placement names, without losing any, while there
//! is load.

mod figures;
mod report;
mod strip;

pub use figures::{Spread, noise_threshold};
pub use report::{Comparison, CpuFigures, Judgement, VerifyReport, compare, judge};
pub use strip::heat_strip;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::host::{Fault, Host};
use crate::snapshot::{Counters, Sampler};
use corewire_placement::CpuSet;

/// What to watch, for how long, and what to demand.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The interfaces whose drop counters count.
    pub ifaces: Vec<String>,
    /// The CPUs over which packets should spread; `None` for all online CPUs.
    pub targets: Option<CpuSet>,
    /// How many samples.
    pub samples: u32,
    /// The time between two samples.
    pub period: Duration,
    /// The largest max/mean that passes if chance does not explain more.
    pub skew_max: f64,
    /// How many flows the load has, if the operator knows; by default the TCP sockets in use.
    pub flows: Option<u64>,
}

/// Watches the host and judges. `is_running` is called before each sample and says whether the load still runs; the
/// watching ends with it.
///
/// # Errors
///
/// When a counter file is absent or of an unknown form.
pub fn verify(
    host: &dyn Host,
    options: &VerifyOptions,
    is_running: &mut dyn FnMut() -> bool,
) -> Result<VerifyReport, Fault> {
    let mut sampler = Sampler::new(host, &options.ifaces)?;
    let mut samples: Vec<Counters> = vec![sampler.sample()?];
    for _ in 0..options.samples.max(1) {
        host.pause(options.period);
        samples.push(sampler.sample()?);
        if !is_running() {
            break;
        }
    }
    let online = sampler.online().clone();
    let drivers: BTreeMap<String, String> = sampler.drivers().clone();
    let options = VerifyOptions { ifaces: sampler.ifaces().to_vec(), ..options.clone() };
    let mut report = judge(&samples, &online, &drivers, &options);
    report.kernel = host.read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    Ok(report)
}
