//! How a driver begins the connections of channels.

use std::io;
use std::rc::Rc;

use super::{Conn, Driver};
use crate::channel::{ChannelCore, Link};
use crate::conn::client::ClientConn;
use crate::conn::dial::ClientDial;
use crate::net::io::Io;
use corewire_client::address::Address;
use corewire_client::failure::connect_failure;
use corewire_client::log_limit::Topic;

impl<I: Io> Driver<I> {
    pub(super) fn connect(&mut self, channel: Rc<ChannelCore>) {
        let token = self.next_token();
        if let Address::Name { host, port } = &channel.address {
            let to = (host.as_str(), *port);
            let (local, now) = (Rc::clone(&self.local), self.shared.now);
            match ClientDial::start(Rc::clone(&channel), to, token, &local, now) {
                Ok(dial) => {
                    channel.state.borrow_mut().link = Link::Connecting { token: Some(token) };
                    self.insert(token, Conn::Dial(Box::new(dial)));
                }
                Err(error) => self.cannot_connect(&channel, &error),
            }
            return;
        }
        let socket = self.shared.io.connect(&channel.address).and_then(|socket| {
            self.shared.io.watch(&socket, token)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => {
                channel.state.borrow_mut().link = Link::Connecting { token: Some(token) };
                let conn = ClientConn::new(socket, token, channel, self.shared.now);
                self.insert(token, Conn::Client(Box::new(conn)));
            }
            Err(error) => self.cannot_connect(&channel, &error),
        }
    }

    #[cold]
    fn cannot_connect(&self, channel: &ChannelCore, error: &io::Error) {
        let reason = connect_failure(error);
        if self.local.log.admit(Topic::CONNECT, self.shared.now) {
            tracing::warn!(server = %channel.address, %reason, "cannot connect");
        }
        channel.state.borrow_mut().handle_down(channel, reason, self.shared.now);
    }
}
