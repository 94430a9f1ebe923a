//! Both sides of a connection without sockets: bytes in, bytes out, the same code that runs in production.
//!
//! Every step handles a *batch* of calls, as a turn of the driver does when they arrive together: the bytes of all of
//! them are received at once, and the replies are in one send buffer. What the kernel would do is one copy each way.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use corewire::Bytes;
use corewire::bench_hooks::{Dispatch, InlineCalls, Outcome, router};
use corewire::echo::{EchoClient, EchoServer, Echoer};
use corewire_codec::{
    HEADER_BYTES, Head, MethodId, RecvBuffer, ReplyHead, RequestHead, SendBuffer,
};
use corewire_proto::{
    ClientConfig, ClientConnection, ClientInput, ServerConfig, ServerConnection, ServerIdentity,
    ServerInput,
};

/// The largest frame that is accepted here, in bytes.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// The echo method's id.
#[must_use]
pub fn echo_method() -> MethodId {
    EchoClient::DESCRIPTION.methods.first().map_or(MethodId(0), |method| method.id)
}

/// Appends a request of the echo method.
///
/// # Errors
///
/// When the body is larger than [`FRAME_BYTES_MAX`].
#[inline]
pub fn put_request(out: &mut SendBuffer, call: u32, method: MethodId, body: &Bytes) -> Result<()> {
    let mut frame = out.request(&RequestHead::new(call, method), None);
    frame.put_bytes(body.clone());
    frame.finish(FRAME_BYTES_MAX)?;
    Ok(())
}

/// Appends a successful reply.
///
/// # Errors
///
/// When the body is larger than [`FRAME_BYTES_MAX`].
#[inline]
pub fn put_reply(out: &mut SendBuffer, call: u32, body: &Bytes) -> Result<()> {
    let mut frame = out.reply(&ReplyHead::ok(call), None);
    frame.put_bytes(body.clone());
    frame.finish(FRAME_BYTES_MAX)?;
    Ok(())
}

/// Takes out all bytes that wait.
#[must_use]
pub fn take(out: &mut SendBuffer) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(out.len());
    while !out.is_empty() {
        let chunk = out.first_chunk();
        bytes.extend_from_slice(chunk);
        let taken = chunk.len();
        out.advance(taken);
    }
    bytes
}

/// The bytes of `calls` requests, with ids from 0 on, and those of their replies.
///
/// # Errors
///
/// When the body is larger than [`FRAME_BYTES_MAX`].
pub fn frames(calls: u32, body: &Bytes) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut requests, mut replies) = (SendBuffer::new(), SendBuffer::new());
    for call in 0..calls {
        put_request(&mut requests, call, echo_method(), body)?;
        put_reply(&mut replies, call, body)?;
    }
    Ok((take(&mut requests), take(&mut replies)))
}

/// Reads every frame of `bytes` through `recv`; returns how many there were.
///
/// # Errors
///
/// When the bytes break a rule.
pub fn decode_all(recv: &mut RecvBuffer, bytes: &[u8]) -> Result<usize> {
    recv.extend_from_slice(bytes);
    let mut count = 0;
    while let Some(frame) =
        recv.next_frame(FRAME_BYTES_MAX).map_err(|rule| anyhow::anyhow!("{rule:?}"))?
    {
        ensure!(matches!(frame.head, Head::Request(_) | Head::Reply(_)), "another kind of frame");
        std::hint::black_box(frame.payload.body());
        count += 1;
    }
    Ok(count)
}

/// A server's connection with an echo service behind it, after its hello.
pub struct ServerSide {
    connection: ServerConnection<()>,
    dispatch: Box<dyn Dispatch>,
    calls: InlineCalls,
    recv: RecvBuffer,
    out: SendBuffer,
    now: Instant,
}

impl std::fmt::Debug for ServerSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerSide").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl ServerSide {
    /// A connection whose client has said hello.
    ///
    /// # Errors
    ///
    /// When the system gives no eventfd, or the hello is refused.
    pub fn new() -> Result<Self> {
        let now = Instant::now();
        let identity = ServerIdentity { connection_id: 1 };
        let dispatch = router(EchoServer::new(Echoer)).map_err(anyhow::Error::msg)?;
        let mut side = Self {
            connection: ServerConnection::new(Rc::new(ServerConfig::default()), identity, now),
            dispatch: Box::new(dispatch),
            calls: InlineCalls::new()?,
            recv: RecvBuffer::new(),
            out: SendBuffer::new(),
            now,
        };
        let mut hello = SendBuffer::new();
        let _ = ClientConnection::<()>::new(Arc::default(), 0, &mut hello, now);
        ensure!(side.serve(&take(&mut hello))? == 0, "a hello is no call");
        ensure!(!take(&mut side.out).is_empty(), "the server says nothing");
        Ok(side)
    }

    /// Receives bytes, makes the calls in them, and leaves the replies in [`out`](Self::out). Returns how many calls
    /// there were.
    ///
    /// # Errors
    ///
    /// When the bytes break the protocol, or a handler pends.
    pub fn serve(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut served = 0;
        let mut head = RequestHead::default();
        self.recv.extend_from_slice(bytes);
        loop {
            match self.connection.handle_frame(&mut self.recv, &mut head, &mut self.out, self.now) {
                ServerInput::NeedBytes => break,
                ServerInput::Handled => {}
                ServerInput::Call { request, payload, deadline } => {
                    let max = self.connection.peer_frame_bytes_max();
                    let (calls, out) = (&mut self.calls, &mut self.out);
                    let outcome =
                        calls.begin(&*self.dispatch, request, payload, deadline, out, max);
                    ensure!(outcome == Outcome::Replied, "the echo service pends");
                    served += 1;
                }
                ServerInput::Closed(reason) => bail!("the connection is over: {reason}"),
                other => bail!("no call here asks for {other:?}"),
            }
        }
        self.connection.handle_rest(&self.recv, self.now);
        Ok(served)
    }

    /// The replies.
    pub fn out(&mut self) -> &mut SendBuffer {
        &mut self.out
    }
}

/// A client's connection with its calls, after its hello. Its replies are made by patching the call ids into bytes
/// that were encoded before, so that no server's work is counted.
#[derive(Debug)]
pub struct ClientSide {
    connection: ClientConnection<u32>,
    body: Bytes,
    replies: Vec<u8>,
    ids: Vec<u32>,
    recv: RecvBuffer,
    out: SendBuffer,
    now: Instant,
}

/// Where a frame's call id is, counted from the frame's first byte.
const CALL_ID_AT: usize = 8;

impl ClientSide {
    /// A connection that makes `calls` calls in each batch; at most 1,024, and few enough for the server's limit.
    ///
    /// # Errors
    ///
    /// When the server's hello is refused.
    pub fn new(calls: u32, body: Bytes) -> Result<Self> {
        let now = Instant::now();
        let mut out = SendBuffer::new();
        let connection = ClientConnection::new(Arc::new(ClientConfig::default()), 0, &mut out, now);
        let mut server = ServerSide::new()?;
        let identity = ServerIdentity { connection_id: 1 };
        server.connection = ServerConnection::new(Rc::new(ServerConfig::default()), identity, now);
        ensure!(server.serve(&take(&mut out))? == 0, "a hello is no call");
        let mut side = Self {
            connection,
            replies: frames(calls, &body)?.1,
            body,
            ids: Vec::with_capacity(1024),
            recv: RecvBuffer::new(),
            out,
            now,
        };
        side.recv.extend_from_slice(&take(server.out()));
        ensure!(
            side.receive()? == 0 && side.connection.is_ready(),
            "the server's hello is no reply"
        );
        Ok(side)
    }

    /// Begins a batch of calls, and receives the replies to all of them. Returns how many there were.
    ///
    /// # Errors
    ///
    /// When there are more calls than slots, or a reply is not accepted.
    pub fn call(&mut self) -> Result<usize> {
        let method = echo_method();
        self.ids.clear();
        let frame_bytes = HEADER_BYTES + self.body.len();
        for reply in self.replies.chunks_exact_mut(frame_bytes) {
            let work = u32::try_from(self.ids.len())?;
            let Ok(call) = self.connection.begin_call(work, None) else { bail!("no slot is free") };
            put_request(&mut self.out, call, method, &self.body)?;
            if let Some(id) = reply.get_mut(CALL_ID_AT..CALL_ID_AT + 4) {
                id.copy_from_slice(&call.to_le_bytes());
            }
            self.ids.push(call);
        }
        self.recv.extend_from_slice(&self.replies);
        let received = self.receive()?;
        ensure!(
            received == self.ids.len() && self.connection.in_flight() == 0,
            "a reply is missing"
        );
        Ok(received)
    }

    fn receive(&mut self) -> Result<usize> {
        let mut received = 0;
        loop {
            match self.connection.handle_frame(&mut self.recv, &mut self.out, self.now) {
                ClientInput::NeedBytes => break,
                ClientInput::Handled | ClientInput::Ready => {}
                ClientInput::Reply { work, payload, .. } => {
                    ensure!(work as usize == received, "replies are out of order");
                    drop(std::hint::black_box(payload.into_body()));
                    received += 1;
                }
                ClientInput::Closed(reason) => bail!("the connection is over: {reason}"),
                other => bail!("no call here is answered by {other:?}"),
            }
        }
        self.connection.handle_rest(&self.recv, self.now);
        Ok(received)
    }

    /// The requests.
    pub fn out(&mut self) -> &mut SendBuffer {
        &mut self.out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_batch_is_served_again_and_again() {
        let body = Bytes::from(vec![7; 64]);
        let (requests, replies) = frames(64, &body).unwrap();
        let mut server = ServerSide::new().unwrap();
        for _ in 0..3 {
            assert_eq!(server.serve(&requests).unwrap(), 64);
            assert_eq!(take(server.out()), replies);
        }
    }

    #[test]
    fn a_batch_is_called_again_and_again() {
        let body = Bytes::from(vec![7; 64]);
        let mut client = ClientSide::new(64, body).unwrap();
        for _ in 0..3 {
            assert_eq!(client.call().unwrap(), 64);
            assert_eq!(take(client.out()).len(), 64 * (HEADER_BYTES + 64));
        }
    }

    #[test]
    fn frames_are_read_as_often_as_they_are_there() {
        let (requests, replies) = frames(5, &Bytes::from(vec![1; 70_000])).unwrap();
        let mut recv = RecvBuffer::new();
        assert_eq!(decode_all(&mut recv, &requests).unwrap(), 5);
        assert_eq!(decode_all(&mut recv, &replies).unwrap(), 5);
        assert!(recv.is_empty());
    }
}
