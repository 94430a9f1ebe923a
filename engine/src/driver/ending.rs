//! The end of a driver: its channels learn that nobody drives their connections any more.

use super::{Conn, Driver};
use crate::net::io::Io;

impl<I: Io> Driver<I> {
    /// The shard ends. A channel may outlive it: its calls in flight end here, and later calls fail at once.
    pub(crate) fn end_channels(&mut self) {
        self.local.end();
        let now = self.now();
        for (_, entry) in &mut self.conns {
            match &mut entry.conn {
                Some(Conn::Client(conn)) => conn.end(now),
                Some(Conn::Remote(conn)) => conn.end(now),
                Some(Conn::Server(_)) | None => {}
            }
        }
        self.channels.local.take().iter().for_each(|channel| channel.end(now));
        self.channels.remote.take().iter().for_each(|channel| channel.end(now));
    }
}
