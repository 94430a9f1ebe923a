//! A shard whose services are made begins to serve.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::{Driver, Listening};
use crate::calls::dispatch::Dispatch;
use crate::calls::forward::Served;
use crate::calls::guests::Guests;
use crate::net::io::{Io, Token};

impl<I: Io> Driver<I> {
    /// Serves from now on. A driver that was made without listeners has taken no call before.
    ///
    /// # Errors
    ///
    /// The error of the [`Io`] for a listener.
    pub(crate) fn serve(
        &mut self,
        listeners: Vec<I::Listener>,
        dispatch: Rc<dyn Dispatch>,
    ) -> io::Result<()> {
        let counters = Arc::clone(&self.shared.counters);
        let guests = Guests::new(
            &self.shared.config.budgets,
            self.server.one_way_pending_max,
            self.shared.memory.totals().clone(),
            Arc::clone(&counters),
            self.shared.delay.clone(),
        );
        let served = Served { dispatch: Rc::clone(&dispatch), counters, guests };
        self.channels.mesh.set_served(Rc::new(served));
        self.shared.served = dispatch;
        self.know_methods();
        if self.shared.drain_by.is_some() {
            return Ok(());
        }
        for (index, listener) in listeners.iter().enumerate() {
            self.shared.io.watch_listener(listener, Token::listener(index))?;
        }
        let listen = |listener| Listening { listener, acceptable: true };
        self.listeners = listeners.into_iter().map(listen).collect();
        self.shared.counters.takes.set(1);
        Ok(())
    }
}
