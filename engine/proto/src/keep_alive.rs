//! What both sides of a connection do alike: watching for silence.
//!
//! A process may be stopped, or a handler may keep its shard's thread. Its clocks go on, and it sees nothing. So it
//! reads before it judges: a connection that is due is received from first. And while a clock runs against a peer, the
//! connection is looked at at least every second; if a gap between two looks is longer, the excess is not counted.
//! Deadlines of calls are not put off.

use std::time::{Duration, Instant};

use corewire_codec::{RecvBuffer, Rule, SendBuffer};

use crate::config::Timeouts;
use crate::jitter::lead;

/// Pongs that may wait to be sent; further pings are not answered meanwhile. A peer that keeps to REQ-57
/// never has that many pings outstanding, and one that reads nothing must not fill our memory with
/// pongs.
const PONGS_MAX: u8 = 16;

/// Once the peer has taken nothing for this long, the waiting requests are updated with the time that is
/// left.
const STALL: Duration = Duration::from_millis(1);

/// What is awaited from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Hello,
    Frames,
    /// It has ended its sending side.
    Nothing,
}

/// How much of a peer's time passes between two looks at the connection, at most. A side that looks
/// later was away: stopped, or kept busy by a handler. What the peer did meanwhile could not be seen.
const GLANCE_MAX: Duration = Duration::from_secs(1);
const GLANCE_MIN: Duration = Duration::from_millis(1);

/// The clocks of one connection. Each is `None` while nothing of its kind is awaited.
///
/// The clocks that run against the peer (`whole_by`, `ping`, `blocked`) are looked at every
/// [`glance`] while one of them runs, so that an absence of this side shows, however long the
/// timeouts are.
#[derive(Clone, Debug)]
pub(crate) struct KeepAlive {
    /// When the clocks were looked at last, or the first of those that run began.
    looked: Instant,
    /// More arrived than was read: what the peer owes may be in it.
    unread: bool,
    /// `unread` was set at the last look, so few clocks were judged then.
    put_off: bool,
    /// When the last byte came.
    heard: Instant,
    /// When the connection last did something other than ping.
    active: Instant,
    /// A call ended since the last known time: idleness begins at the next known time.
    call_ended: bool,
    awaited: Awaited,
    /// Whether the connection reached its age; `age_by` is then the end of its grace.
    aged: bool,
    /// Pings that were answered since everything was last written.
    pongs: u8,
    /// By how many ms this connection pings earlier than others.
    ping_lead_ms: u32,
    /// Until the hello came: it must be there by then. Afterwards: the frame whose first bytes are
    /// here must be whole by then. After the peer has ended its side: later replies are not waited
    /// for.
    whole_by: Option<Instant>,
    /// Since when the ping waits for its pong; its value is `pings`. A ping that was sent early gets
    /// some more time: then this lies in the future.
    ping: Option<Instant>,
    pings: u32,
    /// The number of bytes of the partial frame that is here, folded.
    rest: [u8; 2],
    /// Since when the peer has taken nothing.
    blocked: Option<Instant>,
    /// When the connection reaches its maximum age; servers only.
    age_by: Option<Instant>,
}

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing to do, or a ping was sent.
    Nothing,
    /// The connection reached its age: it goes away now.
    Aged,
    /// The grace after its age is over.
    GraceOver,
}

impl KeepAlive {
    /// `random` spreads the connection's times.
    pub(crate) fn new(timeouts: &Timeouts, random: u64, now: Instant) -> Self {
        let ping_lead = lead(timeouts.ping_after, timeouts.jitter_percent, random);
        Self {
            looked: now,
            unread: false,
            put_off: false,
            heard: now,
            active: now,
            call_ended: false,
            awaited: Awaited::Hello,
            aged: false,
            pongs: 0,
            ping_lead_ms: u32::try_from(ping_lead.as_millis()).unwrap_or(u32::MAX),
            whole_by: now.checked_add(timeouts.hello),
            ping: None,
            pings: 0,
            rest: [0; 2],
            blocked: None,
            age_by: None,
        }
    }

    /// Gives a server's connection its age.
    pub(crate) fn with_age(mut self, timeouts: &Timeouts, random: u64, now: Instant) -> Self {
        self.age_by = timeouts.age.and_then(|age| {
            // Another part of the number than the pings use.
            let lead = lead(age, timeouts.jitter_percent, random.rotate_left(32));
            now.checked_add(age.saturating_sub(lead))
        });
        self
    }

    /// The connection goes away for another reason, which has a deadline of its own.
    pub(crate) fn forget_age(&mut self) {
        self.age_by = None;
    }

    /// The peer's hello came. What follows it starts a clock of its own.
    pub(crate) fn handle_hello(&mut self, now: Instant) {
        self.awaited = Awaited::Frames;
        self.whole_by = None;
        self.heard = now;
        self.active = now;
    }

    /// A whole frame came.
    #[inline]
    pub(crate) fn handle_frame(&mut self, now: Instant) {
        self.heard = now;
        self.whole_by = None;
    }

    /// Bytes came that are not looked at.
    pub(crate) fn handle_alive(&mut self, now: Instant) {
        self.heard = now;
    }

    #[inline]
    pub(crate) fn handle_activity(&mut self, now: Instant) {
        self.active = now;
    }

    /// A call ended, at a time that is not given here.
    #[inline]
    pub(crate) fn handle_call_end(&mut self) {
        self.call_ended = true;
    }

    #[inline]
    fn handle_now(&mut self, now: Instant) {
        if self.call_ended {
            self.call_ended = false;
            self.active = now;
        }
    }

    /// No whole frame is left; part of one may be.
    #[inline]
    pub(crate) fn handle_rest(&mut self, recv: &RecvBuffer, timeouts: &Timeouts, now: Instant) {
        self.handle_now(now);
        if !recv.is_empty() {
            self.handle_partial(recv.len(), now);
        }
        // Until the hello is complete its own clock runs, whatever part of it came.
        if self.awaited == Awaited::Frames {
            if recv.is_empty() {
                self.whole_by = None;
            } else if self.whole_by.is_none() {
                self.begin_clock(now);
                self.whole_by = now.checked_add(timeouts.frame);
            }
        }
    }

    /// So much of a frame is here. If it is as much as before, nothing came.
    #[cold]
    fn handle_partial(&mut self, bytes: usize, now: Instant) {
        let [a, b, c, d, ..] = bytes.to_le_bytes();
        let rest = [a ^ c, b ^ d];
        if self.whole_by.is_none() || rest != self.rest {
            self.rest = rest;
            self.heard = now;
        }
    }

    /// A clock begins to run against the peer. If others are running, they depend on the time of the last
    /// look, which stays.
    #[inline]
    fn begin_clock(&mut self, now: Instant) {
        if self.is_quiet() {
            self.looked = now;
        }
    }

    /// More arrived than was read. The next [`handle_timeout`](Self::handle_timeout) does not judge
    /// the clocks that the unread bytes may stop.
    pub(crate) fn handle_unread(&mut self) {
        self.unread = true;
    }

    /// Nothing is read for a while, so the rest of a partial frame may have arrived unnoticed, and signs of life.
    pub(crate) fn handle_pause(&mut self, now: Instant) {
        self.heard = now;
        if self.awaited == Awaited::Frames {
            self.whole_by = None;
        }
    }

    /// A ping came; answers it, unless too many answers wait already.
    pub(crate) fn handle_ping(&mut self, opaque: u64, out: &mut SendBuffer) {
        if self.pongs < PONGS_MAX {
            self.pongs += 1;
            out.pong(opaque);
        }
    }

    pub(crate) fn handle_pong(&mut self, opaque: u64) -> Result<(), Rule> {
        match self.ping.take() {
            Some(_) if u64::from(self.pings) == opaque => Ok(()),
            _ => Err(Rule::UnexpectedPong),
        }
    }

    /// Whether a ping waits for its pong and nothing was heard since it was sent.
    pub(crate) fn awaits_pong(&self) -> bool {
        self.ping.is_some_and(|sent| self.heard <= sent)
    }

    /// Whether no clock runs but those that every sign of life moves later.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.awaited == Awaited::Frames
            && self.whole_by.is_none()
            && self.blocked.is_none()
            && self.ping.is_none()
    }

    /// The peer has ended its sending side: nothing that it owes can come any more. Its calls must be
    /// answered within the write timeout.
    pub(crate) fn handle_finish(&mut self, timeouts: &Timeouts, now: Instant) {
        self.begin_clock(now);
        self.awaited = Awaited::Nothing;
        self.ping = None;
        self.whole_by = now.checked_add(timeouts.write);
    }

    #[inline]
    pub(crate) fn is_half_closed(&self) -> bool {
        self.awaited == Awaited::Nothing
    }

    /// Sends a ping that cannot be answered: a transport whose other end is gone then reports it.
    pub(crate) fn probe(&mut self, out: &mut SendBuffer) {
        self.pings = self.pings.wrapping_add(1);
        out.ping(u64::from(self.pings));
    }

    /// Whether the time after the end of the peer's side has just run out; true once.
    pub(crate) fn poll_finish(&mut self, now: Instant) -> bool {
        let over = self.is_half_closed() && self.whole_by.is_some_and(|by| by <= now);
        if over {
            self.whole_by = None;
        }
        over
    }

    /// A call was not answered in time. If nothing at all is heard, the peer may be gone: it is pinged
    /// now, and has half as long to answer as it would have to break its silence.
    pub(crate) fn handle_doubt(&mut self, timeouts: &Timeouts, out: &mut SendBuffer, now: Instant) {
        let silent = now.saturating_duration_since(self.heard) >= GLANCE_MAX;
        let asks = silent && self.awaited == Awaited::Frames && self.ping.is_none();
        if !asks || self.blocked.is_some() {
            return;
        }
        let usual = self.heard.checked_add(timeouts.ping_after).unwrap_or(now);
        let most = now.checked_add(timeouts.ping_after.saturating_sub(timeouts.ping) / 2);
        self.begin_clock(now);
        self.probe(out);
        self.ping = Some(most.map_or(now, |most| most.min(usual.max(now))));
    }

    /// Whether bytes are waiting that the socket did not take.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The peer's side has taken something of what the socket had taken before. That is progress, too.
    pub(crate) fn handle_acknowledged(&mut self, now: Instant) {
        if self.blocked.is_some() {
            self.blocked = Some(now);
            self.heard = now;
        }
    }

    /// What was written, and whether something is left. Progress restarts the clock.
    #[inline]
    pub(crate) fn handle_write(&mut self, progress: bool, blocked: bool, now: Instant) {
        self.handle_now(now);
        if !blocked {
            self.blocked = None;
            self.pongs = 0;
        } else if progress || self.blocked.is_none() {
            self.begin_clock(now);
            self.blocked = Some(now);
            // Its silence counts from when it has caught up.
            self.heard = now;
        }
    }

    /// The socket took all that it was given, though more is left: it may take more. That says nothing about the peer,
    /// whose side of the socket may have room while it is gone.
    #[inline]
    pub(crate) fn handle_part_written(&mut self, now: Instant) {
        self.handle_now(now);
        self.blocked = None;
    }

    /// Whether the peer has taken nothing for so long that the waiting requests overstate the time that is
    /// left.
    #[inline]
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.blocked.is_some_and(|since| now.saturating_duration_since(since) >= STALL)
    }

    /// Everything that was waiting to be written was taken back.
    pub(crate) fn handle_emptied(&mut self) {
        self.blocked = None;
        self.pongs = 0;
    }

    /// When the connection has been idle for too long.
    fn idle_by(&self, timeouts: &Timeouts, busy: bool) -> Option<Instant> {
        timeouts
            .idle
            .filter(|_| !busy && self.awaited != Awaited::Nothing)
            .and_then(|idle| self.active.checked_add(idle))
    }

    /// When the peer has taken nothing for too long.
    fn write_by(&self, timeouts: &Timeouts) -> Option<Instant> {
        self.blocked.and_then(|since| since.checked_add(timeouts.write))
    }

    /// When to ping, or when the pong to a ping must be here. Nobody is pinged before its hello.
    fn ping_by(&self, timeouts: &Timeouts) -> Option<Instant> {
        // A peer that is busy reading what is waiting for it cannot answer yet; the write timeout watches.
        if self.blocked.is_some() || self.awaited == Awaited::Nothing {
            return None;
        }
        match self.ping {
            Some(sent) => sent.checked_add(timeouts.ping),
            None if self.awaited == Awaited::Frames => {
                let lead = Duration::from_millis(u64::from(self.ping_lead_ms));
                self.heard.checked_add(timeouts.ping_after).and_then(|by| by.checked_sub(lead))
            }
            None => None,
        }
    }

    /// The next time at which [`handle_timeout`](Self::handle_timeout) has something to do. A time
    /// beyond the clock's range is never.
    pub(crate) fn poll_timeout(&self, timeouts: &Timeouts, busy: bool) -> Option<Instant> {
        let glance = glance(timeouts);
        // A look shortly before the end of idleness distinguishes this side's absence from the peer's.
        let idle_by = self
            .idle_by(timeouts, busy)
            .map(|by| by.checked_sub(glance).filter(|look| *look > self.looked).unwrap_or(by));
        let (write_by, ping_by) = (self.write_by(timeouts), self.ping_by(timeouts));
        let look = self.looked.checked_add(glance);
        let mut owed = [self.whole_by, idle_by, ping_by].into_iter().flatten().min();
        // Unread bytes cannot stop the clock of a peer that has ended its side.
        if self.put_off && self.awaited != Awaited::Nothing {
            // Do not look again at once: it may be this side that does not read.
            owed = owed.max(look.filter(|_| owed.is_some()));
        }
        let first = [owed, write_by, self.age_by].into_iter().flatten().min()?;
        if self.is_quiet() {
            return Some(first);
        }
        Some(look.map_or(first, |look| look.min(first)))
    }

    /// This side has just looked at the connection. If it was away since the last look, the peer's time
    /// stood still meanwhile.
    fn handle_look(&mut self, timeouts: &Timeouts, busy: bool, now: Instant) {
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        let glance = glance(timeouts);
        if crate::canary::is_planted(crate::canary::Bug::CountedAbsence) {
            return;
        }
        if gap <= 2 * glance {
            return;
        }
        if !self.is_quiet() {
            self.handle_away(gap - glance, timeouts, now);
        }
        // A peer that was idle meanwhile, or was answered late because a handler kept the thread, may
        // still call.
        if let Some(idle) = timeouts.idle
            && self.idle_by(timeouts, busy).is_some_and(|by| by <= now)
        {
            self.active = (now + glance).checked_sub(idle).unwrap_or(now);
        }
    }

    /// Gives the peer extra time for as long as this side was away.
    #[cold]
    fn handle_away(&mut self, by: Duration, timeouts: &Timeouts, now: Instant) {
        // What was heard since the ping shows that the peer was there then.
        self.ping = self.ping.map(|sent| sent.max(self.heard));
        // A clock that began meanwhile, when this side read what had come, gets its whole time.
        let shift = |since: Option<Instant>| {
            let since = since?;
            Some(since.checked_add(by).unwrap_or(now).min(now.max(since)))
        };
        (self.ping, self.blocked) = (shift(self.ping), shift(self.blocked));
        let whole = match self.awaited {
            Awaited::Hello => timeouts.hello,
            Awaited::Frames => timeouts.frame,
            Awaited::Nothing => timeouts.write,
        };
        let most = now.checked_add(whole);
        self.whole_by =
            self.whole_by.and_then(|at| [at.checked_add(by), most].into_iter().flatten().min());
    }

    /// Sends a ping when it is time, or returns the rule by which the connection must end. What arrived
    /// must have been read before, or be [said](Self::handle_unread) to be unread.
    pub(crate) fn handle_timeout(
        &mut self,
        timeouts: &Timeouts,
        busy: bool,
        out: &mut SendBuffer,
        now: Instant,
    ) -> Result<Due, Rule> {
        self.handle_now(now);
        self.handle_look(timeouts, busy, now);
        let over = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        if over(self.write_by(timeouts)) {
            return Err(Rule::WriteTimeout);
        }
        self.put_off = core::mem::take(&mut self.unread);
        if !self.put_off {
            match self.awaited {
                Awaited::Hello if over(self.whole_by) => return Err(Rule::HelloTimeout),
                Awaited::Frames if over(self.whole_by) => return Err(Rule::FrameTimeout),
                Awaited::Hello | Awaited::Frames | Awaited::Nothing => {}
            }
            if over(self.idle_by(timeouts, busy)) {
                return Err(Rule::IdleTimeout);
            }
            if over(self.ping_by(timeouts)) {
                self.handle_silence(out, now)?;
            }
        }
        if !over(self.age_by) {
            return Ok(Due::Nothing);
        }
        if core::mem::replace(&mut self.aged, true) {
            self.age_by = None;
            return Ok(Due::GraceOver);
        }
        self.age_by = now.checked_add(timeouts.age_grace);
        Ok(Due::Aged)
    }

    /// It is time to ping, or time for the pong to a ping.
    fn handle_silence(&mut self, out: &mut SendBuffer, now: Instant) -> Result<(), Rule> {
        match self.ping {
            // Anything that was heard since the ping shows that the peer is there.
            Some(sent) if self.heard > sent => self.ping = Some(self.heard),
            Some(_) => return Err(Rule::PingTimeout),
            None => {
                self.probe(out);
                self.ping = Some(now);
            }
        }
        Ok(())
    }
}

/// How often the clocks that run against the peer are looked at.
fn glance(timeouts: &Timeouts) -> Duration {
    let Timeouts { hello, frame, ping, write, .. } = *timeouts;
    let shortest = hello.min(frame).min(ping).min(write);
    (shortest / 4).clamp(GLANCE_MIN, GLANCE_MAX)
}
