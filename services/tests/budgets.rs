//! What a server holds, over real sockets: it stops at its budgets, says so, and goes on when there is
//! room again. How it does so is with the engine's own tests, under a clock of theirs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{Budgets, CallError, Status, StatusCode, spawn};
use futures_lite::future::yield_now;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::{address, builder, client, count, end, until};

/// Handlers that hold on until they are let go.
#[corewire::service(name = "test.Holder")]
trait Holder {
    async fn hold(&self, what: Vec<u8>) -> Result<u32, Status>;
}

#[derive(Clone, Default)]
struct Gate {
    open: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gate {
    fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// One handler's hold; it is let go of in whichever way the handler ends.
struct Hold(Gate);

impl Hold {
    fn new(gate: &Gate) -> Self {
        let held = gate.held.fetch_add(1, Ordering::SeqCst) + 1;
        gate.most.fetch_max(held, Ordering::SeqCst);
        Self(gate.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Holder for Gate {
    async fn hold(&self, what: Vec<u8>) -> Result<u32, Status> {
        let _hold = Hold::new(self);
        while !self.open.load(Ordering::SeqCst) {
            corewire::sleep(Duration::from_millis(1)).await;
        }
        Ok(u32::try_from(what.len()).unwrap())
    }
}

/// Makes many more calls than the budgets allow, opens the gate when all others are refused, and returns
/// how many were answered and how many refused.
fn press(budgets: Budgets, conns: usize, calls: usize, body: usize) -> (usize, usize, usize) {
    let gate = Gate::default();
    let service = gate.clone();
    let server = builder(1)
        .budgets(budgets)
        .service(move |_| HolderServer::new(service.clone()))
        .start()
        .unwrap();
    let to = address(&server);
    let opens = gate.clone();
    let (done, refused) = client(move || async move {
        let refused = std::rc::Rc::new(Cell::new(0));
        let done = std::rc::Rc::new(Cell::new(0));
        let mut callers = Vec::new();
        for _ in 0..conns {
            let client = HolderClient::connect(to).await.unwrap();
            for _ in 0..calls {
                let client = client.clone();
                let (refused, done) = (refused.clone(), done.clone());
                callers.push(spawn(async move {
                    match client.hold(vec![1; body]).await {
                        Ok(bytes) => {
                            assert_eq!(bytes as usize, body);
                            done.set(done.get() + 1);
                        }
                        Err(CallError::Refused(status)) => {
                            assert_eq!(status.code(), StatusCode::ResourceExhausted);
                            assert!(status.retry_after().is_some(), "{status:?}");
                            refused.set(refused.get() + 1);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }));
            }
        }
        while refused.get() + opens.held() < conns * calls {
            yield_now().await;
        }
        opens.open.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await;
        }
        // There is room again.
        let client = HolderClient::connect(to).await.unwrap();
        assert_eq!(client.hold(vec![2; 3]).await.unwrap(), 3);
        (done.get(), refused.get())
    });
    until("nothing is held", || {
        count(&server, |counters| counters.held_bytes.value() + counters.calls_pending.value()) == 0
    });
    assert_eq!(count(&server, |counters| counters.calls_refused.value()), refused as u64);
    assert!(count(&server, |counters| counters.reads_paused.value()) > 0, "reading stops first");
    end(server);
    assert_eq!(gate.held(), 0);
    (done, refused, gate.most.load(Ordering::SeqCst))
}

#[test]
fn calls_that_pend_on_a_shard_are_bounded() {
    let budgets = Budgets { shard_calls_max: 10, ..Budgets::default() };
    let (done, refused, most) = press(budgets, 4, 20, 64);
    // No connection gets all of them, and what one leaves may be too little for another.
    assert!((7..=10).contains(&done), "{done} ran");
    assert_eq!((done + refused, most), (80, done));
}

#[test]
fn bytes_that_a_connections_calls_hold_are_bounded() {
    let budgets = Budgets { connection_bytes_max: 64 * 1024, ..Budgets::default() };
    // A call counts with its body, the two bytes of its length or more, and 1 KiB.
    let (done, refused, most) = press(budgets, 3, 16, 15 * 1024);
    assert_eq!((done, refused, most), (3 * 4, 3 * 12, 12));
}

#[test]
fn bytes_that_a_shard_holds_are_bounded() {
    let budgets = Budgets { shard_bytes_max: 17 << 20, ..Budgets::default() };
    let (done, refused, most) = press(budgets, 6, 4, 2 << 20);
    assert_eq!(done + refused, 24);
    assert_eq!(most, done, "who runs is answered");
    // Nine of them are over the bound; large ones that are being received count as well, and a connection
    // with one has its share when four have.
    assert!((5..=9).contains(&done), "{done} ran");
}

#[test]
fn budgets_out_of_range_are_refused_when_the_server_starts() {
    let budgets = Budgets { shard_bytes_max: 1024, ..Budgets::default() };
    let error = builder(1).budgets(budgets).start().unwrap_err().to_string();
    assert!(error.contains("budgets.shard_bytes_max is 1024; it must be between"), "{error}");
}
