//! Methods that stream, on the server.

use corewire_codec::{Decode, Encode, Status};
use corewire_engine::{Incoming, PendingCall, ReplySlot, StreamWriter};
use pin_project_lite::pin_project;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use super::Streaming;
use super::end_listeners::EndListeners;
use super::pump::Pump;
use super::wire::Wire;
use crate::server::answer::Answer;
use crate::server::incoming::IncomingCall;
use crate::server::slot::{Handle, Handler, Method, Room, refuse_arguments};

impl<S: 'static> Room<'_, S> {
    /// Room for a method whose results are a stream; the client may send one, too. What its handler adds to the
    /// reply goes out with the opening of the stream.
    ///
    /// `begin` reads the arguments and returns the handler's future, or the status that the caller
    /// gets instead. Each call costs an allocation of its own; a method of which only the client streams
    /// is a [`unary`](Self::unary) one.
    pub fn streaming<C, T, F, B>(self, _: PhantomData<C>, begin: B) -> Handler
    where
        C: Encode<T> + 'static,
        T: 'static,
        F: Future<Output: Answer<Value = Streaming<T>>> + 'static,
        B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
    {
        let (service, home) = self.keep();
        let results = Results::<C, T> { writer: None, pump: None };
        Handler::new(StreamingCall { service, begin, handler: None, results, home })
    }
}

impl IncomingCall<'_, '_> {
    /// What the client streams, in the codec `C`; nothing if it was taken before.
    pub fn stream<C: Decode<T>, T>(&mut self, _: PhantomData<C>) -> Streaming<T> {
        let reader = self.incoming.streams.as_mut().and_then(|streams| streams.reader.take());
        reader.map_or_else(Streaming::empty, |reader| {
            Streaming::from_wire(Wire::new::<C>(reader, EndListeners::default()))
        })
    }
}

pin_project! {
    /// A call whose results are a stream: first its handler, then what the handler returned.
    struct StreamingCall<S, B, F, C, T> {
        service: Rc<S>,
        begin: B,
        #[pin]
        handler: Option<F>,
        results: Results<C, T>,
        home: Weak<Method>,
    }
}

/// The results of a call, whichever handler they come from.
struct Results<C, T> {
    writer: Option<StreamWriter>,
    pump: Option<Pump<C, T, Streaming<T>, StreamWriter>>,
}

impl<C: Encode<T>, T> Results<C, T> {
    /// The handler has returned; `Ready` when the reply was given, because there is no stream.
    fn open<A>(&mut self, outcome: A, reply: &mut ReplySlot<'_>) -> Poll<()>
    where
        A: Answer<Value = Streaming<T>>,
    {
        let (outcome, extras) = outcome.into_parts();
        match (outcome, self.writer.take()) {
            (Ok(stream), Some(mut writer)) => {
                let metadata = extras.map(|extras| extras.metadata);
                writer.accept(metadata.filter(|metadata| !metadata.is_empty()));
                self.pump = Some(Pump::new(stream, writer));
                Poll::Pending
            }
            (Err(status), _) => {
                reply.status(&status);
                Poll::Ready(())
            }
            (Ok(_), None) => {
                reply.status(&Status::internal("the call has no stream of results"));
                Poll::Ready(())
            }
        }
    }

    /// Never `Ready`: the connection ends the call when the last message is written.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pump) = &mut self.pump {
            let _ = Pin::new(pump).poll(context);
        }
        Poll::Pending
    }
}

impl<S, B, F, C, T> Handle for StreamingCall<S, B, F, C, T>
where
    C: Encode<T> + 'static,
    T: 'static,
    F: Future<Output: Answer<Value = Streaming<T>>> + 'static,
    S: 'static,
    B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
{
    fn begin(
        mut self: Pin<&mut Self>,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.as_mut().project();
        match (this.begin)(this.service, &mut IncomingCall { incoming, extras: None }) {
            Ok(handler) => this.handler.set(Some(handler)),
            Err(status) => return refuse_arguments(&status, reply),
        }
        this.results.writer = incoming.streams.as_mut().and_then(|streams| streams.writer.take());
        PendingCall::poll(self, context, reply)
    }

    fn home(&self) -> &Weak<Method> {
        &self.home
    }
}

impl<S, B, F, C, T> PendingCall for StreamingCall<S, B, F, C, T>
where
    C: Encode<T> + 'static,
    T: 'static,
    F: Future<Output: Answer<Value = Streaming<T>>> + 'static,
    S: 'static,
    B: Fn(&Rc<S>, &mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
{
    fn poll(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        if let Some(handler) = this.handler.as_mut().as_pin_mut() {
            let Poll::Ready(outcome) = handler.poll(context) else { return Poll::Pending };
            this.handler.set(None);
            if this.results.open(outcome, reply).is_ready() {
                return Poll::Ready(());
            }
        }
        this.results.poll(context)
    }

    fn recycle(self: Pin<Box<Self>>) {}
}
