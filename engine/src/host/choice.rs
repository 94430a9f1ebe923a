//! Which host a shard runs on: glommio with io_uring, or a plain thread that waits in epoll alone.

use std::fmt;
use std::str::FromStr;

use crate::driver::hosting::{Hosting, VARIABLE, warn};
use crate::error::StartError;
use crate::host::preflight;

/// What owns a shard's thread and puts it to sleep.
///
/// A shard's sockets, timers, tasks and sleeps are its own on either host, and calls behave alike. What only
/// [`Glommio`](Self::Glommio) has are glommio's own timers, files and tasks, for handlers that use them; on a
/// plain host they panic, which fails the call with `Internal`.
///
/// As text, for flags and settings: `auto`, `glommio` or `plain`. The environment variable `COREWIRE_HOST` says
/// what `auto` means for a process.
///
/// ```
/// # use corewire_engine as corewire;
/// use corewire::Host;
///
/// assert_eq!("plain".parse(), Ok(Host::Plain));
/// assert_eq!(Host::default(), Host::Auto);
/// assert!("epoll".parse::<Host>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// Glommio where it can run; otherwise a plain thread, with one warning per process that says why.
    #[default]
    Auto,
    /// A glommio executor. It needs io_uring, Linux 5.8, and 512 KiB of locked memory for each shard; a shard
    /// does not start without.
    Glommio,
    /// A thread that waits in epoll alone. It needs neither io_uring nor locked memory.
    Plain,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "glommio" => Ok(Self::Glommio),
            "plain" => Ok(Self::Plain),
            other => Err(format!("'{other}' is not a shard host; give auto, glommio or plain")),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Glommio => "glommio",
            Self::Plain => "plain",
        })
    }
}

/// Chooses the host of `shards` shards.
///
/// # Errors
///
/// Glommio was asked for and cannot run, with how to fix it; or the environment variable has no valid value.
pub(crate) fn choose(host: Host, shards: usize) -> Result<Hosting, StartError> {
    let asked = match host {
        Host::Auto => from_environment()?,
        host => host,
    };
    match asked {
        Host::Plain => Ok(Hosting::Plain),
        Host::Glommio => preflight::check(shards).map(|()| Hosting::Glommio { or_plain: false }),
        Host::Auto => match preflight::check(shards) {
            Ok(()) => Ok(Hosting::Glommio { or_plain: true }),
            Err(error) => {
                warn(&error);
                Ok(Hosting::Plain)
            }
        },
    }
}

fn from_environment() -> Result<Host, StartError> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Host::Auto) };
    let invalid = |why| StartError::Config(format!("the environment variable {VARIABLE}: {why}"));
    let text = value.to_str().ok_or_else(|| invalid("it is not UTF-8".to_owned()))?;
    text.parse().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_it_is_displayed() {
        for host in [Host::Auto, Host::Glommio, Host::Plain] {
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        for wrong in ["", "Plain", "io_uring"] {
            let error = wrong.parse::<Host>().expect_err("it is no host");
            assert!(error.contains("auto, glommio or plain"), "{error}");
        }
    }

    #[test]
    fn a_plain_host_needs_nothing() {
        assert!(matches!(choose(Host::Plain, 1_000), Ok(Hosting::Plain)));
    }
}
