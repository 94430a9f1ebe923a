"""A Corewire client in Python, written from docs/PROTOCOL.md alone, with nothing but the standard library.

It is small and blocking: one connection, one thread. It shows what a client in another language needs, and
`checks.py` runs it against a server. Numbers in comments are those of the document's requirements.
"""

import socket
import struct

MAGIC = b"\xc7WRE"
REQUEST, REPLY, DATA, END, CREDIT, CANCEL, PING, PONG, GO_AWAY = range(1, 10)
ONE_WAY, STREAM_IN, STREAM_OUT, TIMEOUT, TRACE, METADATA, ATTACHMENT = (1 << bit for bit in range(7))
REFUSED, OPENING, RETRY_AFTER = 1, 2, 4
RAW, SPEEDY = 0, 1
HEADER = struct.Struct("<IBBBBII")
STREAM_CREDIT, CONNECTION_CREDIT = 65536, 262144


def method_id(service, method):
    """FNV-1a over the two names (REQ-30, REQ-83)."""
    value = 0x811C9DC5
    for byte in f"{service}/{method}".encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


# The layout of values in speedy (REQ-85). A type is a letter of `struct`, or a pair or tuple that begins with a word.

def encode(kind, value):
    if isinstance(kind, str):
        if kind == "text":
            return encode("bytes", value.encode())
        if kind == "bytes":
            return struct.pack("<I", len(value)) + value
        return struct.pack("<" + kind, value)
    name, *rest = kind
    if name == "option":
        return b"\0" if value is None else b"\1" + encode(rest[0], value)
    if name == "list":
        return struct.pack("<I", len(value)) + b"".join(encode(rest[0], item) for item in value)
    if name == "map":
        entries = (encode(rest[0], key) + encode(rest[1], value[key]) for key in value)
        return struct.pack("<I", len(value)) + b"".join(entries)
    assert name == "tuple"
    return b"".join(encode(item, part) for item, part in zip(rest, value, strict=True))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        part = self.data[self.at:self.at + count]
        assert len(part) == count, "the body is too short"
        self.at += count
        return part

    def number(self, letter):
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]

    def value(self, kind):
        if isinstance(kind, str):
            if kind == "text":
                return self.value("bytes").decode()
            if kind == "bytes":
                return self.take(self.number("I"))
            return self.number(kind)
        name, *rest = kind
        if name == "option":
            return self.value(rest[0]) if self.number("B") else None
        if name == "list":
            return [self.value(rest[0]) for _ in range(self.number("I"))]
        if name == "map":
            return {self.value(rest[0]): self.value(rest[1]) for _ in range(self.number("I"))}
        assert name == "tuple"
        return tuple(self.value(item) for item in rest)


def decode(kind, data):
    reader = Reader(data)
    value = reader.value(kind)
    assert reader.at == len(data), "bytes are left over"
    return value


def metadata_block(entries):
    """REQ-20."""
    return b"".join(
        bytes([len(key)]) + key.encode() + struct.pack("<H", len(value)) + value for key, value in entries
    )


class Failure(Exception):
    """A status that is not Ok (REQ-42)."""

    def __init__(self, code, flags, text, details, retry_after_ms):
        super().__init__(f"code {code}: {text}")
        self.code, self.text, self.details, self.retry_after_ms = code, text, details, retry_after_ms
        self.refused = bool(flags & REFUSED)


class GoneAway(Exception):
    def __init__(self, accepted, rule, text):
        super().__init__(f"rule {rule}: {text}")
        self.accepted, self.rule = accepted, rule


class Connection:
    def __init__(self, host, port, greet=True):
        self.socket = socket.create_connection((host, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.hello, self.generation, self.unread = b"", None, 0, {}
        if greet:
            self.send(self.own_hello())

    def send(self, data):
        self.socket.sendall(data)

    @staticmethod
    def own_hello():
        """REQ-1 to REQ-5."""
        limits = [(1, 1 << 24), (2, 64), (3, STREAM_CREDIT), (4, CONNECTION_CREDIT), (5, 8192)]
        records = b"".join(struct.pack("<HHI", number, 4, value) for number, value in limits)
        records += struct.pack("<HHH", 6, 2, 0b11) + struct.pack("<HHH", 7, 2, 0)
        return MAGIC + struct.pack("<BBH", 1, 0, len(records)) + records

    def exactly(self, count):
        while len(self.buffer) < count:
            part = self.socket.recv(65536)
            if not part:
                raise EOFError("the server closed")
            self.buffer += part
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_hello(self):
        magic, version, role, length = struct.unpack("<4sBBH", self.exactly(8))
        assert (magic, version, role) == (MAGIC, 1, 1), (magic, version, role)
        records, reader, last = {}, Reader(self.exactly(length)), 0
        while reader.at < length:
            number, size = reader.number("H"), reader.number("H")
            assert number > last, "records ascend (REQ-4)"
            records[number], last = reader.take(size), number
        self.hello = records

    def frame(self):
        """The next frame that is not a ping's or a grant's business."""
        if self.hello is None:
            self.read_hello()
        while True:
            size, kind, flags, encoding, detail, call, aux = HEADER.unpack(self.exactly(16))
            payload = self.exactly(size)
            if kind == PING:
                self.send(HEADER.pack(0, PONG, 0, 0, 0, call, aux))
            elif kind == GO_AWAY:
                raise GoneAway(call, aux, payload.decode())
            elif kind != CREDIT:
                return kind, flags, encoding, detail, call, aux, payload

    def request(self, slot, method, body, flags=0, encoding=SPEEDY, timeout_us=None, metadata=(), attachment=b"", priority=3):
        """Sends a request and returns its call id (REQ-31, REQ-32)."""
        self.generation = (self.generation + 1) & 0xFFFF
        call = 0 if flags & ONE_WAY else slot | self.generation << 16
        fields = b""
        if timeout_us is not None:
            flags |= TIMEOUT
            fields += struct.pack("<Q", timeout_us)
        if attachment:
            flags |= ATTACHMENT
            fields += struct.pack("<I", len(attachment))
        if metadata:
            flags |= METADATA
            block = metadata_block(metadata)
            fields += struct.pack("<H", len(block)) + block
        payload = fields + body + attachment
        head = HEADER.pack(len(payload), REQUEST, flags, encoding, priority, call, method_id(*method))
        self.send(head + payload)
        return call

    def message(self, call, body, encoding=SPEEDY, last=False):
        self.send(HEADER.pack(len(body), DATA, int(last), encoding, 0, call, 0) + body)

    def end(self, call):
        self.send(HEADER.pack(0, END, 0, 0, 0, call, 0))

    def cancel(self, call, reason=0):
        self.send(HEADER.pack(0, CANCEL, 0, 0, reason, call, 0))

    def go_away(self):
        self.send(HEADER.pack(0, GO_AWAY, 0, 0, 0, 0, 0))

    @staticmethod
    def fields(flags, payload):
        """What stands around a reply's body (REQ-40)."""
        reader = Reader(payload)
        retry = reader.number("I") if flags & RETRY_AFTER else None
        attached = reader.number("I") if flags & ATTACHMENT else 0
        block = reader.take(reader.number("H")) if flags & METADATA else b""
        body = payload[reader.at:len(payload) - attached]
        return retry, block, body, payload[len(payload) - attached:]

    @staticmethod
    def failure(code, flags, body, retry):
        reader = Reader(body)
        text = reader.take(reader.number("H")).decode()
        return Failure(code, flags, text, body[reader.at:], retry)

    def reply(self, call, encoding=SPEEDY):
        """The body of a call's reply, with its metadata and attachment; raises a `Failure`."""
        kind, flags, got, code, answered, _, payload = self.frame()
        assert (kind, answered) == (REPLY, call), (kind, answered)
        retry, block, body, attachment = self.fields(flags, payload)
        if code:
            raise self.failure(code, flags, body, retry)
        assert got == encoding, got
        return body, block, attachment

    def call(self, method, body, slot=0, encoding=SPEEDY, reply=SPEEDY, **options):
        return self.reply(self.request(slot, method, body, encoding=encoding, **options), reply)[0]

    def grant(self, call, cost):
        """Gives back what was consumed, to the stream and to the connection (REQ-52, REQ-71)."""
        for key, flag, initial in ((call, 0, STREAM_CREDIT), (0, 1, CONNECTION_CREDIT)):
            place = ("connection",) if flag else call
            self.unread[place] = self.unread.get(place, 0) + cost
            if self.unread[place] >= initial // 2:
                self.send(HEADER.pack(0, CREDIT, flag, 0, 0, key, self.unread.pop(place)))

    def messages(self, call, encoding=SPEEDY):
        """The messages of a server's stream, up to its end; raises a `Failure` (REQ-44, REQ-50, REQ-51)."""
        while True:
            kind, flags, got, code, of, _, payload = self.frame()
            assert of == call, of
            if kind == REPLY and flags & OPENING:
                assert code == 0
            elif kind == DATA:
                assert (flags, got) == (0, encoding), (flags, got)
                yield payload
                self.grant(call, len(payload) + 16)
            elif kind == END and code == 0:
                return
            else:
                block = 0
                if kind == END and flags & METADATA:
                    block = 2 + struct.unpack_from("<H", payload)[0]
                retry, _, body, _ = self.fields(flags, payload) if kind == REPLY else (None, b"", payload[block:], b"")
                raise self.failure(code, flags if kind == REPLY else 0, body, retry)
