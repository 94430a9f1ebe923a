//! The service under test: methods that answer, fail, wait, panic, block and tell what they did.

use corewire::{Bytes, Context, Status, StatusCode};
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Every habit that a handler can have.
#[corewire::service]
pub trait Subject {
    /// Gives raw bytes back.
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status>;
    /// Adds; speedy in both directions.
    async fn add(&self, left: u32, right: u32) -> Result<u32, Status>;
    /// Pends once, then gives the number back.
    async fn later(&self, number: u32) -> Result<u32, Status>;
    /// Answers after this many milliseconds of glommio's timer.
    async fn after(&self, ms: u64) -> Result<u64, Status>;
    /// Never answers.
    async fn never(&self) -> Result<(), Status>;
    /// Answers when the test opens the gate, from a thread of its own.
    async fn gate(&self, number: u32) -> Result<u32, Status>;
    /// Pends until the gate opens, then answers this many bytes.
    async fn burst(&self, bytes: u32) -> Result<Bytes, Status>;
    /// Answers this many bytes.
    async fn blob(&self, bytes: u32) -> Result<Bytes, Status>;
    /// Panics: at once, after having pended, or when it is dropped after having answered.
    async fn panic(&self, how: u8) -> Result<u32, Status>;
    /// Keeps its thread until the test says so.
    async fn block(&self) -> Result<(), Status>;
    /// Says what it knows of the call: peer, shard, µs left, connection, call, priority.
    async fn who(&self, context: &Context) -> Result<Who, Status>;
    /// Fails with this code, a text, details and a time to wait.
    async fn fail(&self, code: u8) -> Result<(), Status>;
    /// Counts, and answers nobody.
    #[one_way]
    async fn touch(&self, amount: u64);
    /// Counts bytes.
    #[one_way]
    async fn touch_all(&self, body: Bytes);
    /// Arguments of many shapes, given back.
    async fn shapes(&self, plain: Plain, nested: Nested, text: String) -> Result<Shapes, Status>;
}

/// What [`Subject::who`] knows.
pub type Who = (String, u16, u64, u64, u32, u8);
/// Numbers of all sizes.
pub type Plain = (u8, i16, u32, i64, f64, bool);
/// Containers in containers.
pub type Nested = Vec<(Option<String>, Vec<u8>, std::collections::BTreeMap<u16, String>)>;
/// All that [`Subject::shapes`] took.
pub type Shapes = (Plain, Nested, String);

/// What handlers and tests share.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    /// Handlers of `never`, `after` and `gate` that began.
    pub begun: Arc<AtomicU64>,
    /// And those that were dropped or ended.
    pub ended: Arc<AtomicU64>,
    /// Set to let `block` go on.
    pub unblock: Arc<AtomicBool>,
    /// What `touch` added up.
    pub touched: Arc<AtomicU64>,
    /// Bodies that `burst` has made.
    bursts: Arc<AtomicU64>,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Debug, Default)]
struct Gate {
    open: bool,
    wakers: Vec<Waker>,
}

impl Habits {
    /// Lets all handlers of `gate` and `burst` go on, those to come as well.
    pub fn open(&self) {
        let wakers = {
            let mut gate = self.gate.lock().unwrap();
            gate.open = true;
            std::mem::take(&mut gate.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Makes them wait again.
    pub fn shut(&self) {
        self.gate.lock().unwrap().open = false;
    }

    /// Handlers that wait at the gate.
    pub fn at_gate(&self) -> usize {
        self.gate.lock().unwrap().wakers.len()
    }

    /// Handlers that began.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Handlers that ended or were dropped.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Bodies that `burst` has made.
    pub fn made(&self) -> usize {
        usize::try_from(self.bursts.load(Ordering::SeqCst)).unwrap()
    }

    fn pass(&self) -> impl Future<Output = ()> + use<> {
        let gate = Arc::clone(&self.gate);
        let mut waits = false;
        poll_fn(move |context| {
            let mut gate = gate.lock().unwrap();
            if gate.open {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waits, true) {
                gate.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    fn guard(&self) -> Guard {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Guard(Arc::clone(&self.ended))
    }
}

struct Guard(Arc<AtomicU64>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Pends once and is woken at once.
pub fn pend_once() -> impl Future<Output = ()> {
    let mut pended = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut pended, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// The implementation.
#[derive(Debug, Default)]
pub struct Target {
    habits: Habits,
}

impl Target {
    pub fn new(habits: Habits) -> Self {
        Self { habits }
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        // A second panic while one unwinds would abort the process, as everywhere in Rust.
        if !std::thread::panicking() {
            panic!("a drop panics, as the test wants");
        }
    }
}

impl Subject for Target {
    async fn echo(&self, body: Bytes) -> Result<Bytes, Status> {
        Ok(body)
    }

    async fn add(&self, left: u32, right: u32) -> Result<u32, Status> {
        left.checked_add(right).ok_or_else(|| Status::out_of_range("the sum has more than 32 bits"))
    }

    async fn later(&self, number: u32) -> Result<u32, Status> {
        pend_once().await;
        Ok(number)
    }

    async fn after(&self, ms: u64) -> Result<u64, Status> {
        let _guard = self.habits.guard();
        corewire::sleep(Duration::from_millis(ms)).await;
        Ok(ms)
    }

    async fn never(&self) -> Result<(), Status> {
        let _guard = self.habits.guard();
        std::future::pending().await
    }

    async fn gate(&self, number: u32) -> Result<u32, Status> {
        let _guard = self.habits.guard();
        self.habits.pass().await;
        Ok(number)
    }

    async fn burst(&self, bytes: u32) -> Result<Bytes, Status> {
        self.habits.pass().await;
        self.habits.bursts.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![7; bytes as usize]))
    }

    async fn blob(&self, bytes: u32) -> Result<Bytes, Status> {
        Ok(Bytes::from(vec![7; bytes as usize]))
    }

    async fn panic(&self, how: u8) -> Result<u32, Status> {
        match how {
            0 => panic!("a handler panics at once, as the test wants"),
            1 => {
                pend_once().await;
                panic!("a handler panics later, as the test wants");
            }
            2 => {
                let _bomb = PanicsWhenDropped;
                Ok(2)
            }
            _ => {
                let _guard = self.habits.guard();
                let _bomb = PanicsWhenDropped;
                std::future::pending().await
            }
        }
    }

    async fn block(&self) -> Result<(), Status> {
        let _guard = self.habits.guard();
        while !self.habits.unblock.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    async fn who(&self, context: &Context) -> Result<Who, Status> {
        let left = context.remaining().map_or(0, |left| u64::try_from(left.as_micros()).unwrap());
        let id = context.call_id();
        let (connection, call) = (id.connection, id.call);
        let shard = context.shard().0;
        Ok((context.peer().to_string(), shard, left, connection, call, context.priority()))
    }

    async fn fail(&self, code: u8) -> Result<(), Status> {
        let code = StatusCode::from_number(code).ok_or_else(|| Status::internal("no such code"))?;
        let status = Status::new(code, "as the test wants");
        let details = Bytes::from_static(b"details");
        Err(status.with_details(details).with_retry_after(Duration::from_millis(1234)))
    }

    async fn touch(&self, amount: u64) {
        self.habits.touched.fetch_add(amount, Ordering::SeqCst);
    }

    async fn touch_all(&self, body: Bytes) {
        self.habits.touched.fetch_add(body.len() as u64, Ordering::SeqCst);
    }

    async fn shapes(&self, plain: Plain, nested: Nested, text: String) -> Result<Shapes, Status> {
        Ok((plain, nested, text))
    }
}
