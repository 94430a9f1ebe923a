//! What a seed is about: how many take part, how they are set up, and what goes wrong how often.
//!
//! Each seed draws its own rates, and leaves most kinds of trouble out: a run in which everything goes wrong at
//! once seldom reaches the point where a single fault would have shown something.

pub(crate) mod mesh;
pub(crate) mod message;
pub(crate) mod script;

use std::time::Duration;

use corewire_client::ChannelConfig;
use corewire_codec::{ConnectionCredit, FrameBytes, InFlight, Limits, StreamCredit};
use corewire_engine::{Budgets, QueueDelay};
use corewire_proto::{ClientConfig, Timeouts};
use corewire_testing::net::Rates;

use crate::core::{Dice, SURE};
use crate::plan::mesh::MeshPlan;

pub(crate) use corewire_testing::ground::{MS, SECOND};

/// How often clients do what, in millionths of their calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) deadline: u32,
    pub(crate) give_up: u32,
    /// A caller gives up when it has been woken, before it looks.
    pub(crate) give_up_woken: u32,
    pub(crate) large: u32,
    /// Something other than an echo that is ready at once.
    pub(crate) pending: u32,
    /// A handler that panics, fails, or never ends.
    pub(crate) troubled: u32,
    /// The wake of a handler comes from another thread.
    pub(crate) foreign: u32,
    /// A call that cannot be encoded.
    pub(crate) unsendable: u32,
    /// A call that nobody answers.
    pub(crate) one_way: u32,
    /// A call that streams.
    pub(crate) stream: u32,
    /// A call whose handler calls another server.
    pub(crate) hops: u32,
}

/// The drawn plan of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: usize,
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    pub(crate) channels: usize,
    pub(crate) calls: u64,
    /// How long the trouble lasts, in ns.
    pub(crate) span: u64,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) budgets: Budgets,
    pub(crate) channel: ChannelConfig,
    pub(crate) drain_within: u64,
    pub(crate) rates: Rates,
    pub(crate) habits: Habits,
    /// The most bytes on their way towards one end.
    pub(crate) pipe: usize,
    pub(crate) latency: (u64, u64),
    /// What one turn costs, in ns.
    pub(crate) turn: (u64, u64),
    /// Ready tasks and hosts are taken in any order, not in the order in which they became ready.
    pub(crate) shuffle: bool,
    /// How often hosts look at their busy connection before they poll for readiness.
    pub(crate) spin: u32,
    pub(crate) drains: u64,
    pub(crate) troubles: u64,
    pub(crate) freezes: u64,
    pub(crate) jumps: u64,
    pub(crate) hostile: usize,
    pub(crate) renewals: u64,
    /// The first of the clients has wires that mutate bytes.
    pub(crate) mutating: bool,
    /// Calls with ids below this one are streams that stall on purpose, if they can.
    pub(crate) held: u64,
    /// Servers take streams.
    pub(crate) streams: bool,
    pub(crate) one_way_pending_max: u16,
    /// Servers that follow no protocol.
    pub(crate) impostors: usize,
    /// Set if the shards of a server have a mesh.
    pub(crate) mesh: Option<MeshPlan>,
}

/// A rate for this kind of trouble in this seed: mostly none.
fn rate(dice: &Dice, trouble: u32, most: u64) -> u32 {
    if !dice.chance(trouble) {
        return 0;
    }
    u32::try_from(dice.spread(most / 100, most)).unwrap_or(SURE)
}

fn count(dice: &Dice, trouble: u32, most: u64) -> u64 {
    if dice.chance(trouble) { dice.between(1, most) } else { 0 }
}

impl Plan {
    /// Whether calls that never end may have taken all that a connection or a shard may hold: a changed byte makes
    /// a call one-way, or removes its cancel, and the call keeps its place.
    pub(crate) fn may_be_full(&self) -> bool {
        self.mutating && self.has_little_room()
    }

    /// Whether few calls fill a connection or a shard: then requests wait for their room, and the cancels behind them
    /// wait, too.
    pub(crate) fn has_little_room(&self) -> bool {
        let Budgets { shard_calls_max, connection_bytes_max, .. } = self.budgets;
        shard_calls_max < 256 || connection_bytes_max < 64 * 1024
    }

    pub(crate) fn draw(dice: &Dice) -> Self {
        // Some seeds are calm, some vicious, most have a few kinds of trouble.
        let trouble = [0, 150_000, 300_000, 300_000, 600_000, 900_000][dice.below(6)];
        let timeouts = timeouts(dice);
        let span = dice.spread(5 * MS, 20 * SECOND);
        let limits = Limits {
            in_flight: in_flight(dice),
            frame_bytes: FrameBytes::MIN,
            stream_credit: stream_credit(dice),
            connection_credit: connection_credit(dice),
            ..Limits::default()
        };
        let held = if dice.chance(300_000) { dice.between(1, 2) } else { 0 };
        Self {
            servers: if dice.chance(300_000) { 2 } else { 1 },
            shards: 1 + dice.below(3),
            clients: 1 + dice.below(3),
            channels: 1 + dice.below(3),
            calls: dice.spread(8, 250),
            span,
            limits,
            timeouts,
            budgets: if held > 0 { roomy(budgets(dice, &limits)) } else { budgets(dice, &limits) },
            channel: channel(dice, limits, timeouts),
            drain_within: dice.spread(5 * MS, 30 * SECOND),
            rates: rates(dice, trouble),
            habits: habits(dice, trouble),
            pipe: dice.size(256, 256 * 1024),
            latency: (dice.spread(1_000, MS), dice.spread(1_000, 50 * MS)),
            turn: (200, dice.spread(1_000, MS)),
            shuffle: dice.chance(500_000),
            spin: if dice.chance(500_000) { 800_000 } else { 0 },
            drains: count(dice, trouble / 2 + 100_000, 4),
            troubles: count(dice, trouble, 6),
            freezes: count(dice, trouble / 2, 3),
            jumps: count(dice, trouble / 3, 2),
            hostile: usize::try_from(count(dice, trouble, 4)).unwrap_or(0),
            renewals: count(dice, trouble / 2, 4),
            mutating: dice.chance(trouble / 4),
            held,
            streams: !dice.chance(50_000),
            one_way_pending_max: u16::try_from(dice.spread(1, 16) - 1).unwrap_or(0),
            impostors: usize::try_from(count(dice, trouble / 3, 2)).unwrap_or(0),
            mesh: None,
        }
    }

    /// The same for servers whose shards have a mesh.
    pub(crate) fn meshed(self, dice: &Dice) -> Self {
        let mesh = MeshPlan::draw(dice);
        Self { shards: mesh.shards, mesh: Some(mesh), ..self }
    }

    /// A small world in which nothing goes wrong, for the written cases.
    pub(crate) fn calm() -> Self {
        let limits =
            Limits { in_flight: InFlight::MIN, frame_bytes: FrameBytes::MIN, ..Limits::default() };
        let timeouts = Timeouts { jitter_percent: 0, ..Timeouts::default() };
        Self {
            servers: 1,
            shards: 1,
            clients: 1,
            channels: 1,
            calls: 0,
            span: SECOND,
            limits,
            timeouts,
            budgets: Budgets::default(),
            channel: ChannelConfig {
                connection: ClientConfig { limits, timeouts, jitter_seed: 1 },
                ..ChannelConfig::default()
            },
            drain_within: SECOND,
            rates: Rates::default(),
            habits: Habits::default(),
            pipe: 256 * 1024,
            latency: (MS, MS),
            turn: (1_000, 1_000),
            shuffle: false,
            spin: 0,
            drains: 0,
            troubles: 0,
            freezes: 0,
            jumps: 0,
            hostile: 0,
            renewals: 0,
            mutating: false,
            held: 0,
            streams: true,
            one_way_pending_max: 4,
            impostors: 0,
            mesh: None,
        }
    }

    /// By when everything has ended that began before the trouble stopped, in ns.
    pub(crate) fn settle_within(&self) -> u64 {
        let timeouts = &self.timeouts;
        let waits = [
            timeouts.hello,
            timeouts.frame,
            timeouts.ping_after,
            timeouts.ping,
            timeouts.write,
            timeouts.age_grace,
            self.channel.connect_timeout,
            self.channel.backoff_max,
        ];
        let sum: Duration = waits.into_iter().sum();
        let sum = u64::try_from(sum.as_nanos()).unwrap_or(u64::MAX / 8);
        2 * sum + self.drain_within + 60 * SECOND
    }
}

fn in_flight(dice: &Dice) -> InFlight {
    let calls = dice.spread(16, 64);
    InFlight::new(u32::try_from(calls).unwrap_or(16)).unwrap_or(InFlight::MIN)
}

fn stream_credit(dice: &Dice) -> StreamCredit {
    let bytes = dice.spread(StreamCredit::MIN.get().into(), 128 * 1024);
    StreamCredit::new(u32::try_from(bytes).unwrap_or(0)).unwrap_or(StreamCredit::MIN)
}

fn connection_credit(dice: &Dice) -> ConnectionCredit {
    let bytes = dice.spread(ConnectionCredit::MIN.get().into(), 1024 * 1024);
    ConnectionCredit::new(u32::try_from(bytes).unwrap_or(0)).unwrap_or(ConnectionCredit::MIN)
}

fn timeouts(dice: &Dice) -> Timeouts {
    let ms = |least, most| Duration::from_millis(dice.spread(least, most));
    Timeouts {
        hello: ms(200, 5_000),
        frame: ms(300, 60_000),
        ping_after: ms(100, 60_000),
        ping: ms(200, 20_000),
        idle: dice.chance(200_000).then(|| ms(200, 20_000)),
        write: ms(300, 30_000),
        age: dice.chance(200_000).then(|| ms(200, 60_000)),
        age_grace: ms(50, 30_000),
        jitter_percent: u8::try_from(dice.below(101)).unwrap_or(0),
    }
}

fn budgets(dice: &Dice, limits: &Limits) -> Budgets {
    if dice.chance(300_000) {
        return Budgets::default();
    }
    Budgets {
        frames_per_turn: dice.size(1, 128),
        receives_per_turn: 1 + dice.below(4),
        receive_bytes: dice.size(4096, 65_536),
        unsent_bytes_max: dice.size(64, 1 << 20),
        send_bytes_per_turn: dice.size(64, 1 << 20),
        shard_bytes_per_turn: dice.size(4096, 1 << 20),
        shard_frames_per_turn: dice.size(1, 512),
        accepts_per_turn: if dice.chance(500_000) { 1 } else { dice.size(1, 64) },
        call_bytes: dice.size(1, 4096),
        connection_bytes_max: dice.size(1, 1 << 20),
        shard_bytes_max: limits.frame_bytes.get() as usize + dice.size(64, 1 << 20),
        shard_calls_max: dice.size(1, 1024),
        refuse_after: Duration::from_millis(dice.spread(1, 500)),
        stalled_for: Duration::from_millis(dice.spread(1_000, 60_000)),
        queue_delay: dice.chance(300_000).then(|| {
            let target = Duration::from_micros(dice.spread(100, 20_000));
            QueueDelay { target, interval: target * u32::try_from(1 + dice.below(20)).unwrap_or(1) }
        }),
    }
}

/// Budgets under which a few calls that stall leave room for others.
fn roomy(budgets: Budgets) -> Budgets {
    Budgets {
        connection_bytes_max: budgets.connection_bytes_max.max(1 << 20),
        shard_bytes_max: budgets.shard_bytes_max.max(2 << 20),
        shard_calls_max: budgets.shard_calls_max.max(64),
        ..budgets
    }
}

fn channel(dice: &Dice, limits: Limits, timeouts: Timeouts) -> ChannelConfig {
    let ms = |least, most| Duration::from_millis(dice.spread(least, most));
    ChannelConfig {
        connection: ClientConfig { limits, timeouts, jitter_seed: dice.word() },
        connect_timeout: ms(150, 3_000),
        backoff_min: ms(1, 50),
        backoff_max: ms(50, 5_000),
        waiting_max: if dice.chance(200_000) { dice.size(1, 16) } else { 65_536 },
        unsent_max: if dice.chance(500_000) { dice.size(1, 65_536) - 1 } else { 1 << 20 },
        ..ChannelConfig::default()
    }
}

fn rates(dice: &Dice, trouble: u32) -> Rates {
    let accept = rate(dice, trouble, 400_000);
    Rates {
        cut: rate(dice, trouble, 900_000),
        short_send: rate(dice, trouble, 500_000),
        stall: rate(dice, trouble, 50_000),
        reset: rate(dice, trouble, 20_000),
        silence: rate(dice, trouble / 2, 10_000),
        slow: rate(dice, trouble, 300_000),
        mutate: rate(dice, SURE, 200_000),
        accept,
        // A client that waits for longer gives up more often.
        abort: accept.max(rate(dice, trouble, 600_000)),
        connect: rate(dice, trouble, 300_000),
        freeze: rate(dice, trouble / 2, 10_000),
    }
}

fn habits(dice: &Dice, trouble: u32) -> Habits {
    Habits {
        deadline: rate(dice, 700_000, 900_000),
        give_up: rate(dice, 500_000, 500_000),
        give_up_woken: rate(dice, 500_000, 200_000),
        large: rate(dice, 300_000, 200_000),
        pending: rate(dice, 800_000, 900_000),
        troubled: rate(dice, trouble, 300_000),
        foreign: rate(dice, 500_000, SURE.into()),
        unsendable: rate(dice, trouble, 50_000),
        one_way: rate(dice, 500_000, 500_000),
        stream: rate(dice, 600_000, 700_000),
        hops: rate(dice, 300_000, 700_000),
    }
}
