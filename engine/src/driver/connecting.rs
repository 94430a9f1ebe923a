//! How a driver begins the connections of channels.

use std::rc::Rc;

use super::{Conn, Driver};
use crate::channel::driven::DrivenChannel;
use crate::conn::client::ClientConn;
use crate::conn::dial;
use crate::net::io::Io;
use corewire_client::core::channel::Waiter;
use corewire_client::failure::connect_failure;

impl<I: Io> Driver<I> {
    /// Begins the connects that channels have asked for.
    pub(super) fn begin_connects(&mut self) {
        for channel in self.channels.local.take() {
            self.connect(&channel, Conn::Client);
        }
        for channel in self.channels.remote.take() {
            self.connect(&channel, Conn::Remote);
        }
    }

    fn connect<W: Waiter + 'static>(
        &mut self,
        channel: &Rc<DrivenChannel<W>>,
        make: impl FnOnce(Box<ClientConn<I::Socket, W>>) -> Conn<I>,
    ) {
        let token = self.next_token();
        let now = self.shared.now;
        let core = &mut *channel.core.borrow_mut();
        if !core.is_connecting() {
            // It was given up since.
            return;
        }
        match dial::begin(&mut self.shared, core.server(), core.config(), token) {
            Ok(begun) => {
                let conn = ClientConn::new(begun, token, Rc::clone(channel), core.config(), now);
                self.insert(token, make(Box::new(conn)));
            }
            Err(error) => {
                core.handle_connect_failed(connect_failure(&error), now);
                channel.settle(core);
                channel.wake_watchers();
            }
        }
    }
}
