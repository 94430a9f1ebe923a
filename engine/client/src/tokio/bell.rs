//! How the task of a tokio channel hears that something is in its queues.

use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::watch;
use crate::remote::mailbox::Bell;

/// A queue of one: what is in it says that it was rung.
#[derive(Debug)]
pub(super) struct TaskBell(pub(super) Sender<()>);

impl Bell for TaskBell {
    fn ring(&self) {
        // Full is rung already; closed is a driver that is gone.
        if self.0.try_send(()).is_ok() {
            watch::note_ring();
        }
    }

    /// The connection may need any thread of a runtime.
    fn may_block(&self) -> bool {
        Handle::try_current().is_err()
    }
}
