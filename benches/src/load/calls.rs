//! What load generators of this package do with their calls: which seconds they measure, and what they count as
//! answered.

use std::time::Duration;

use anyhow::{Result, ensure};
use corewire::{Bytes, CallError};
use corewire_cli::open_loop::{OpenLoop, Outcome};

/// Not counted, in every load generator here: during it connections are made and caches become warm.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// When the measured seconds begin and end, in nanoseconds since the load began.
#[must_use]
pub fn measured(secs: f64) -> (u64, u64) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (nanos(WARM_UP), nanos(WARM_UP + Duration::from_secs_f64(secs)))
}

/// The outcome of an echo call that was sent `body`; `answered` if `body` came back.
#[must_use]
pub fn echoed(reply: Result<Bytes, CallError>, body: &Bytes, answered: Outcome) -> Outcome {
    match reply {
        Ok(reply) if reply == *body => answered,
        Ok(_) => Outcome::Failed("WrongReply".to_owned(), "a wrong reply".to_owned()),
        Err(error) => Outcome::Failed(error.code().name().to_owned(), error.to_string()),
    }
}

/// Whether no call failed.
///
/// # Errors
///
/// How many did, and the first one's error.
pub fn none_failed(open: &OpenLoop) -> Result<()> {
    let first = open.first_error().unwrap_or_default();
    ensure!(open.errors() == 0, "{} calls failed, the first one with: {first}", open.errors());
    Ok(())
}

#[cfg(test)]
mod tests {
    use corewire::Status;

    use super::*;

    #[test]
    fn only_the_same_bytes_are_an_answer() {
        let body = Bytes::from_static(b"here");
        let of = |reply| echoed(reply, &body, Outcome::Answered);
        assert!(matches!(of(Ok(body.clone())), Outcome::Answered));
        assert!(matches!(of(Ok(Bytes::new())), Outcome::Failed(name, _) if name == "WrongReply"));
        let error = Err(CallError::Status(Status::internal("broken")));
        assert!(matches!(of(error), Outcome::Failed(name, _) if name == "Internal"));
    }

    #[test]
    fn the_measured_seconds_follow_the_warm_up() {
        assert_eq!(measured(2.0), (500_000_000, 2_500_000_000));
    }
}
