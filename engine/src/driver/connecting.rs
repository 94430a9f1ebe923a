//! How a driver begins the connections of channels.

use std::io;
use std::rc::Rc;

use super::{Conn, Driver};
use crate::channel::remote::RemoteChannel;
use crate::channel::{ChannelCore, Link};
use crate::conn::client::ClientConn;
use crate::conn::dial::{self, Begun, ClientDial};
use crate::conn::remote::RemoteConn;
use crate::net::io::Io;
use corewire_client::failure::connect_failure;
use corewire_client::log_limit::Topic;

impl<I: Io> Driver<I> {
    /// Begins the connects that channels have asked for.
    pub(super) fn begin_connects(&mut self) {
        for channel in self.channels.take_connects() {
            self.connect(&channel);
        }
        if self.channels.remote.has_any() {
            for channel in self.channels.remote.take() {
                self.connect_remote(&channel);
            }
        }
    }

    fn connect(&mut self, channel: &Rc<ChannelCore>) {
        let token = self.next_token();
        let now = self.shared.now;
        let conn = match dial::begin(&mut self.shared, &channel.address, &channel.config, token) {
            Ok(Begun::Socket(socket)) => {
                let channel = Rc::clone(channel);
                Conn::Client(Box::new(ClientConn::new(socket, token, channel, now)))
            }
            Ok(Begun::Dial(dial)) => {
                let channel = Rc::clone(channel);
                Conn::Dial(Box::new(ClientDial::new(channel, token, dial, now)))
            }
            Err(error) => return self.cannot_connect(channel, &error),
        };
        channel.state.borrow_mut().link = Link::Connecting { token: Some(token) };
        self.insert(token, conn);
    }

    #[cold]
    fn cannot_connect(&self, channel: &ChannelCore, error: &io::Error) {
        let reason = connect_failure(error);
        if self.local.log.admit(Topic::CONNECT, self.shared.now) {
            tracing::warn!(server = %channel.address, %reason, "cannot connect");
        }
        channel.state.borrow_mut().handle_down(channel, reason, self.shared.now);
    }

    /// The same for callers on other threads.
    fn connect_remote(&mut self, channel: &Rc<RemoteChannel>) {
        let token = self.next_token();
        let now = self.shared.now;
        let core = &mut *channel.core.borrow_mut();
        if !core.is_connecting() {
            // It was given up since.
            return;
        }
        match dial::begin(&mut self.shared, core.server(), core.config(), token) {
            Ok(begun) => {
                let conn = RemoteConn::new(begun, token, Rc::clone(channel), core.config(), now);
                self.insert(token, Conn::Remote(Box::new(conn)));
            }
            Err(error) => {
                core.handle_connect_failed(connect_failure(&error), now);
                channel.settle(core);
            }
        }
    }
}
