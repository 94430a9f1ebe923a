//! What both sides of a connection do alike: watching for silence.

use std::time::Instant;

use corewire_codec::{RecvBuffer, Rule, SendBuffer};

use crate::Timeouts;

/// The clocks of one connection. Each is `None` while nothing of its kind is awaited.
#[derive(Debug)]
pub(crate) struct Link {
    /// When the last byte came.
    heard: Instant,
    /// When the connection last did something other than ping.
    active: Instant,
    /// A call ended since the last time that was told: idleness begins at the next one.
    call_ended: bool,
    /// The peer's hello must be there by then.
    hello_by: Option<Instant>,
    /// Whether the peer's hello came.
    said_hello: bool,
    /// The frame whose first bytes are here must be whole by then.
    frame_by: Option<Instant>,
    /// The ping that waits for its pong, and when it was sent.
    ping: Option<(u64, Instant)>,
    pings: u64,
    /// Since when the peer takes nothing.
    blocked: Option<Instant>,
}

impl Link {
    pub(crate) fn new(timeouts: &Timeouts, now: Instant) -> Self {
        Self {
            heard: now,
            active: now,
            call_ended: false,
            hello_by: now.checked_add(timeouts.hello),
            said_hello: false,
            frame_by: None,
            ping: None,
            pings: 0,
            blocked: None,
        }
    }

    /// The peer's hello came. What is behind it starts a clock of its own.
    pub(crate) fn handle_hello(&mut self, now: Instant) {
        self.hello_by = None;
        self.said_hello = true;
        self.frame_by = None;
        self.heard = now;
        self.active = now;
    }

    /// A whole frame came.
    #[inline]
    pub(crate) fn handle_frame(&mut self, now: Instant) {
        self.heard = now;
        self.frame_by = None;
    }

    #[inline]
    pub(crate) fn handle_activity(&mut self, now: Instant) {
        self.active = now;
    }

    /// A call ended, at a time that was not told.
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
        if recv.is_empty() {
            self.frame_by = None;
        } else {
            self.heard = now;
            self.frame_by = self.frame_by.or_else(|| now.checked_add(timeouts.frame));
        }
    }

    pub(crate) fn handle_pong(&mut self, opaque: u64) -> Result<(), Rule> {
        match self.ping.take() {
            Some((sent, _)) if sent == opaque => Ok(()),
            _ => Err(Rule::UnexpectedPong),
        }
    }

    /// Whether no clock runs but those that every sign of life moves later.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.hello_by.is_none()
            && self.frame_by.is_none()
            && self.blocked.is_none()
            && self.ping.is_none()
    }

    /// What was written, and whether something is left. Progress restarts the clock.
    #[inline]
    pub(crate) fn handle_write(&mut self, progress: bool, blocked: bool, now: Instant) {
        self.handle_now(now);
        if !blocked {
            self.blocked = None;
        } else if progress || self.blocked.is_none() {
            self.blocked = Some(now);
            // Its silence counts from when it has caught up.
            self.heard = now;
        }
    }

    /// When the connection has been idle for too long.
    fn idle_by(&self, timeouts: &Timeouts, busy: bool) -> Option<Instant> {
        timeouts.idle.filter(|_| !busy).and_then(|idle| self.active.checked_add(idle))
    }

    /// When the peer has taken nothing for too long.
    fn write_by(&self, timeouts: &Timeouts) -> Option<Instant> {
        self.blocked.and_then(|since| since.checked_add(timeouts.write))
    }

    /// When to ping, or when the answer to a ping must be here. Nobody is pinged before its hello.
    fn ping_by(&self, timeouts: &Timeouts) -> Option<Instant> {
        // A peer that is busy taking what waits for it cannot answer yet; the write timeout watches.
        if self.blocked.is_some() {
            return None;
        }
        match self.ping {
            Some((_, sent)) => sent.checked_add(timeouts.ping),
            None if self.said_hello => self.heard.checked_add(timeouts.ping_after),
            None => None,
        }
    }

    /// The next time at which [`handle_timeout`](Self::handle_timeout) has something to do. A time
    /// past what the clock can say is never.
    pub(crate) fn poll_timeout(&self, timeouts: &Timeouts, busy: bool) -> Option<Instant> {
        let idle_by = self.idle_by(timeouts, busy);
        let (write_by, ping_by) = (self.write_by(timeouts), self.ping_by(timeouts));
        [self.hello_by, self.frame_by, idle_by, write_by, ping_by].into_iter().flatten().min()
    }

    /// Sends a ping when it is time, or answers the rule by which the connection must end.
    pub(crate) fn handle_timeout(
        &mut self,
        timeouts: &Timeouts,
        busy: bool,
        out: &mut SendBuffer,
        now: Instant,
    ) -> Result<(), Rule> {
        self.handle_now(now);
        let over = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        if over(self.hello_by) {
            return Err(Rule::HelloTimeout);
        }
        if over(self.frame_by) {
            return Err(Rule::FrameTimeout);
        }
        if over(self.write_by(timeouts)) {
            return Err(Rule::WriteTimeout);
        }
        if over(self.idle_by(timeouts, busy)) {
            return Err(Rule::IdleTimeout);
        }
        if !over(self.ping_by(timeouts)) {
            return Ok(());
        }
        match self.ping {
            // Anything that was heard since the ping shows that the peer is there.
            Some((opaque, sent)) if self.heard > sent => self.ping = Some((opaque, self.heard)),
            Some(_) => return Err(Rule::IdleTimeout),
            None => {
                self.pings += 1;
                self.ping = Some((self.pings, now));
                out.ping(self.pings);
            }
        }
        Ok(())
    }
}
