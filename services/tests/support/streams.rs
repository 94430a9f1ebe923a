//! A service whose methods stream in every direction, and tell what becomes of them.

use super::PATIENCE;
use corewire::{
    Bytes, Context, Placement, Running, Server, ServerBuilder, Status, Streaming, spawn,
};
use futures_lite::stream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Every kind of call.
#[corewire::service]
pub trait Feed {
    /// Unary, to be called beside streams.
    async fn add(&self, left: u32, right: u32) -> Result<u32, Status>;
    /// Counts.
    #[one_way]
    async fn touch(&self, amount: u64);
    /// Never ends.
    #[one_way]
    async fn linger(&self, context: &Context);
    /// The numbers from 0 up to this one.
    async fn count(&self, up_to: u64) -> Result<Streaming<u64>, Status>;
    /// This many raw messages of this size, for as long as somebody takes them.
    async fn flood(&self, messages: u64, bytes: u32) -> Result<Streaming<Bytes>, Status>;
    /// Adds up.
    async fn sum(&self, start: u64, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// Adds up this many and answers without reading the rest.
    async fn sum_some(&self, take: u64, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// Counts messages and bytes.
    async fn measure(&self, parts: Streaming<Bytes>) -> Result<(u64, u64), Status>;
    /// Takes the stream and reads none of it.
    async fn ignore(&self, parts: Streaming<Bytes>) -> Result<(), Status>;
    /// Gives each message back.
    async fn echo(&self, parts: Streaming<Bytes>) -> Result<Streaming<Bytes>, Status>;
    /// Doubles each number; fails at 13.
    async fn double(&self, offset: u64, numbers: Streaming<u64>) -> Result<Streaming<u64>, Status>;
    /// Fails before there is a stream, or after this many messages.
    async fn fail(&self, after: Option<u64>) -> Result<Streaming<u64>, Status>;
    /// Panics before there is a stream, or in its stream.
    async fn panic(&self, late: bool) -> Result<Streaming<u64>, Status>;
    /// A stream that never has a message.
    async fn silent(&self) -> Result<Streaming<u64>, Status>;
    /// Never answers at all.
    async fn never(&self, numbers: Streaming<u64>) -> Result<u64, Status>;
    /// Says what came with the call, and sends something with the opening.
    async fn describe(&self, context: &Context) -> Result<Streaming<String>, Status>;
    /// The same with the reply to a stream.
    async fn report(
        &self,
        context: &Context,
        numbers: Streaming<u64>,
    ) -> Result<(u64, String), Status>;
    /// The same in both directions.
    async fn discuss(
        &self,
        context: &Context,
        numbers: Streaming<u64>,
    ) -> Result<Streaming<u64>, Status>;
}

/// What handlers and tests share.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What `touch` added up.
    pub touched: Arc<AtomicU64>,
    /// Messages that `flood` made.
    pub made: Arc<AtomicU64>,
    /// Handlers and streams that began, and those that are gone.
    pub begun: Arc<AtomicU64>,
    pub ended: Arc<AtomicU64>,
}

impl Seen {
    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::SeqCst)
    }

    pub fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    fn guard(&self) -> Guard {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Guard(Arc::clone(&self.ended))
    }
}

#[derive(Debug)]
struct Guard(Arc<AtomicU64>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The implementation.
#[derive(Debug, Default)]
pub struct Source {
    pub seen: Seen,
}

async fn add_up(numbers: &mut Streaming<u64>, mut sum: u64, take: u64) -> Result<u64, Status> {
    for _ in 0..take {
        match numbers.next().await {
            Some(number) => sum += number?,
            None => break,
        }
    }
    Ok(sum)
}

/// Metadata, attachment and priority of a call, and whether it has a deadline.
fn what_came(context: &Context) -> String {
    let word = context.metadata().text("word").unwrap_or("no word").to_owned();
    let beside = context.attachment().len();
    let (priority, timed) = (context.priority(), context.deadline().is_some());
    format!("{word} {beside} {priority} {timed}")
}

impl Feed for Source {
    async fn add(&self, left: u32, right: u32) -> Result<u32, Status> {
        Ok(left + right)
    }

    async fn touch(&self, amount: u64) {
        self.seen.touched.fetch_add(amount, Ordering::SeqCst);
    }

    async fn linger(&self, _: &Context) {
        let _guard = self.seen.guard();
        std::future::pending().await
    }

    async fn count(&self, up_to: u64) -> Result<Streaming<u64>, Status> {
        Ok(Streaming::from_stream(stream::iter((0..up_to).map(Ok))))
    }

    async fn flood(&self, messages: u64, bytes: u32) -> Result<Streaming<Bytes>, Status> {
        let (guard, seen) = (self.seen.guard(), self.seen.clone());
        let body = Bytes::from(vec![7; bytes as usize]);
        Ok(Streaming::from_stream(stream::iter((0..messages).map(move |_| {
            let _alive = &guard;
            seen.made.fetch_add(1, Ordering::SeqCst);
            Ok(body.clone())
        }))))
    }

    async fn sum(&self, start: u64, mut numbers: Streaming<u64>) -> Result<u64, Status> {
        add_up(&mut numbers, start, u64::MAX).await
    }

    async fn sum_some(&self, take: u64, mut numbers: Streaming<u64>) -> Result<u64, Status> {
        add_up(&mut numbers, 0, take).await
    }

    async fn measure(&self, mut parts: Streaming<Bytes>) -> Result<(u64, u64), Status> {
        let (mut messages, mut bytes) = (0, 0);
        while let Some(part) = parts.next().await {
            messages += 1;
            bytes += part?.len() as u64;
        }
        Ok((messages, bytes))
    }

    async fn ignore(&self, parts: Streaming<Bytes>) -> Result<(), Status> {
        let _guard = self.seen.guard();
        let _parts = parts;
        std::future::pending().await
    }

    async fn echo(&self, parts: Streaming<Bytes>) -> Result<Streaming<Bytes>, Status> {
        Ok(parts)
    }

    async fn double(
        &self,
        offset: u64,
        mut numbers: Streaming<u64>,
    ) -> Result<Streaming<u64>, Status> {
        let (mut sender, stream) = Streaming::channel();
        spawn(async move {
            while let Some(number) = numbers.next().await {
                match number {
                    Ok(13) => return sender.fail(Status::out_of_range("13")),
                    Ok(number) if sender.send(2 * number + offset).await.is_ok() => {}
                    Ok(_) | Err(_) => return,
                }
            }
        })
        .detach();
        Ok(stream)
    }

    async fn fail(&self, after: Option<u64>) -> Result<Streaming<u64>, Status> {
        let after = after.ok_or_else(|| Status::not_found("there is no stream"))?;
        let end = Err(Status::data_loss("it stops here"));
        Ok(Streaming::from_stream(stream::iter((0..after).map(Ok).chain([end]))))
    }

    async fn panic(&self, late: bool) -> Result<Streaming<u64>, Status> {
        assert!(late, "a handler panics, as the test wants");
        Ok(Streaming::from_stream(stream::iter((0..5).map(|number| {
            assert!(number < 3, "a stream panics, as the test wants");
            Ok(number)
        }))))
    }

    async fn silent(&self) -> Result<Streaming<u64>, Status> {
        let guard = self.seen.guard();
        Ok(Streaming::from_stream(stream::poll_fn(move |_| {
            let _alive = &guard;
            std::task::Poll::Pending
        })))
    }

    async fn describe(&self, context: &Context) -> Result<Streaming<String>, Status> {
        context.add_reply_metadata("answer", b"opened")?;
        let text = what_came(context);
        Ok(Streaming::from_stream(stream::iter([Ok(text)])))
    }

    async fn report(
        &self,
        context: &Context,
        mut numbers: Streaming<u64>,
    ) -> Result<(u64, String), Status> {
        context.add_reply_metadata("answer", b"replied")?;
        context.set_reply_attachment(Bytes::from_static(b"beside"));
        let sum = add_up(&mut numbers, 0, u64::MAX).await?;
        Ok((sum, what_came(context)))
    }

    async fn discuss(
        &self,
        context: &Context,
        numbers: Streaming<u64>,
    ) -> Result<Streaming<u64>, Status> {
        context.add_reply_metadata("answer", what_came(context).as_bytes())?;
        Ok(numbers)
    }

    async fn never(&self, numbers: Streaming<u64>) -> Result<u64, Status> {
        let _guard = self.seen.guard();
        let _numbers = Rc::new(numbers);
        std::future::pending().await
    }
}

/// A running server of one shard, and what it saw.
pub fn feed() -> (Running, Seen) {
    feed_with(|builder| builder)
}

/// The same, with other settings.
pub fn feed_with(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Running, Seen) {
    let seen = Seen::default();
    let shared = seen.clone();
    let builder = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(move |_| FeedServer::new(Source { seen: shared.clone() }));
    (change(builder).start().unwrap(), seen)
}

/// Waits for what handlers do, while the shard goes on.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        corewire::sleep(Duration::from_millis(1)).await;
    }
}
