//! How a shared channel is closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use crate::failure::NotSent;
use crate::remote::channel::{Handle, SharedChannel};
use crate::remote::command::Control;

impl SharedChannel {
    /// Closes the channel for all its clones: tells the server that no more calls come, lets those in
    /// flight finish, and waits until they have and the connection is gone. It begins when it is awaited
    /// or waited for.
    ///
    /// Calls that have not been sent, and those that are made from now on, fail with
    /// [`NotSent::Closed`]; what was handed over before is sent first, as far as the server has room for
    /// it. Dropping the future does not stop the closing. A call without a deadline may keep it waiting for
    /// ever; a caller that cannot wait puts a time limit on it, and drops the calls. Closing a channel again
    /// is no error, and waits for the same.
    ///
    /// It costs one message to the driver of the connection, and an allocation. A channel that has no
    /// connection is closed as soon as the driver has read that message.
    ///
    /// Dropping the last handle of a channel tells the server the same and does not wait.
    #[doc(alias("shutdown", "graceful", "disconnect"))]
    pub fn close(&self) -> Closing {
        Closing { handle: Arc::clone(&self.handle), stage: Stage::New }
    }
}

/// A [`SharedChannel`] that is to be closed.
#[derive(Debug)]
#[must_use = "nothing is closed unless it is awaited or waited for"]
pub struct Closing {
    handle: Arc<Handle>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    New,
    /// Nothing is ever sent here: the driver drops the other end when the connection is gone.
    Waiting(oneshot::AsyncReceiver<()>),
    Done,
}

impl Handle {
    fn close(&self) -> oneshot::AsyncReceiver<()> {
        self.closed.store(true, Ordering::Relaxed);
        let (hold, gone) = oneshot::async_channel();
        self.mailbox.control(Control::Close { channel: self.channel, hold: Arc::new(hold) });
        gone
    }
}

impl Future for Closing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Stage::New = self.stage {
            self.stage = Stage::Waiting(self.handle.close());
        }
        if let Stage::Waiting(gone) = &mut self.stage {
            // A driver that has ended has no connection either.
            let _ = ready!(Pin::new(gone).poll(context));
            self.stage = Stage::Done;
        }
        Poll::Ready(())
    }
}

impl Closing {
    /// Blocks this thread until the channel is closed.
    ///
    /// # Errors
    ///
    /// [`NotSent::WouldBlock`] where blocking would keep the calls in flight from ending; the channel is not
    /// closed then.
    pub fn wait(self) -> Result<(), NotSent> {
        if !self.handle.mailbox.may_block() {
            return Err(NotSent::WouldBlock);
        }
        // Without a time limit this returns when the future is ready.
        crate::wait::block_on(self, None).ok_or(NotSent::WouldBlock)
    }
}
