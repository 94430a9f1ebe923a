//! A stream call of another thread, on the shard that carries it: between its port and its cell.

use corewire_codec::RequestHead;
use corewire_proto::StreamKind;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use corewire_client::{StreamFailure, StreamHandle, WriteMessages};

use crate::channel::Channel;
use crate::stream::{StreamCall, StreamReader, StreamWriter};
use corewire_client::core::channel::StreamEnd;
use corewire_client::failure::{CallFailure, NotSent};
use corewire_client::remote::{
    Body,
    pipe::{Event, Outgoing, Port},
};

/// Carries one call that streams to its end. Dropping the future gives the call up.
pub(super) async fn carry(
    channel: &Channel,
    kind: StreamKind,
    head: RequestHead,
    deadline: Option<Instant>,
    body: Body,
    port: Port,
) {
    let encode = |frame: &mut corewire_codec::FrameWriter<'_>| {
        body.write_to(frame);
        Ok::<_, NotSent>(())
    };
    let timeout = deadline.map(|by| by.saturating_duration_since(Instant::now()));
    let (call, writer) = match channel.stream(kind, head, timeout, encode).await {
        Ok(begun) => begun,
        Err(failure) => return port.finish(Event::Outcome(Err(failure))),
    };
    let (own, in_flight_max) = channel.stream_limits();
    port.begin(&own, in_flight_max);
    let receiving = match kind.server_sends() {
        true => Receiving::Opening(call),
        false => Receiving::Reply(call),
    };
    let mut bridge = Bridge { port, receiving, writer, ended: false, held: 0 };
    poll_fn(|context| bridge.poll(context)).await;
}

/// What is still to come from the server.
enum Receiving {
    /// The opening of its stream.
    Opening(StreamCall),
    /// Its stream. The reader stays after the end of the stream, for messages that were not taken.
    Stream(StreamReader),
    /// The reply to a stream of the client.
    Reply(StreamCall),
    /// Nothing.
    Over,
}

struct Bridge {
    port: Port,
    receiving: Receiving,
    /// `None` when nothing more is sent.
    writer: Option<StreamWriter>,
    /// The caller was told how the call ended.
    ended: bool,
    /// Cost of messages that were passed on and not yet taken.
    held: u32,
}

impl Bridge {
    /// Ready when the call is over and everything it brought was taken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.port.register(context);
        self.port.take_notice();
        self.consume();
        self.send(context);
        if !self.ended && self.receive(context) {
            self.port.wake_reader();
        }
        match self.ended && self.held == 0 {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn consume(&mut self) {
        let consumed = self.port.take_consumed();
        self.held = self.held.saturating_sub(consumed);
        if let Receiving::Stream(reader) = &mut self.receiving
            && consumed > 0
        {
            reader.consume(consumed);
        }
    }

    /// Passes on what came; returns whether anything came.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        let mut news = false;
        while !self.ended {
            match &mut self.receiving {
                Receiving::Opening(call) => {
                    let Poll::Ready(opened) = call.poll_opened(context) else { break };
                    match opened {
                        Ok(opening) => {
                            self.port.push(Event::Opened(opening));
                            let Receiving::Opening(call) =
                                core::mem::replace(&mut self.receiving, Receiving::Over)
                            else {
                                break;
                            };
                            match call.into_reader() {
                                Some(reader) => self.receiving = Receiving::Stream(reader),
                                None => self.finish(Event::End(None)),
                            }
                        }
                        Err(outcome) => self.finish(Event::Outcome(outcome)),
                    }
                }
                Receiving::Stream(reader) => {
                    let Poll::Ready(item) = reader.poll_next_held(context) else { break };
                    match item {
                        Some(Ok((message, cost))) => {
                            self.held = self.held.saturating_add(cost);
                            self.port.push(Event::Message(message, cost));
                        }
                        Some(Err(StreamFailure::Status(status))) => {
                            self.finish(Event::End(Some(status)));
                        }
                        Some(Err(StreamFailure::Call(outcome))) => {
                            self.finish(Event::Outcome(outcome));
                        }
                        None => self.finish(Event::End(None)),
                    }
                }
                Receiving::Reply(call) => {
                    let Poll::Ready(outcome) = call.poll_outcome(context) else { break };
                    self.finish(Event::Outcome(outcome));
                }
                Receiving::Over => break,
            }
            news = true;
        }
        news
    }

    /// The call is over.
    fn finish(&mut self, event: Event) {
        self.ended = true;
        self.writer = None;
        self.port.finish(event);
    }

    /// Passes on what the caller sends, as far as the outbox here has room.
    fn send(&mut self, context: &mut Context<'_>) {
        let Some(writer) = &mut self.writer else { return };
        loop {
            match writer.poll_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.port.close();
                    self.writer = None;
                    return;
                }
                Poll::Pending => return,
            }
            match self.port.pop() {
                Some(Outgoing::Message(encoding, body)) => writer.send(encoding, body),
                Some(Outgoing::End(failure)) => writer.end(failure),
                None => return writer.watch(context),
            }
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Messages that were passed on and not taken are dropped with their reader.
        self.held = self.held.saturating_sub(self.port.take_consumed());
        if let Receiving::Stream(reader) = &mut self.receiving {
            reader.consume(self.held);
        }
        self.port.close();
        if !self.ended {
            let lost = CallFailure::Unknown(corewire_proto::CloseReason::LocallyClosed);
            self.port.finish(Event::Outcome(Err(lost)));
        }
    }
}
