//! How a tokio channel's connections end: with their server's go-away, or with the channel.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use tokio::sync::mpsc;

use super::driver::{Driver, Link};
use super::watch;
use crate::failure::{CallFailure, NotSent};
use crate::remote::command::{Control, Hold};
use crate::remote::mailbox::Mailbox;
use crate::tokio::bell::TaskBell;
use crate::wait_queue::Line;

/// How many connections may wait for the last of their calls. While there are as many, the next server
/// that goes away is waited for.
const RETIRED_MAX: usize = 16;

impl Driver {
    /// The server takes no new calls. Those in flight are left to a task of their own, and the next ones
    /// get another connection at once. Answers whether there is more to do.
    pub(super) fn retire(&mut self, now: Instant) -> bool {
        let Link::Up { session, .. } = &self.link else { return false };
        self.retired.retain(Mailbox::is_heard);
        if self.is_retired || self.retired.len() >= RETIRED_MAX {
            self.fail_waiting("the server is shutting down; its calls are finished first");
            return false;
        }
        let retry_at = self.backoff.handle_end(session.is_proven(), &self.config, now);
        let down = Link::Down { retry_at, why: "the server is shutting down".to_owned() };
        let (bell, rings) = mpsc::channel(1);
        let heard = bell.downgrade();
        let (mailbox, inbox) = Mailbox::new(TaskBell(bell));
        let retired = Self {
            address: self.address.clone(),
            config: self.config.clone(),
            connection: Arc::clone(&self.connection),
            inbox,
            rings,
            rung: true,
            link: core::mem::replace(&mut self.link, down),
            backoff: self.backoff.clone(),
            write_failed: self.write_failed.take(),
            waiting: Line::default(),
            calls: core::mem::take(&mut self.calls),
            streams: core::mem::take(&mut self.streams),
            retired: Vec::new(),
            is_retired: true,
            is_closed: false,
            closing: Vec::new(),
            timer: None,
            unread: 0,
        };
        self.retired.push(mailbox);
        // This is a task of the runtime, so there is one.
        tokio::spawn(watch::watched(retired, heard));
        if let Err(why) = self.want_connection(now) {
            self.fail_waiting(&why);
        }
        true
    }

    /// Somebody closes the channel, and waits for all of its connections.
    pub(super) fn tell_of_close(&mut self, hold: Hold) {
        for retired in &self.retired {
            retired.control(Control::Close { channel: 0, hold: Hold::clone(&hold) });
        }
        self.closing.push(hold);
    }

    /// No call begins any more if somebody closes the channel; those in flight are finished.
    pub(super) fn close_if_told(&mut self) {
        if self.closing.is_empty() {
            return;
        }
        self.is_closed = true;
        self.waiting.fail(&CallFailure::NotSent(NotSent::Closed));
        match &mut self.link {
            Link::Up { session, .. } => return session.leave(),
            Link::Connecting(_) => self.link = Link::Down { retry_at: None, why: String::new() },
            Link::Down { .. } => {}
        }
        self.closing.clear();
    }

    /// Nobody can call any more and nothing is in flight: the server is told, if the socket takes it.
    pub(super) fn leave(&mut self, context: &mut Context<'_>, now: Instant) {
        if let Link::Up { session, .. } = &mut self.link {
            session.leave();
            self.flush(context, now);
        }
    }
}
