//! Layers around a key-value server: who may call, how many at once, for how long, and what it took.
//! Starts a server and a client in one process and prints what happens.
//!
//! ```text
//! cargo run --release --example layers
//! ```

use corewire::layer::{Authorize, CallTime, CallTimer, CallView, ConcurrencyLimit, Log, TimeLimit};
use corewire::{
    Address, CallOptions, ClientShard, Placement, Server, ServerBuilder, Status, block_on_shard,
};
use corewire_examples::kv::{KeyValueClient, KeyValueServer, Store};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Everybody may read; only callers with the right token may write.
fn may_call(call: &CallView<'_>) -> Result<(), Status> {
    match (call.method().method, call.metadata().text("token")) {
        ("get" | "size", _) | (_, Some("green")) => Ok(()),
        (_, Some(_)) => Err(Status::permission_denied("this token may not write")),
        (_, None) => Err(Status::unauthenticated("writing takes a token")),
    }
}

/// One shard's times. It belongs to the shard, so it needs no lock.
fn timing() -> CallTimer<impl Fn(&CallTime) + 'static> {
    let times = RefCell::new(None::<Histogram<u64>>);
    CallTimer::new(move |timed: &CallTime| {
        let mut times = times.borrow_mut();
        if times.is_none() {
            *times = Histogram::new(3).ok();
        }
        if let Some(times) = &mut *times {
            // A call of more than 584 years is not worth a bucket of its own.
            let nanos = u64::try_from(timed.elapsed.as_nanos()).unwrap_or(u64::MAX);
            // It grows to hold what comes; `saturating_record` would cut each time to what it holds now.
            // Growing fails only when memory is short.
            let _ = times.record(nanos);
            if times.len() == 1000 {
                let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
                say(&format!("1000 calls served: p50 {p50} ns, p99 {p99} ns"));
                times.reset();
            }
        }
    })
}

fn server() -> ServerBuilder {
    let parts = Store::parts();
    Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .layer(|_shard| {
            let limit = ConcurrencyLimit::new(1000).reserve(100);
            let time = TimeLimit::at_most(Duration::from_secs(5));
            (Log::new(), timing(), Authorize::new(may_call), limit, time)
        })
        .service(move |_shard| KeyValueServer::new(Store::new(&parts)))
}

#[allow(clippy::print_stdout, reason = "this is what the program says to people")]
fn say(line: &str) {
    println!("{line}");
}

async fn call(to: Address) -> Outcome<()> {
    let stranger = KeyValueClient::connect(to).await?;
    let writer = stranger.with(CallOptions::new().metadata("token", b"green")?.priority(5));
    if let Err(error) = stranger.put("colour".into(), b"red".to_vec()).await {
        say(&format!("a stranger's put: {error}"));
    }
    writer.put("colour".into(), b"green".to_vec()).await?;
    let reply = stranger.get("colour".into()).with_response().await?;
    let took = reply.handler_time().unwrap_or_default();
    let value = reply.value.unwrap_or_default();
    say(&format!("the colour is {}, found in {took:?}", String::from_utf8_lossy(&value)));
    for _ in 0..1000 {
        stranger.get("colour".into()).await?;
    }
    Ok(())
}

fn run() -> Outcome<()> {
    let server = server().start()?;
    let to = server.addresses().first().cloned().ok_or("the server has no address")?;
    block_on_shard(ClientShard::default(), move || call(to))??;
    corewire_examples::end(Some(server)).map_err(Into::into)
}

#[allow(clippy::print_stderr, reason = "this is what the program says to people")]
fn main() -> ExitCode {
    corewire_examples::log();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
