//! Every setting has a range: a value outside it is refused in a sentence that names it, and every value
//! inside it gives a server or a channel that works and floods nobody.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::layer::{ConcurrencyLimit, LayeredChannel, TimeLimit};
use corewire::{
    Budgets, CallError, ChannelConfig, ClassShares, ClientShard, ClientThread, ConnectError,
    QueueDelay, Running, ServerBuilder, SharedChannel, Spin, StartError, StatusCode, Timeouts,
    Transport, blocking,
};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::peer::Peer;
use support::service::SubjectClient;
use support::{PATIENCE, Random, address, builder, end, server};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A time of any size, often one at which something might change.
fn time(random: &mut Random) -> Duration {
    let edges = [
        Duration::ZERO,
        Duration::from_nanos(1),
        MS - Duration::from_nanos(1),
        MS,
        10 * MS - Duration::from_nanos(1),
        10 * MS,
        50 * MS,
        Duration::from_secs(3600),
        DAY,
        DAY + Duration::from_nanos(1),
        365 * DAY,
        Duration::from_secs(u64::MAX / 2),
        Duration::MAX,
    ];
    match random.below(2 * edges.len()) {
        index if index < edges.len() => edges[index],
        _ => Duration::from_nanos(random.next() >> random.below(64)),
    }
}

fn size(random: &mut Random) -> usize {
    let edges = [0, 1, 4095, 4096, 65_536, 65_537, 1 << 24, 1 << 30, 1 << 40, usize::MAX];
    match random.below(2 * edges.len()) {
        index if index < edges.len() => edges[index],
        _ => usize::try_from(random.next() >> random.below(64)).unwrap(),
    }
}

/// A setting that is a time: its name, how it is set, its range, and whether it may be `Duration::MAX`.
struct Time<T>(&'static str, fn(&mut T, Duration), Duration, Duration, bool);

impl<T> Time<T> {
    fn allows(&self, value: Duration) -> bool {
        (self.2 <= value && value <= self.3) || (self.4 && value == Duration::MAX)
    }
}

/// A setting that is a size, with its range.
struct Size<T>(&'static str, fn(&mut T, usize), usize, usize);

fn timeouts() -> Vec<Time<Timeouts>> {
    let short = 10 * MS;
    vec![
        Time("timeouts.hello", |it, value| it.hello = value, short, DAY, true),
        Time("timeouts.frame", |it, value| it.frame = value, short, DAY, true),
        Time("timeouts.ping_after", |it, value| it.ping_after = value, short, DAY, true),
        Time("timeouts.ping", |it, value| it.ping = value, short, DAY, true),
        Time("timeouts.write", |it, value| it.write = value, short, DAY, true),
        Time("timeouts.idle", |it, value| it.idle = Some(value), short, 30 * DAY, true),
        Time("timeouts.age", |it, value| it.age = Some(value), short, 365 * DAY, true),
        Time("timeouts.age_grace", |it, value| it.age_grace = value, Duration::ZERO, DAY, true),
    ]
}

fn channel_times() -> Vec<Time<ChannelConfig>> {
    let hour = Duration::from_secs(3600);
    vec![
        Time("connect_timeout", |it, value| it.connect_timeout = value, MS, DAY, false),
        // At the default of `backoff_max`, which is no less.
        Time("backoff_min", |it, value| it.backoff_min = value, MS, 5000 * MS, false),
        Time("backoff_max", |it, value| it.backoff_max = value, 50 * MS, hour, false),
    ]
}

fn budgets() -> Vec<Size<Budgets>> {
    let frame = 16 << 20;
    vec![
        Size("budgets.frames_per_turn", |it, value| it.frames_per_turn = value, 1, 65_536),
        Size("budgets.receives_per_turn", |it, value| it.receives_per_turn = value, 1, 65_536),
        Size("budgets.receive_bytes", |it, value| it.receive_bytes = value, 4096, 16 << 20),
        Size("budgets.unsent_bytes_max", |it, value| it.unsent_bytes_max = value, 0, 1 << 30),
        Size(
            "budgets.send_bytes_per_turn",
            |it, value| it.send_bytes_per_turn = value,
            4096,
            1 << 30,
        ),
        Size("budgets.accepts_per_turn", |it, value| it.accepts_per_turn = value, 1, 65_536),
        Size("budgets.call_bytes", |it, value| it.call_bytes = value, 0, 1 << 20),
        Size(
            "budgets.connection_bytes_max",
            |it, value| it.connection_bytes_max = value,
            1,
            1 << 40,
        ),
        Size("budgets.shard_bytes_max", |it, value| it.shard_bytes_max = value, frame, 1 << 40),
        Size("budgets.shard_calls_max", |it, value| it.shard_calls_max = value, 1, 1 << 24),
    ]
}

/// That the sentence says which setting it is about and what is allowed.
#[track_caller]
fn assert_names(text: &str, setting: &str) {
    // The least of `backoff_max` is `backoff_min`, so either may be at fault.
    let is_named = text.starts_with(&format!("{setting} is "))
        || (setting == "backoff_min" && text.starts_with("backoff_max is "));
    assert!(is_named && text.contains("; it must be between "), "{setting}: {text}");
}

/// Makes a channel of each kind with this configuration: all agree whether it is in range.
#[track_caller]
fn assert_channels(config: &ChannelConfig, setting: &str, allowed: bool, thread: &ClientThread) {
    let to = "127.0.0.1:1";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = [
        blocking::Channel::new(to, config.clone()).map(drop),
        thread.channel(to, config.clone()).map(drop),
        runtime.block_on(async { SharedChannel::on_tokio(to, config.clone()).map(drop) }),
        corewire::Channel::new(to, config.clone()).map(drop),
    ];
    for made in made {
        match made {
            Ok(()) => assert!(allowed, "{setting} was taken: {config:?}"),
            // Settings are looked at before anything else.
            Err(ConnectError::NotConnected(corewire::NotSent::NotOnShard)) => {
                assert!(allowed, "{setting} was taken: {config:?}");
            }
            Err(ConnectError::Setting(text)) => {
                assert!(!allowed, "{setting} was refused: {text}");
                assert_names(&text, setting);
            }
            Err(error) => panic!("{setting}: {error}"),
        }
    }
}

#[test]
fn every_setting_of_a_channel_has_a_range_that_all_kinds_keep() {
    let thread = ClientThread::start(ClientShard::default()).unwrap();
    let mut random = Random(0x5e77_1265);
    for _ in 0..20 {
        for knob in &timeouts() {
            let (mut config, value) = (ChannelConfig::default(), time(&mut random));
            knob.1(&mut config.connection.timeouts, value);
            assert_channels(&config, knob.0, knob.allows(value), &thread);
        }
        for knob in &channel_times() {
            let (mut config, value) = (ChannelConfig::default(), time(&mut random));
            knob.1(&mut config, value);
            assert_channels(&config, knob.0, knob.allows(value), &thread);
        }
        let value = size(&mut random);
        let config = ChannelConfig { waiting_max: value, ..ChannelConfig::default() };
        assert_channels(&config, "waiting_max", (1..=1 << 24).contains(&value), &thread);
        let config = ChannelConfig { unsent_max: value, ..ChannelConfig::default() };
        assert_channels(&config, "unsent_max", value <= 1 << 30, &thread);
        let config = ChannelConfig { queued_max: value, ..ChannelConfig::default() };
        assert_channels(&config, "queued_max", value <= 1 << 30, &thread);
    }
    let mut config = ChannelConfig::default();
    config.connection.timeouts.jitter_percent = 51;
    assert_channels(&config, "timeouts.jitter_percent", false, &thread);
}

/// Starts the server; it is refused for this setting, or answers a call.
#[track_caller]
fn assert_server(builder: ServerBuilder, setting: &str, allowed: bool) {
    assert_start(builder, setting, allowed, end);
}

/// The same for a server that may take an hour to stop: nobody waits for it.
#[track_caller]
fn assert_stops_later(builder: ServerBuilder, setting: &str, allowed: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_start(builder, setting, allowed, |server| runtime.block_on(async { drop(server) }));
}

#[track_caller]
fn assert_start(builder: ServerBuilder, setting: &str, allowed: bool, end: impl Fn(Running)) {
    match builder.start() {
        Ok(server) => {
            assert!(allowed, "{setting} was taken");
            if !setting.starts_with("timeouts.") {
                Peer::polite(address(&server)).assert_serves(1);
            }
            end(server);
        }
        Err(StartError::Config(text)) => {
            assert!(!allowed, "{setting} was refused: {text}");
            assert_names(&text, setting);
        }
        Err(error) => panic!("{setting}: {error}"),
    }
}

#[test]
fn every_setting_of_a_server_has_a_range() {
    let mut random = Random(0x5e77_1266);
    for _ in 0..6 {
        for knob in &timeouts() {
            let (mut all, value) = (Timeouts::default(), time(&mut random));
            knob.1(&mut all, value);
            assert_server(builder(1).timeouts(all), knob.0, knob.allows(value));
        }
        for knob in &budgets() {
            let (mut all, value) = (Budgets::default(), size(&mut random));
            knob.1(&mut all, value);
            let allowed = (knob.2..=knob.3).contains(&value);
            assert_server(builder(1).budgets(all), knob.0, allowed);
        }
        let value = time(&mut random);
        let all = Budgets { refuse_after: value, ..Budgets::default() };
        assert_server(builder(1).budgets(all), "budgets.refuse_after", value <= 10_000 * MS);
        let delay = QueueDelay { target: value, interval: value.max(100 * MS) };
        let all = Budgets { queue_delay: Some(delay), ..Budgets::default() };
        let allowed = Duration::from_micros(100) <= value && value <= 10_000 * MS;
        assert_server(builder(1).budgets(all), "budgets.queue_delay.target", allowed);
        assert_server(builder(1).drain_within(value), "drain_within", value <= DAY);
        let allowed = (100 * MS <= value && value <= DAY) || value == Duration::MAX;
        assert_server(builder(1).stall_after(value), "stall_after", allowed);
        let hour = Duration::from_secs(3600);
        assert_stops_later(builder(1).lame_duck(value), "lame_duck", value <= hour);
        assert_server(builder(1).spin(Spin::For(value)), "spin", value <= 1000 * MS);
        let value = u16::try_from(random.next() >> 48 >> random.below(16)).unwrap();
        let allowed = (1..=1000).contains(&value);
        let shares = ClassShares { normal: value, ..ClassShares::default() };
        assert_server(builder(1).class_shares(shares), "class_shares.normal", allowed);
        assert_server(builder(1).method_costs(value), "method_costs", value <= 1024);
    }
    assert_server(builder(1).backlog(0), "backlog", false);
    assert_server(builder(1).one_way_pending_max(32_769), "one_way_pending_max", false);
    let spin = Spin::For(1001 * MS);
    let refused = ClientThread::start(ClientShard { spin, ..ClientShard::default() });
    assert_names(&refused.expect_err("the limit is too long").to_string(), "spin");
}

#[test]
fn settings_of_layers_have_ranges() {
    let refused =
        |builder: ServerBuilder| builder.start().expect_err("it must not start").to_string();
    let text = refused(builder(1).layer(|_| TimeLimit::at_most(Duration::ZERO)));
    assert!(text.contains("TimeLimit is 0 ns; it must be between 1 µs and 365 days"), "{text}");
    let text = refused(
        builder(1)
            .layer(|_| (TimeLimit::at_most(MS), ConcurrencyLimit::new(1).retry_after(2 * DAY))),
    );
    assert!(
        text.contains("retry_after is 48 h") || text.contains("retry_after is 2 days"),
        "{text}"
    );
    let server = builder(1).layer(|_| TimeLimit::by_default(Duration::MAX)).start().unwrap();
    let channel = blocking::Channel::new(address(&server), ChannelConfig::default()).unwrap();
    let client =
        SubjectClient::new(LayeredChannel::new(channel, TimeLimit::at_most(Duration::ZERO)));
    let error = client.add(1, 2).wait().unwrap_err();
    assert!(!error.may_have_run() && error.code() == StatusCode::FailedPrecondition, "{error:?}");
    assert!(error.to_string().contains("it must be between"), "{error}");
    drop(client);
    end(server);
}

kinds! {
    the_shortest_times_flood_nobody
    the_longest_times_work
    a_connect_timeout_of_zero_is_refused
}

/// Accepts and closes at once, for ever; counts.
fn closing_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, dials) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&dials);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (to, dials)
}

/// A server that ends each connection at once is dialled at most 40 times a second in the long run, by a
/// client that calls as often as it can and has the least of all times that are allowed.
async fn the_shortest_times_flood_nobody<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let (to, dials) = closing_server();
    let mut config = ChannelConfig::default();
    timeouts().iter().for_each(|knob| knob.1(&mut config.connection.timeouts, knob.2));
    channel_times().iter().for_each(|knob| knob.1(&mut config, knob.2));
    let client = SubjectClient::new(connect(&to, config).unwrap()).with_timeout(PATIENCE);
    let start = Instant::now();
    while start.elapsed() < 500 * MS {
        let outcome = client.add(1, 2).await;
        assert!(
            matches!(outcome, Err(CallError::NotSent(_) | CallError::Unknown(_))),
            "{outcome:?}"
        );
        std::thread::sleep(Duration::from_micros(100));
        futures_lite::future::yield_now().await;
    }
    let (dialled, secs) = (dials.load(Ordering::SeqCst), start.elapsed().as_secs_f64());
    // The first six waits double from 1 ms up to 50 ms.
    assert!(dialled >= 2, "it tried again");
    assert!(dialled as f64 <= 8.0 + 40.0 * secs, "{dialled} dials in {secs} s");
}

async fn the_longest_times_work<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let mut config = ChannelConfig::default();
    let longest = |max, never| if never { Duration::MAX } else { max };
    let all = timeouts();
    all.iter().for_each(|it| it.1(&mut config.connection.timeouts, longest(it.3, it.4)));
    channel_times().iter().for_each(|knob| knob.1(&mut config, knob.3));
    config.backoff_min = config.backoff_max;
    config.waiting_max = 1 << 24;
    let server = server();
    let to = address(&server).to_string();
    let client = SubjectClient::new(connect(&to, config).unwrap()).with_timeout(Duration::MAX);
    assert_eq!(client.add(40, 2).await, Ok(42));
    drop(client);
    end(server);
}

async fn a_connect_timeout_of_zero_is_refused<C: Transport>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let config = ChannelConfig { connect_timeout: Duration::ZERO, ..ChannelConfig::default() };
    let Err(ConnectError::Setting(text)) = connect("127.0.0.1:1", config) else {
        panic!("it was taken");
    };
    assert_eq!(text, "connect_timeout is 0 ns; it must be between 1 ms and 24 h");
}

/// With the least `ping_after` and the most jitter an idle connection costs a ping every few milliseconds,
/// and not one after the other.
#[test]
fn the_shortest_pings_leave_pauses() {
    let timeouts = Timeouts { ping_after: 10 * MS, jitter_percent: 50, ..Timeouts::default() };
    let server = builder(1).timeouts(timeouts).start().unwrap();
    let channel = blocking::Channel::new(address(&server), ChannelConfig::default()).unwrap();
    let client = SubjectClient::new(channel);
    let start = Instant::now();
    // The call's thread answers the server's pings while it waits.
    assert_eq!(client.after(300).wait(), Ok(300));
    let sends = support::count(&server, |it| it.sends.value());
    let most = start.elapsed().as_millis() / 5 + 20;
    assert!(u128::from(sends) <= most, "{sends} sends in {:?}", start.elapsed());
    drop(client);
    end(server);
}
