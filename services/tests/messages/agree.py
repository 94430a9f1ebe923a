"""Reads messages in both encodings, compares them, and writes both again with the official package."""

import json
import struct
import sys

from google.protobuf import descriptor_pool, duration_pb2, empty_pb2, json_format, message_factory, timestamp_pb2  # noqa: F401


def parts(data):
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


with open(sys.argv[1], "rb") as file:
    given = parts(file.read())
pool = descriptor_pool.Default()
pool.AddSerializedFile(next(given))
Zoo = message_factory.GetMessageClass(pool.FindMessageTypeByName("zoo.v1.Zoo"))
count = 0
with open(sys.argv[2], "wb") as file:
    for protobuf in given:
        text = next(given)
        message = Zoo.FromString(protobuf)
        from_text = json_format.Parse(text, Zoo())
        assert from_text == message, f"message {count}: JSON {text!r} is not {message}"
        theirs = json_format.MessageToJson(message)
        theirs_read, ours_read = json.loads(theirs), json.loads(text)
        for name in theirs_read.keys() | ours_read.keys():
            ours_part, theirs_part = ours_read.get(name), theirs_read.get(name)
            if name == "ratio" and not isinstance(ours_part, str):
                # Several texts of the same length may give one 32-bit float.
                ours_part, theirs_part = (struct.pack("<f", it or 0) for it in (ours_part, theirs_part))
            assert ours_part == theirs_part, f"message {count}, {name}: {ours_part!r} is not {theirs_part!r}"
        for part in (message.SerializeToString(), theirs.encode()):
            file.write(struct.pack("<I", len(part)) + part)
        count += 1
assert count == 10_000, count
print(f"{count} messages agree")
