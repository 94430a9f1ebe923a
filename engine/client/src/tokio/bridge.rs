//! Futures of tokio's libraries, awaited from elsewhere.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use corewire_codec::Status;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use crate::log_limit::{Topic, admit_here};
use crate::panics::panic_text;

/// Runs a future on a tokio runtime, and waits for its value where it is awaited: in a handler or a task of a shard, for
/// example. For libraries that need tokio's timers and sockets, which do not work on a shard.
///
/// The runtime must be driven by threads of its own: a multi-threaded one, or one whose thread is in `block_on`. Start it
/// from `main`, before the server: a thread that a shard starts has that shard's one CPU.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::on_tokio;
/// use std::time::Duration;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// let handle = runtime.handle().clone(); // a service keeps this
///
/// // In a handler: `let rows = on_tokio(&self.tokio, query).await?;`
/// let value = runtime.block_on(on_tokio(&handle, async {
///     tokio::time::sleep(Duration::from_millis(1)).await;
///     42
/// }));
/// assert_eq!(value, Ok(42));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Cancel-safety
///
/// The future begins at once. Dropping what this returns aborts it at its next `.await`; so does the end of a call whose
/// handler waits for it.
///
/// # Cost
///
/// A task of tokio, and two threads are woken: some 20 µs.
///
/// # Errors
///
/// [`OnTokioError`], if the future panics or its runtime ends before it. As a `Status`, it goes to the caller of a
/// handler by `?`.
#[doc(alias("tokio", "async-compat", "bridge", "runtime"))]
pub fn on_tokio<F>(runtime: &Handle, future: F) -> OnTokio<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    OnTokio(runtime.spawn(future))
}

/// A future that runs on a tokio runtime, to be awaited; made by [`on_tokio`]. Dropping it aborts that future.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::{OnTokio, on_tokio};
///
/// fn answer(runtime: &tokio::runtime::Handle) -> OnTokio<u32> {
///     on_tokio(runtime, async { 42 })
/// }
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # assert_eq!(runtime.block_on(answer(runtime.handle())), Ok(42));
/// ```
#[must_use = "dropping it aborts the future"]
#[derive(Debug)]
pub struct OnTokio<T>(JoinHandle<T>);

impl<T> Future for OnTokio<T> {
    type Output = Result<T, OnTokioError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(outcome.map_err(OnTokioError::of))
    }
}

impl<T> Drop for OnTokio<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a future on a tokio runtime gave no value.
///
/// ```
/// # use corewire_client as corewire;
/// use corewire::{OnTokioError, on_tokio};
///
/// let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # std::panic::set_hook(Box::new(|_| {}));
/// let failed = runtime.block_on(on_tokio(runtime.handle(), async { panic!("no such row") }));
/// assert_eq!(failed, Err::<(), _>(OnTokioError::Panicked)); // the log has the message
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnTokioError {
    /// It panicked. The log has the panic's message, a caller gets `Internal` without it.
    Panicked,
    /// Its runtime ended before it did. `Unavailable` for a caller.
    RuntimeEnded,
}

impl OnTokioError {
    #[cold]
    fn of(error: JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else { return Self::RuntimeEnded };
        if admit_here(Topic::WORK_PANIC, Instant::now()) {
            let panic = panic_text(&*panic);
            tracing::error!(
                panic,
                "a future on a tokio runtime panicked; who waits for it gets an error"
            );
        }
        Self::Panicked
    }
}

impl fmt::Display for OnTokioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the work panicked",
            Self::RuntimeEnded => "the server ends: the runtime of this work is gone",
        })
    }
}

impl Error for OnTokioError {}

impl From<OnTokioError> for Status {
    fn from(error: OnTokioError) -> Self {
        match error {
            OnTokioError::Panicked => Self::internal(error.to_string()),
            OnTokioError::RuntimeEnded => Self::unavailable(error.to_string()),
        }
    }
}
