//! Who may call what.

use corewire_codec::Status;
use std::fmt;

use super::{CallView, Layer};

/// Asks a function before each call: it sees the peer, the method and the metadata, and lets the call
/// pass or returns the status that the caller gets, usually `Unauthenticated` or `PermissionDenied`.
///
/// It is asked before the arguments are decoded, so that strangers reach no decoder. Nothing on the
/// connection is encrypted: a token in metadata is for networks that are trusted not to listen.
///
/// ```
/// use corewire::Status;
/// use corewire::layer::Authorize;
///
/// let layer = Authorize::new(|call| match call.metadata().text("token") {
///     Some("secret") => Ok(()),
///     _ => Err(Status::unauthenticated("say who you are")),
/// });
/// # let _ = corewire::layer::LayeredChannel::new((), layer);
/// ```
pub struct Authorize<F> {
    check: F,
}

impl<F> Authorize<F>
where
    F: Fn(&CallView<'_>) -> Result<(), Status> + 'static,
{
    /// Lets pass what `check` lets pass.
    #[must_use]
    pub fn new(check: F) -> Self {
        Self { check }
    }
}

impl<F> fmt::Debug for Authorize<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").finish_non_exhaustive()
    }
}

impl<F> Layer for Authorize<F>
where
    F: Fn(&CallView<'_>) -> Result<(), Status> + 'static,
{
    type Guard = ();

    #[inline]
    fn begin(&self, call: &mut CallView<'_>) -> Result<(), Status> {
        (self.check)(call)
    }
}
