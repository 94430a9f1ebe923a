//! Netlink messages: built, sent, and read until the kernel says that it is done.
//!
//! Netlink is a protocol between a process and its own kernel and is therefore in the host's byte order; this file is
//! the only place in the tool that says so.
#![allow(clippy::host_endian_bytes, reason = "netlink is defined in the host's byte order")]

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt;
use std::time::Duration;

use crate::host::{Fault, FaultKind};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const HEADER_BYTES: usize = 16;

/// How long to wait for a reply of the kernel at most. It replies at once; the limit turns a lost reply into an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The bytes of a number, as netlink encodes it.
#[cfg(test)]
pub(super) fn bytes_of(value: u32) -> [u8; 4] {
    value.to_ne_bytes()
}

/// The number in an attribute of one, two, four or eight bytes.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    match *value {
        [a] => Some(u64::from(a)),
        [a, b] => Some(u64::from(u16::from_ne_bytes([a, b]))),
        [a, b, c, d] => Some(u64::from(u32::from_ne_bytes([a, b, c, d]))),
        _ => value.try_into().ok().map(u64::from_ne_bytes),
    }
}

/// The attributes of a message, one after the other. Stops at the first that does not fit.
pub(super) struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The attributes of a generic netlink reply, whose body begins with four bytes of command and version.
    pub(super) fn of_generic(body: &'a [u8]) -> Self {
        Self(body.get(4..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A request under construction, or a bare list of attributes.
pub(super) struct Message {
    kind: u16,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A bare list of attributes, to be nested into a message.
    pub(super) fn attributes() -> Self {
        Self { kind: 0, body: Vec::new() }
    }

    /// A generic netlink request.
    pub(super) fn generic(family: u16, command: u8, version: u8) -> Self {
        Self { kind: family, body: vec![command, version, 0, 0] }
    }

    /// A route request about the link with this index.
    pub(super) fn get_link(kind: u16, index: u32) -> Self {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Self { kind, body }
    }

    pub(super) fn put(&mut self, attribute: u16, value: &[u8]) {
        // Attributes here are numbers and interface names; none comes near the field's limit.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.body.extend(length.to_ne_bytes());
        self.body.extend(attribute.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    pub(super) fn put_u32(&mut self, attribute: u16, value: u32) {
        self.put(attribute, &value.to_ne_bytes());
    }

    pub(super) fn put_str(&mut self, attribute: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(attribute, &bytes);
    }

    pub(super) fn put_nested(&mut self, attribute: u16, inner: &Self) {
        self.put(attribute | NLA_F_NESTED, &inner.body);
    }

    fn to_bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.body);
        bytes
    }
}

/// One netlink socket.
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    pub(super) fn open(protocol: isize, what: &str) -> Result<Self, Fault> {
        let fail = |error: std::io::Error| Fault::from_io(what, &error);
        let mut socket = Socket::new(protocol).map_err(fail)?;
        socket.bind_auto().map_err(fail)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail)?;
        // Old kernels lack extended acknowledgements; then errors come without a message.
        let _ = socket.set_ext_ack(true);
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(|error| fail(error.into()))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a generic netlink family on this kernel.
    pub(super) fn family(&mut self, name: &str, what: &str) -> Result<u16, Fault> {
        let mut message = Message::generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
        message.put_str(2, name);
        let answers = self.request(message, what)?;
        answers
            .iter()
            .flat_map(|answer| Attrs::of_generic(answer))
            .find(|(attribute, _)| *attribute == 1)
            .and_then(|(_, value)| number(value))
            .and_then(|id| u16::try_from(id).ok())
            .ok_or_else(|| Fault::new(format!("{what}: family {name}"), FaultKind::Missing))
    }

    /// Sends one request; returns the replies before the acknowledgement.
    pub(super) fn request(&mut self, message: Message, what: &str) -> Result<Vec<Vec<u8>>, Fault> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK, what)
    }

    /// Sends a request about many objects; returns the replies before the end mark.
    ///
    /// The kernel sends dump replies of these families without the multi-part flag (seen on 6.18), so that flag says
    /// nothing: only the end mark ends a dump.
    pub(super) fn dump(&mut self, message: Message, what: &str) -> Result<Vec<Vec<u8>>, Fault> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP, what)
    }

    #[allow(clippy::needless_pass_by_value, reason = "a message is sent once")]
    fn exchange(
        &mut self,
        message: Message,
        flags: u16,
        what: &str,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        let fail = |error: std::io::Error| Fault::from_io(what, &error);
        self.sequence += 1;
        self.socket.send(&message.to_bytes(flags, self.sequence), 0).map_err(fail)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(fail)?;
            let mut rest = datagram.as_slice();
            while let Some((header, body, next)) = split(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    continue;
                }
                match header.kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => return error_of(&header, body, what).map_or(Ok(answers), Err),
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message of a datagram: its header, its body, and what follows.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let flags = u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((
        Header { kind, flags, sequence },
        body,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// The error of an acknowledgement; `None` when it reports success.
fn error_of(header: &Header, body: &[u8], what: &str) -> Option<Fault> {
    let code = i32::from_ne_bytes(body.get(0..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let words = (header.flags & NLM_F_ACK_TLVS != 0).then(|| {
        // The error is followed by the request, whole or only its header; then the attributes; number 1 is the
        // message.
        let request = split(body.get(4..)?).map_or(0, |(_, request, _)| request.len());
        let skip = 4
            + HEADER_BYTES
            + if header.flags & NLM_F_CAPPED != 0 { 0 } else { request.next_multiple_of(4) };
        let (_, text) = Attrs::new(body.get(skip..)?).find(|(attribute, _)| *attribute == 1)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    });
    Some(Fault::from_errno(what, code.saturating_neg(), words.flatten()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_of_an_error_are_found_behind_the_request() {
        let request = Message::generic(20, 1, 1).to_bytes(0, 1);
        let mut body = (-22_i32).to_ne_bytes().to_vec();
        body.extend(&request);
        let mut words = Message::attributes();
        words.put_str(1, "too many channels");
        body.extend(&words.body);
        let header = Header { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, sequence: 1 };
        let text = error_of(&header, &body, "set").map(|fault| fault.to_string());
        assert_eq!(text.as_deref(), Some("set: refused with EINVAL: too many channels"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = bytes.as_slice();
            while let Some((header, body, next)) = split(rest) {
                Attrs::of_generic(body).for_each(|(_, value)| { let _ = number(value); });
                let _ = error_of(&header, body, "x");
                if next.len() == rest.len() { break; }
                rest = next;
            }
            prop_assert!(Attrs::new(&bytes).count() <= bytes.len());
        }
    }
}
