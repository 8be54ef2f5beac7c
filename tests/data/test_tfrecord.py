"""TFRecords without TensorFlow: the checksum, and the messages in them, also damaged ones."""

from __future__ import annotations

import contextlib
import random
import struct

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_files import message

from polyclock.data.formats import tfrecord


@pytest.mark.parametrize("size", [0, 1, 8, 511, 512, 513, 5000, 123_457, 512 * 8192 + 1])
def test_the_checksum_is_that_of_others(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert tfrecord.crc32c(data) == google_crc32c.value(data)
    assert tfrecord.crc32c(b"123456789") == 0xE3069283


@given(
    st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.lists(st.binary(max_size=300), max_size=20),
)
@settings(max_examples=40, deadline=None)
def test_messages_are_read_as_they_were_meant(floats: list, whole: list, strings: list) -> None:
    data = b"..." + message({"f": np.array(floats, np.float32), "i": np.array(whole, np.int64), "s": strings})
    found = tfrecord.features(data, 3, len(data))
    assert found["f"][0] == tfrecord.FLOATS or not floats
    assert tfrecord.floats(data, found["f"][1]).tolist() == floats
    assert tfrecord.integers(data, found["i"][1]).tolist() == whole
    assert [data[a:b] for a, b in tfrecord.byte_spans(data, found["s"][1])] == strings
    assert [tfrecord.count(data, *found[n]) for n in "fis" if found[n][0]] == [
        len(v) for v in (floats, whole, strings) if v or found["fis"[[floats, whole, strings].index(v)]][0]
    ]


def test_lists_that_are_not_packed() -> None:
    """Each number with a tag of its own, as protocol buffers allow it."""
    numbers = b"".join(b"\x0d" + struct.pack("<f", x) for x in (1.5, -2.0))
    whole = b"\x08\x05" + b"\x0a\x02\x07\xac" + b"\x01"
    assert tfrecord.floats(numbers, (0, len(numbers))).tolist() == [1.5, -2]
    with pytest.raises(ValueError, match="wire type|does not end|passes the end"):
        tfrecord.integers(whole, (0, len(whole)))
    assert tfrecord.integers(b"\x08\x05\x0a\x03\x07\xac\x02", (0, 7)).tolist() == [5, 7, 300]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_messages_are_refused_or_read(data: st.DataObject) -> None:
    """No damage leads to anything but a ValueError, and nothing is read outside the message."""
    whole = bytearray(message({"a": np.arange(5.0), "b": np.arange(3), "c": [b"xy", b"z"]}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = {}
    try:
        found = tfrecord.features(bytes(whole), 0, len(whole))
    except (ValueError, UnicodeDecodeError):
        return
    for kind, (start, stop) in found.values():
        assert 0 <= start <= stop <= len(whole)
        with contextlib.suppress(ValueError):
            assert tfrecord.count(bytes(whole), kind, (start, stop)) <= len(whole)
