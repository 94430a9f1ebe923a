//! A connect on a thread of its own, which ends with it: it goes on when the call that began it has run out of time.

use corewire_proto::TransportError;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::link::Stream;
use crate::address::Address;
use crate::resolver::Resolver;

/// A thread that connects.
#[derive(Debug)]
pub(super) struct Connecting {
    /// The socket, and when it was connected.
    pub(super) outcome: Receiver<io::Result<(Stream, Instant)>>,
    /// When it times out.
    pub(super) by: Option<Instant>,
    /// Whether it has timed out and was reported as a failure. It may go on: std cannot stop it.
    pub(super) is_given_up: bool,
}

/// How a wait for a connect ended.
pub(super) enum Waited {
    Connected(Stream, Instant),
    Failed(String),
    TooLong,
    /// The caller's deadline passed first.
    Deadline,
}

impl Connecting {
    pub(super) fn begin(
        address: &Address,
        resolver: &Resolver,
        within: Duration,
    ) -> io::Result<Self> {
        let by = Instant::now().checked_add(within);
        let (sender, outcome) = sync_channel(1);
        let (address, resolver) = (address.clone(), resolver.clone());
        thread::Builder::new().name("corewire-connect".to_owned()).spawn(move || {
            let connected = Stream::connect(&address, &resolver, within);
            // This fails if the channel is gone, and then closes the socket.
            drop(sender.send(connected.map(|stream| (stream, Instant::now()))));
        })?;
        Ok(Self { outcome, by, is_given_up: false })
    }

    pub(super) fn wait(&self, deadline: Option<Instant>) -> Waited {
        let until = [self.by, deadline].into_iter().flatten().min();
        let received = match until {
            None => self.outcome.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.outcome.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(Ok((stream, at))) => Waited::Connected(stream, at),
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Waited::TooLong,
            Ok(Err(error)) => Waited::Failed(describe(&error)),
            Err(RecvTimeoutError::Disconnected) => {
                Waited::Failed("the thread that connects has ended".to_owned())
            }
            Err(RecvTimeoutError::Timeout) if is_over(self.by) => Waited::TooLong,
            Err(RecvTimeoutError::Timeout) => Waited::Deadline,
        }
    }
}

/// The operating system's error with its remedy, or the error's own text.
pub(super) fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => TransportError::from(error).to_string(),
        None => error.to_string(),
    }
}

pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
