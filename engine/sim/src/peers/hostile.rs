//! Peers that follow no protocol, or follow it only to break it later.

use std::io::IoSlice;
use std::rc::Rc;

use corewire_codec::{
    CancelReason, Hello, HelloRecords, MethodId, ReplyHead, RequestHead, Role, SendBuffer, VERSION,
};

use crate::core::{Core, Event};
use crate::net::Net;
use crate::plan::MS;
use crate::plan::message::{Ask, BEHAVIOURS};
use crate::plan::script::Script;

/// Ids of calls that none of our clients made begin here.
const STRANGE_IDS: u64 = 1 << 40;

/// One hostile peer: one connection at a time, each with its own bytes to send.
#[derive(Debug, Default)]
pub(crate) struct Hostile {
    wire: Option<usize>,
    words: Vec<u8>,
    said: usize,
    /// Bytes that it sends at once.
    step: usize,
    /// Whether it reads what it receives.
    reads: bool,
    /// What it does when it has sent everything: ends its direction, leaves, or stays.
    finish: usize,
    calls: u64,
}

impl Hostile {
    /// Does a little, and plans to go on.
    pub(crate) fn act(&mut self, peer: usize, core: &Rc<Core>, net: &Net) {
        if !core.faulty.get() {
            self.leave(net, core);
            return;
        }
        core.after(core.dice.spread(10_000, 50 * MS), Event::Hostile { peer });
        let Some(wire) = self.wire else {
            self.wire = Some(net.connect(core.dice.below(core.plan.servers), false));
            self.words = words(core, peer as u64, &mut self.calls);
            self.said = 0;
            self.step = core.dice.size(1, 65_536);
            self.reads = core.dice.chance(500_000);
            self.finish = core.dice.below(4);
            return;
        };
        if self.reads {
            let mut sink = Vec::new();
            // What comes is of no interest, nor whether the other side has gone.
            let _ = net.recv(wire, 0, &mut sink, 16 * 1024);
        }
        let rest = &self.words[self.said..];
        if rest.is_empty() {
            match self.finish {
                0 => net.shutdown_write(wire, 0),
                1 => self.leave(net, core),
                _ => {}
            }
            if core.dice.chance(100_000) {
                self.leave(net, core);
            }
            return;
        }
        let part = &rest[..rest.len().min(self.step)];
        match net.send(wire, 0, &[IoSlice::new(part)]) {
            Ok(count) => self.said += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.leave(net, core),
        }
    }

    /// Leaves, or stays silent for as long as it is let.
    fn leave(&mut self, net: &Net, core: &Core) {
        if let Some(wire) = self.wire.take()
            && core.dice.chance(700_000)
        {
            net.close(wire, 0);
        }
    }
}

fn hello(out: &mut SendBuffer, core: &Core) {
    let mut records = HelloRecords { limits: core.plan.limits, ..HelloRecords::default() };
    if core.dice.chance(100_000) {
        records.codecs = 0xffff;
    }
    let version = if core.dice.chance(30_000) { 9 } else { VERSION };
    let role = if core.dice.chance(30_000) { Role::Server } else { Role::Client };
    out.hello(&Hello { version, role, records });
}

fn request(out: &mut SendBuffer, core: &Core, call: u32, id: u64) {
    let dice = &core.dice;
    let ask = Ask {
        behaviour: BEHAVIOURS[dice.below(BEHAVIOURS.len())],
        delay_us: u32::try_from(dice.spread(1, 500_000)).unwrap_or(1),
        reply_bytes: u32::try_from(dice.spread(1, 60_000)).unwrap_or(1),
        script: Script::draw(core),
        ..Ask::plain(id)
    };
    let mut head = RequestHead::new(call, MethodId(1));
    if dice.chance(300_000) {
        head.timeout_us = Some(dice.spread(1, 1_000_000) - 1);
    }
    if dice.chance(30_000) {
        head.flags = dice.byte() & 0x07;
    }
    let mut frame = out.request(&head, None);
    frame.put_slice(&ask.body(dice.below(64)));
    // It is far below the limit.
    let _ = frame.finish(u32::MAX);
}

/// What a hostile peer will send on one connection.
fn words(core: &Core, peer: u64, calls: &mut u64) -> Vec<u8> {
    let dice = &core.dice;
    let noise = |count: usize| (0..count).map(|_| dice.byte()).collect::<Vec<u8>>();
    let mut out = SendBuffer::new();
    match dice.below(12) {
        0 => return noise(dice.size(1, 4096)),
        // Half a hello, or nothing.
        1 => {
            hello(&mut out, core);
            let whole = out.first_chunk();
            return whole[..dice.below(whole.len())].to_vec();
        }
        _ => hello(&mut out, core),
    }
    let in_flight = u64::from(core.plan.limits.in_flight.get());
    // Mostly within the granted slots, sometimes just past them.
    let slots = if dice.chance(200_000) { in_flight + 1 } else { in_flight };
    let frames = dice.spread(1, 200);
    let kind = dice.below(8);
    for number in 0..frames {
        *calls += 1;
        let id = STRANGE_IDS + (peer << 24) + *calls;
        // Slots in order keep the rules for a while, drawn slots do not.
        let slot = if kind < 4 { number % slots } else { dice.between(0, slots - 1) };
        let call = u32::try_from(slot).unwrap_or(0) | (u32::from(dice.byte()) << 16);
        match kind {
            0 | 4 => request(&mut out, core, call, id),
            1 | 5 => {
                request(&mut out, core, call, id);
                if dice.chance(700_000) {
                    out.cancel(call, CancelReason::Dropped);
                }
            }
            2 => out.ping(dice.word()),
            3 if dice.chance(20_000) => out.pong(dice.word()),
            6 if dice.chance(50_000) => {
                let _ = out.reply(&ReplyHead::ok(call), None).finish(u32::MAX);
            }
            7 if dice.chance(20_000) => {
                // A frame that is announced but never comes.
                let mut frame = out.request(&RequestHead::new(call, MethodId(1)), None);
                frame.put_slice(&noise(60_000));
                let _ = frame.finish(u32::MAX);
                let mut words = out.first_chunk().to_vec();
                words.truncate(words.len() - dice.below(59_000) - 1);
                return words;
            }
            _ => request(&mut out, core, call, id),
        }
    }
    let mut words = out.first_chunk().to_vec();
    if dice.chance(300_000) {
        for _ in 0..dice.spread(1, 8) {
            let at = dice.below(words.len());
            words[at] ^= dice.byte();
        }
    }
    words
}
