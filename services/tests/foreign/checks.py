"""Calls of every kind, and what goes wrong, against the services of the tests: `checks.py HOST PORT`."""

import struct
import sys

from corewire import (
    ATTACHMENT, GO_AWAY, HEADER, ONE_WAY, PING, PONG, RAW, SPEEDY, STREAM_IN, STREAM_OUT,
    Connection, Failure, GoneAway, decode, encode, method_id,
)

HOST, PORT = sys.argv[1], int(sys.argv[2])
ADD, ECHO, SHAPES = ("Subject", "add"), ("Subject", "echo"), ("Subject", "shapes")


def two(left, right):
    return encode(("tuple", "I", "I"), (left, right))


def fails(code, make):
    try:
        made = make()
    except Failure as failure:
        assert failure.code == code, failure
        return failure
    raise AssertionError(f"code {code} was to come, not {made!r}")


def names():
    assert method_id("corewire.Echo", "echo") == 0x46D03C52
    assert method_id("kv.KeyValue", "get") == 0x4636E689
    example = bytes.fromhex("02 00 00 00 61 62 01 07 00 01 00 00 00 01 00 00 00")
    kind = ("tuple", "text", ("option", "H"), ("list", "I"))
    assert encode(kind, ("ab", 7, [1])) == example and decode(kind, example) == ("ab", 7, [1])


def unary(connection):
    assert decode("I", connection.call(ADD, two(1, 2))) == 3
    for size in (0, 1, 65_536, 1_000_000):
        body = bytes(number % 251 for number in range(size))
        assert connection.call(ECHO, body, encoding=RAW, reply=RAW) == body
    plain = ("tuple", "B", "h", "I", "q", "d", "?")
    nested = ("list", ("tuple", ("option", "text"), "bytes", ("map", "H", "text")))
    kind = ("tuple", plain, nested, "text")
    value = (
        (255, -2, 1 << 31, -(1 << 40), 0.5, True),
        [(None, b"\0\1", {}), ("zwölf", b"", {3: "drei", 9: "neun"})],
        "ß",
    )
    assert decode(kind, connection.call(SHAPES, encode(kind, value))) == value
    assert decode("Q", connection.call(("Subject", "after"), encode("Q", 1))) == 1


def failures(connection):
    status = fails(5, lambda: connection.call(("Subject", "fail"), encode("B", 5)))
    assert (status.text, status.details, status.retry_after_ms) == ("as the test wants", b"details", 1234)
    assert not status.refused
    assert not fails(11, lambda: connection.call(ADD, two(0xFFFFFFFF, 1))).refused
    assert not fails(3, lambda: connection.call(ADD, two(1, 2) + b"x")).refused
    assert not fails(3, lambda: connection.call(ADD, b"\1\0")).refused
    assert not fails(13, lambda: connection.call(("Subject", "panic"), b"\0")).refused
    refused = [
        lambda: connection.call(("Subject", "nothing"), b""),
        lambda: connection.call(ADD, two(1, 2), encoding=RAW),
        lambda: connection.call(ADD, two(1, 2), encoding=SPEEDY | 1 << 4),
        lambda: connection.call(ADD, two(1, 2), flags=STREAM_OUT),
        lambda: connection.call(("Feed", "count"), encode("Q", 1)),
        lambda: connection.call(("Feed", "touch"), encode("Q", 1)),
    ]
    for make in refused:
        assert fails(12, make).refused
    assert fails(4, lambda: connection.call(ADD, two(1, 2), timeout_us=0)).refused
    assert not fails(4, lambda: connection.call(("Subject", "never"), b"", timeout_us=20_000)).refused
    call = connection.request(7, ("Subject", "never"), b"")
    connection.cancel(call)
    fails(1, lambda: connection.reply(call))
    connection.cancel(call)
    assert decode("I", connection.call(ADD, two(2, 2), slot=7)) == 4


def in_any_order(connection):
    slow = connection.request(1, ("Subject", "after"), encode("Q", 100))
    assert decode("I", connection.call(ADD, two(1, 1), slot=2)) == 2
    assert decode("Q", connection.reply(slow)[0]) == 100


def one_way(connection):
    connection.request(0, ("Subject", "touch"), encode("Q", 5), flags=ONE_WAY)
    # Of another kind, and to nobody: both are dropped without a word.
    connection.request(0, ADD, two(1, 2), flags=ONE_WAY)
    connection.request(0, ("Subject", "touch"), encode("Q", 5), flags=ONE_WAY | STREAM_OUT)
    connection.request(0, ("Subject", "nothing"), b"", flags=ONE_WAY)
    assert decode("I", connection.call(ADD, two(1, 2))) == 3


def server_streams(connection):
    call = connection.request(0, ("Feed", "count"), encode("Q", 1000), flags=STREAM_OUT)
    assert [decode("Q", body) for body in connection.messages(call)] == list(range(1000))
    # Ten times the credit that the hello gave.
    arguments = encode(("tuple", "Q", "I"), (100, 30_000))
    call = connection.request(0, ("Feed", "flood"), arguments, flags=STREAM_OUT)
    assert sum(len(body) for body in connection.messages(call, RAW)) == 3_000_000
    call = connection.request(0, ("Feed", "silent"), b"", flags=STREAM_OUT)
    connection.cancel(call)
    fails(1, lambda: list(connection.messages(call)))


def client_streams(connection):
    for ends in ("flag", "frame"):
        call = connection.request(3, ("Feed", "sum"), encode("Q", 5), flags=STREAM_IN)
        for number in range(100):
            connection.message(call, encode("Q", number), last=ends == "flag" and number == 99)
        if ends == "frame":
            connection.end(call)
        assert decode("Q", connection.reply(call)[0]) == 5 + sum(range(100))
    # Answered before this side has ended: then it ends, and the slot is free (REQ-63).
    call = connection.request(3, ("Feed", "sum_some"), encode("Q", 1), flags=STREAM_IN)
    connection.message(call, encode("Q", 9))
    assert decode("Q", connection.reply(call)[0]) == 9
    connection.end(call)
    assert decode("I", connection.call(ADD, two(1, 2), slot=3)) == 3
    # A message in an encoding that nobody here reads is not taken for plain (REQ-14).
    call = connection.request(3, ("Feed", "sum"), encode("Q", 0), flags=STREAM_IN)
    connection.message(call, encode("Q", 1), encoding=SPEEDY | 2 << 4, last=True)
    assert "zstd" in fails(12, lambda: connection.reply(call)).text


def both_ways(connection):
    both = STREAM_IN | STREAM_OUT
    call = connection.request(4, ("Feed", "double"), encode("Q", 1), flags=both)
    answers = connection.messages(call)
    for number in range(10):
        connection.message(call, encode("Q", number))
        assert decode("Q", next(answers)) == 2 * number + 1
    connection.end(call)
    assert list(answers) == []
    call = connection.request(4, ("Feed", "echo"), b"", flags=both)
    connection.message(call, b"raw", encoding=RAW, last=True)
    assert list(connection.messages(call, RAW)) == [b"raw"]


def around_the_body(connection):
    call = connection.request(
        5, ("Feed", "report"), b"", flags=STREAM_IN, metadata=[("word", b"hello")],
        attachment=b"12345", priority=6, timeout_us=10_000_000,
    )
    connection.end(call)
    body, block, attachment = connection.reply(call)
    count, came = decode(("tuple", "Q", "text"), body)
    assert (count, came) == (0, "hello 5 6 true"), (count, came)
    assert block == b"\6answer\7\0replied" and attachment == b"beside", (block, attachment)


def pings(connection):
    connection.send(HEADER.pack(0, PING, 0, 0, 0, 7, 9))
    kind, _, _, _, low, high, _ = connection.frame()
    assert (kind, low, high) == (PONG, 7, 9)


def early():
    """Sixteen calls without waiting for the server's hello (REQ-7)."""
    connection = Connection(HOST, PORT)
    calls = [connection.request(slot, ADD, two(slot, 1)) for slot in range(16)]
    sums = {}
    for _ in calls:
        kind, _, _, code, call, _, body = connection.frame()
        sums[call] = decode("I", body)
    assert sums == {call: slot + 1 for slot, call in enumerate(calls)}
    assert struct.unpack("<I", connection.hello[1])[0] >= 65_536
    assert 9 in connection.hello, "a server says the connection's id"


def ends():
    """A rule that is broken is named, and the connection ends (REQ-60); a client that leaves is let go (REQ-75)."""
    faults = [
        (HEADER.pack(0, 77, 0, 0, 0, 0, 0), 10),
        (HEADER.pack(0, PING, 1, 0, 0, 0, 0), 11),
        (HEADER.pack(1 << 31, 1, 0, 0, 3, 0, 0), 12),
        (HEADER.pack(0, 2, 0, 0, 0, 0, 0), 20),
        (HEADER.pack(0, 3, 1, 0, 0, 0, 0), 26),
        (HEADER.pack(1025, GO_AWAY, 0, 0, 0, 0, 0), 16),
    ]
    for frame, rule in faults:
        connection = Connection(HOST, PORT)
        connection.call(ECHO, b"before", encoding=RAW, reply=RAW)
        connection.send(frame)
        try:
            connection.frame()
        except GoneAway as gone:
            assert (gone.rule, gone.accepted) == (rule, 1), gone
        assert connection.socket.recv(1) == b""
    connection = Connection(HOST, PORT)
    connection.call(ECHO, b"before", encoding=RAW, reply=RAW)
    connection.go_away()
    assert connection.socket.recv(1) == b""
    connection = Connection(HOST, PORT, greet=False)
    connection.send(b"\xc7WRE\2\7")
    connection.read_hello()
    try:
        connection.frame()
    except GoneAway as gone:
        assert gone.rule == 2, gone


def main():
    shared = Connection(HOST, PORT)
    assert ATTACHMENT == 0x40
    names()
    checks = [
        unary, failures, in_any_order, one_way, server_streams, client_streams, both_ways, around_the_body, pings,
    ]
    for check in checks:
        check(shared)
        print(check.__name__)
    for check in (early, ends):
        check()
        print(check.__name__)


main()
