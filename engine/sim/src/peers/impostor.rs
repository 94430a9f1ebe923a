//! Servers that follow no protocol, or follow it only to break it later.

use std::io::IoSlice;
use std::rc::Rc;

use corewire_codec::{
    CodecId, Credit, Encoding, Forwarded, GoAway, Head, Hello, HelloRecords, RecvBuffer, ReplyHead,
    Role, SendBuffer, Status, StatusCode, StreamData, VERSION, reply_flags,
};

use crate::core::{Core, Event};
use crate::net::Net;
use crate::plan::MS;

/// Bytes that an impostor reads at once.
const READ_BYTES: usize = 16 * 1024;

/// Frames of a client that are larger than this make an impostor stop listening to it.
const FRAME_BYTES_MAX: u32 = 1 << 30;

/// What an impostor does on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Says anything.
    Noise,
    /// Says a part of a hello, or nothing.
    Half,
    /// Says hello and then nothing, and may or may not read.
    Mute,
    /// Answers most calls well, and some twice, late, or never.
    Sloppy,
    /// Answers calls that were not made.
    Strange,
    /// Streams what it may not: without credit, after the end, without a stream.
    Flood,
    /// Grants credit that nobody needs.
    Grants,
    /// Sends go-away more than once, with any count and rule.
    Leaves,
    /// Pings without end.
    Pings,
    /// Ends streaming calls in ways that do not fit.
    Ends,
}

const MANNERS: [Manner; 10] = [
    Manner::Noise,
    Manner::Half,
    Manner::Mute,
    Manner::Sloppy,
    Manner::Strange,
    Manner::Flood,
    Manner::Grants,
    Manner::Leaves,
    Manner::Pings,
    Manner::Ends,
];

#[derive(Debug)]
struct Conversation {
    wire: usize,
    manner: Manner,
    reads: bool,
    mutates: bool,
    input: RecvBuffer,
    /// The client's hello was read.
    greeted: bool,
    /// Calls that it has received, as they are on the wire.
    calls: Vec<u32>,
    /// Frames under construction.
    out: SendBuffer,
    /// What waits to be sent.
    words: Vec<u8>,
    /// It no longer listens to the client, whose frames cannot be told apart from here on.
    deaf: bool,
}

/// One such server: it accepts every connection, and treats each in its own way.
#[derive(Debug)]
pub(crate) struct Impostor {
    listener: Option<usize>,
    talks: Vec<Conversation>,
}

impl Impostor {
    pub(crate) fn new(net: &Net, address: usize) -> Self {
        let listener = net.listen(address, 0);
        Self { listener: Some(listener), talks: Vec::new() }
    }

    /// Does a little, and plans to go on until the trouble is over.
    pub(crate) fn act(&mut self, peer: usize, core: &Rc<Core>, net: &Net) {
        let Some(listener) = self.listener else { return };
        if !core.faulty.get() {
            // It leaves, and nobody can connect any more.
            net.retire(listener);
            self.listener = None;
            self.talks.drain(..).for_each(|talk| net.close(talk.wire, 1));
            return;
        }
        core.after(core.dice.spread(10_000, 30 * MS), Event::Impostor { peer });
        while let Ok(wire) = net.accept(listener) {
            self.talks.push(Conversation::new(wire, core));
        }
        for talk in &mut self.talks {
            talk.act(core, net);
        }
        let leaves = |talk: &mut Conversation| !talk.deaf && !core.dice.chance(20_000);
        let (stay, go): (Vec<_>, Vec<_>) = self
            .talks
            .drain(..)
            .map(|mut talk| (leaves(&mut talk), talk))
            .partition(|(stays, _)| *stays);
        self.talks = stay.into_iter().map(|(_, talk)| talk).collect();
        for (_, talk) in go {
            net.close(talk.wire, 1);
        }
    }
}

impl Conversation {
    fn new(wire: usize, core: &Core) -> Self {
        let dice = &core.dice;
        let manner = MANNERS[dice.below(MANNERS.len())];
        let mut talk = Self {
            wire,
            manner,
            reads: dice.chance(700_000),
            mutates: dice.chance(100_000),
            input: RecvBuffer::new(),
            greeted: false,
            calls: Vec::new(),
            out: SendBuffer::new(),
            words: Vec::new(),
            deaf: false,
        };
        if !matches!(manner, Manner::Noise | Manner::Half) {
            talk.greet(core);
        } else if manner == Manner::Half {
            talk.greet(core);
            let kept = dice.below(talk.out.len());
            talk.words = talk.out.first_chunk()[..kept].to_vec();
            talk.out.clear();
        }
        talk
    }

    fn greet(&mut self, core: &Core) {
        let dice = &core.dice;
        let mut records = HelloRecords {
            limits: core.plan.limits,
            shard: Some((0, 1)),
            connection_id: Some(dice.word()),
            ..HelloRecords::default()
        };
        if dice.chance(300_000) {
            records.limits = corewire_codec::Limits::EARLY;
        }
        let version = if dice.chance(50_000) { 9 } else { VERSION };
        let role = if dice.chance(50_000) { Role::Client } else { Role::Server };
        self.out.hello(&Hello { version, role, records });
    }

    fn act(&mut self, core: &Core, net: &Net) {
        if self.reads {
            let mut heard = Vec::new();
            match net.recv(self.wire, 1, &mut heard, READ_BYTES) {
                Ok(0) => self.deaf = true,
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => self.deaf = true,
                _ => self.input.extend_from_slice(&heard),
            }
            self.listen();
        }
        if self.words.len() < 64 * 1024 {
            self.speak(core);
        }
        self.send(core, net);
    }

    /// Notes which calls there are.
    fn listen(&mut self) {
        if !self.greeted {
            self.greeted = matches!(self.input.next_hello(), Ok(Some(_)));
        }
        while self.greeted {
            match self.input.next_frame(FRAME_BYTES_MAX) {
                Ok(Some(frame)) => match frame.head {
                    Head::Request(request) => self.calls.push(request.call),
                    Head::Ping(opaque) => self.out.pong(opaque),
                    _ => {}
                },
                Ok(None) => return,
                Err(_) => {
                    self.greeted = false;
                    self.reads = false;
                }
            }
        }
    }

    /// A call that was made, or perhaps one that was not.
    fn pick(&mut self, core: &Core, made: u32) -> u32 {
        let dice = &core.dice;
        if !self.calls.is_empty() && dice.chance(made) {
            let at = dice.below(self.calls.len());
            return if dice.chance(800_000) { self.calls.swap_remove(at) } else { self.calls[at] };
        }
        u32::try_from(dice.between(0, 40)).unwrap_or(0) | (u32::from(dice.byte() & 3) << 16)
    }

    fn speak(&mut self, core: &Core) {
        let dice = &core.dice;
        let frames = 1 + dice.below(6);
        for _ in 0..frames {
            match self.manner {
                Manner::Half | Manner::Mute => {}
                Manner::Noise => {
                    self.words.extend((0..dice.size(1, 512)).map(|_| dice.byte()));
                }
                Manner::Sloppy if self.calls.is_empty() => {}
                Manner::Sloppy => self.reply(core, 1_000_000),
                Manner::Strange if dice.chance(100_000) => self.reply(core, 700_000),
                Manner::Flood => self.stream(core),
                Manner::Grants => self.grant(core),
                Manner::Leaves if dice.chance(50_000) => self.leave(core),
                Manner::Pings => (0..100).for_each(|_| self.out.ping(dice.word())),
                Manner::Ends if !self.calls.is_empty() => self.end(core),
                Manner::Strange | Manner::Leaves | Manner::Ends => self.reply_well(core),
            }
        }
    }

    /// Answers a call that was made, if there is one.
    fn reply_well(&mut self, core: &Core) {
        if !self.calls.is_empty() && core.dice.chance(300_000) {
            self.reply(core, 1_000_000);
        }
    }

    fn reply(&mut self, core: &Core, made: u32) {
        let call = self.pick(core, made);
        let dice = &core.dice;
        let codes = [StatusCode::Ok, StatusCode::Internal, StatusCode::Unavailable];
        let mut head = ReplyHead { code: codes[dice.below(3)], ..ReplyHead::ok(call) };
        if dice.chance(100_000) {
            head.flags = reply_flags::REFUSED;
        }
        if dice.chance(50_000) {
            head.flags = reply_flags::STREAM;
        }
        let bytes = dice.size(1, 2_000);
        if bytes.is_multiple_of(8) {
            head.forwarded = Forwarded::new(0, 2);
        }
        let mut frame = self.out.reply(&head, None);
        frame.put_slice(&vec![7; bytes]);
        // It is far below any limit.
        let _ = frame.finish(u32::MAX);
    }

    fn stream(&mut self, core: &Core) {
        let call = self.pick(core, 950_000);
        // The stream goes on.
        self.calls.push(call);
        let dice = &core.dice;
        let data =
            StreamData { call, encoding: Encoding::plain(CodecId::RAW), end: dice.chance(5_000) };
        let mut frame = self.out.stream_data(&data);
        frame.put_slice(&vec![9; dice.size(1, 20_000)]);
        let _ = frame.finish(u32::MAX);
    }

    fn grant(&mut self, core: &Core) {
        let call = self.pick(core, 800_000);
        self.calls.push(call);
        let dice = &core.dice;
        let bytes = u32::try_from(dice.spread(1, 1 << 30) - dice.between(0, 1)).unwrap_or(1);
        let call = dice.chance(500_000).then_some(call);
        self.out.credit(&Credit { call, bytes });
    }

    fn leave(&mut self, core: &Core) {
        let dice = &core.dice;
        let accepted = u32::try_from(dice.between(0, 20)).unwrap_or(0);
        let rule = if dice.chance(700_000) { 0 } else { u32::from(dice.byte()) };
        self.out.go_away(&GoAway { accepted, rule }, "somewhere else");
    }

    fn end(&mut self, core: &Core) {
        let call = self.pick(core, 1_000_000);
        let dice = &core.dice;
        if dice.chance(300_000) {
            self.calls.push(call);
        }
        let failure = dice.chance(500_000).then(|| Status::aborted("for no reason"));
        let frame = core.plan.limits.frame_bytes.get();
        match dice.below(3) {
            0 => self.out.stream_end(call, failure.as_ref(), None, frame, 1024),
            1 => self.stream(core),
            _ => self.reply(core, 1_000_000),
        }
    }

    fn send(&mut self, core: &Core, net: &Net) {
        let mut fresh = Vec::with_capacity(self.out.len());
        while !self.out.is_empty() {
            let chunk = self.out.first_chunk();
            let count = chunk.len();
            fresh.extend_from_slice(chunk);
            self.out.advance(count);
        }
        if self.mutates && !fresh.is_empty() && core.dice.chance(50_000) {
            let at = core.dice.below(fresh.len());
            fresh[at] ^= core.dice.byte() | 1;
        }
        self.words.append(&mut fresh);
        while !self.words.is_empty() {
            match net.send(self.wire, 1, &[IoSlice::new(&self.words)]) {
                Ok(count) => drop(self.words.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.deaf = true;
                    self.words.clear();
                }
            }
        }
    }
}
