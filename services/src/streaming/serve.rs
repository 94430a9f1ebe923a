//! Methods that stream, on the server.

use corewire_codec::{Decode, Encode, Status};
use corewire_engine::{Dispatched, Incoming, PendingCall, ReplySlot, StreamWriter};
use pin_project_lite::pin_project;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::pump::Pump;
use super::wire::Wire;
use super::{Streaming, Watch};
use crate::MethodDescription;
use crate::answer::Answer;
use crate::service::{IncomingCall, Method, Methods};

impl Methods {
    /// Adds a method whose results are a stream; the client may send one, too. What its handler adds to the
    /// reply goes out with the opening of the stream.
    ///
    /// `begin` reads the arguments and answers the handler's future, or the status that the caller
    /// gets instead. Each call costs an allocation of its own; a method of which only the client streams
    /// is a [`unary`](Self::unary) one.
    pub fn streaming<C, T, F, B>(&mut self, description: &'static MethodDescription, begin: B)
    where
        C: Encode<T> + 'static,
        T: 'static,
        F: Future<Output: Answer<Value = Streaming<T>>> + 'static,
        B: Fn(&mut IncomingCall<'_, '_>) -> Result<F, Status> + 'static,
    {
        let codec = PhantomData::<fn(C, T)>;
        self.list.push(std::rc::Rc::new(StreamMethod { description, begin, codec }));
    }
}

impl IncomingCall<'_, '_> {
    /// What the client streams, in the codec `C`; nothing if it was taken before.
    pub fn stream<C: Decode<T>, T>(&mut self) -> Streaming<T> {
        let reader = self.incoming.streams.as_mut().and_then(|streams| streams.reader.take());
        reader.map_or_else(Streaming::empty, |reader| {
            Streaming::from_wire(Wire::new::<C>(reader, Watch::default()))
        })
    }
}

struct StreamMethod<B, C, T> {
    description: &'static MethodDescription,
    begin: B,
    codec: PhantomData<fn(C, T)>,
}

pin_project! {
    /// A call whose results are a stream: first its handler, then what the handler answered.
    struct StreamingCall<F, C, T> {
        #[pin]
        handler: Option<F>,
        writer: Option<StreamWriter>,
        pump: Option<Pump<C, T, Streaming<T>, StreamWriter>>,
    }
}

impl<F, C, T> PendingCall for StreamingCall<F, C, T>
where
    C: Encode<T>,
    F: Future<Output: Answer<Value = Streaming<T>>>,
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
            let (outcome, extras) = outcome.into_parts();
            match (outcome, this.writer.take()) {
                (Ok(stream), Some(mut writer)) => {
                    let metadata = extras.map(|extras| extras.metadata);
                    writer.accept(metadata.filter(|metadata| !metadata.is_empty()));
                    *this.pump = Some(Pump::new(stream, writer));
                }
                (Err(status), _) => {
                    reply.status(&status);
                    return Poll::Ready(());
                }
                (Ok(_), None) => {
                    reply.status(&Status::internal("the call has no stream of results"));
                    return Poll::Ready(());
                }
            }
        }
        if let Some(pump) = this.pump {
            // The connection ends the call when the last message is written.
            let _ = Pin::new(pump).poll(context);
        }
        Poll::Pending
    }

    fn recycle(self: Pin<Box<Self>>) {}
}

impl<B, F, C, T> Method for StreamMethod<B, C, T>
where
    C: Encode<T> + 'static,
    T: 'static,
    F: Future<Output: Answer<Value = Streaming<T>>> + 'static,
    B: Fn(&mut IncomingCall<'_, '_>) -> Result<F, Status>,
{
    fn description(&self) -> &'static MethodDescription {
        self.description
    }

    fn call(
        &self,
        incoming: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let handler = match (self.begin)(&mut IncomingCall { incoming, extras: None }) {
            Ok(handler) => Some(handler),
            Err(status) => {
                reply.status(&status);
                return Dispatched::Replied;
            }
        };
        let writer = incoming.streams.as_mut().and_then(|streams| streams.writer.take());
        let mut call = Box::pin(StreamingCall::<F, C, T> { handler, writer, pump: None });
        match call.as_mut().poll(context, reply) {
            Poll::Ready(()) => Dispatched::Replied,
            Poll::Pending => Dispatched::Pending(call),
        }
    }
}
