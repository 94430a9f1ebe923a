//! SIGTERM and SIGINT: a server that was configured to drain on them is notified, from before its
//! first connection is accepted until it has ended.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io;
use std::thread;
use std::time::Duration;

use crate::host::events::Event;
use crate::shard::helpers::{helper_cpus, keep_to};

/// Both signals are caught: one that comes now waits instead of ending the process.
#[derive(Debug)]
pub(crate) struct Caught(Signals);

impl Caught {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Signals::new([SIGINT, SIGTERM])?))
    }

    /// From now on, the first signal asks for a drain, and the second ends the process at once.
    pub(crate) fn drain(
        self,
        events: flume::Sender<Event>,
        within: Duration,
    ) -> io::Result<Watching> {
        let Self(mut signals) = self;
        let handle = signals.handle();
        let cpus = helper_cpus();
        let watch = move || {
            keep_to(cpus.as_ref());
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    tracing::warn!(signal, "second signal: ending at once");
                    std::process::exit(128 + signal);
                }
                tracing::info!(signal, "signal: draining");
                // A supervisor that is gone has nothing left to drain.
                let _ = events.send(Event::Stop(within));
            }
        };
        let thread = thread::Builder::new().name("corewire-signal".into()).spawn(watch)?;
        Ok(Watching { handle, thread })
    }
}

/// The thread that waits for signals.
#[derive(Debug)]
pub(crate) struct Watching {
    handle: Handle,
    thread: thread::JoinHandle<()>,
}

impl Watching {
    /// The server has ended: it no longer handles signals.
    pub(crate) fn end(self) {
        self.handle.close();
        // The thread ends because its signals are closed; it has nothing to say.
        let _ = self.thread.join();
    }

    /// Signals stay caught, and nobody waits for the thread.
    pub(crate) fn detach(self) {
        drop(self.thread);
    }
}
