//! The host of a shard's driver: glommio's executor, or a plain thread.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{plain, runtime};

/// The environment variable that says what `Host::Auto` means.
pub(crate) const VARIABLE: &str = "COREWIRE_HOST";

/// The host that was chosen for shards that are about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosting {
    /// `or_plain` says what happens if the executor cannot be made, although everything that can be checked
    /// before was right: other processes may hold the locked memory.
    Glommio {
        or_plain: bool,
    },
    Plain,
}

/// The host that a shard got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Glommio,
    Plain,
}

impl Got {
    /// Runs a driver to its end: on glommio in a queue of its own.
    pub(super) async fn run_driver<T: 'static>(
        self,
        future: impl Future<Output = io::Result<T>> + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Glommio => runtime::run_driver(future).await?,
            Self::Plain => future.await,
        }
    }
}

/// Runs a shard's future to its end on this thread, pinned to `cpu` if one is given. `main` learns which host it
/// is on.
pub(super) fn run<F, T>(
    hosting: Hosting,
    cpu: Option<usize>,
    main: impl FnOnce(Got) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let or_plain = match hosting {
        Hosting::Plain => return plain::run(cpu, main(Got::Plain)),
        Hosting::Glommio { or_plain } => or_plain,
    };
    match runtime::Executor::new("corewire", cpu) {
        Ok(executor) => executor.run(main(Got::Glommio)),
        Err(error) if or_plain => {
            warn(&error);
            plain::run(cpu, main(Got::Plain))
        }
        Err(error) => Err(error),
    }
}

/// Says once per process that glommio is not used.
pub(crate) fn warn(why: &dyn fmt::Display) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            %why,
            "shards run on plain threads that wait in epoll; only glommio's own timers, files and tasks are \
             missing. Host::Plain or {VARIABLE}=plain chooses this without a warning",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// As on a host with `isolcpus`: the mask that a thread starts with is no bound, the control group's cpuset is.
    #[test]
    fn a_shard_is_pinned_to_a_cpu_outside_of_the_mask_it_was_started_with() {
        let all = sched_getaffinity(None).unwrap();
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu));
        let (Some(first), Some(last)) = (cpus.next(), cpus.next_back()) else {
            eprintln!("SKIPPED: one CPU alone leaves none outside");
            return;
        };
        let only = |cpu| {
            let mut mask = CpuSet::new();
            mask.set(cpu);
            mask
        };
        for hosting in [Hosting::Plain, Hosting::Glommio { or_plain: true }] {
            let on_thread = move || {
                sched_setaffinity(None, &only(first)).unwrap();
                let mask = async { Ok(sched_getaffinity(None)?) };
                run(hosting, Some(last), |_| mask).unwrap()
            };
            assert_eq!(std::thread::spawn(on_thread).join().unwrap(), only(last), "{hosting:?}");
        }
    }
}
