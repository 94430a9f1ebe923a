//! What the simulation has found, shown on a real shard.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use corewire_engine::{ClientShard, run_on_shard, spawn};

/// The wake came through the doorbell as a call's, and the task was never polled again.
#[test]
fn a_task_that_another_thread_wakes_is_polled() {
    let outcome = run_on_shard(ClientShard::default(), || async {
        let task = spawn(async {
            let done = Arc::new(AtomicBool::new(false));
            let mut waker = None;
            poll_fn(move |context| {
                if done.load(Ordering::Acquire) {
                    return Poll::Ready(7);
                }
                if waker.is_none() {
                    waker = Some(());
                    let (waker, done) = (context.waker().clone(), Arc::clone(&done));
                    std::thread::scope(|scope| {
                        scope.spawn(move || {
                            done.store(true, Ordering::Release);
                            waker.wake();
                        });
                    });
                }
                Poll::Pending
            })
            .await
        });
        task.await
    });
    assert_eq!(outcome.ok(), Some(7));
}
