"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow: only the bytes asked for."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

LANE = 512  # bytes that one lane of the checksum takes
LANES = 8192  # lanes at a time
BYTES, FLOATS, INTEGERS = 1, 2, 3  # the kinds of list in a Feature, by their field numbers
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers

Span = tuple[int, int]  # first byte and the one behind the last


# ---------------------------------------------------------------- checksum


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


TABLE = _table()
PLAIN = TABLE.tolist()


@lru_cache(64)
def _zeros(power: int) -> np.ndarray:
    """(32,) what 2^power zero bytes make of each bit of a checksum; the checksum is linear in its bits."""
    if power == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return TABLE[bits & 255] ^ (bits >> np.uint32(8))
    half = _zeros(power - 1)
    return _apply(half, half)


def _apply(operator: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros_like(values)
    for bit in range(32):
        out ^= np.where((values >> np.uint32(bit)) & np.uint32(1), operator[bit], np.uint32(0))
    return out


def _shifted(value: int, count: int) -> int:
    """A checksum after `count` zero bytes more."""
    values = np.array([value], np.uint32)
    for power in range(count.bit_length()):
        if count >> power & 1:
            values = _apply(_zeros(power), values)
    return int(values[0])


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """CRC-32C (Castagnoli) of bytes.

    Long ones are cut into lanes that are summed side by side and then joined two by two: a checksum that begins at 0 is
    linear, so the first lane's, moved on by the second's length in zero bytes, and the second's are simply added.
    """
    if len(data) <= LANE:
        value = 0xFFFFFFFF
        for byte in bytes(data):
            value = PLAIN[(value ^ byte) & 255] ^ (value >> 8)
        return value ^ 0xFFFFFFFF
    array = np.frombuffer(data, np.uint8)
    total = 0
    for start in range(0, len(array), LANE * LANES):
        piece = array[start : start + LANE * LANES]
        total = _shifted(total, len(piece)) ^ _block(piece)
    return total ^ _shifted(0xFFFFFFFF, len(array)) ^ 0xFFFFFFFF


def _block(piece: np.ndarray) -> int:
    """The checksum that begins at 0; zero bytes put in front do not change it."""
    lanes = 1 << (-(-len(piece) // LANE) - 1).bit_length()
    filled = np.zeros(lanes * LANE, np.uint8)
    filled[len(filled) - len(piece) :] = piece
    values = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(filled.reshape(lanes, LANE).T):
        values = TABLE[(values ^ column) & np.uint32(255)] ^ (values >> np.uint32(8))
    power = LANE.bit_length() - 1
    while len(values) > 1:
        values = _apply(_zeros(power), values[::2]) ^ values[1::2]
        power += 1
    return int(values[0])


def masked(data: bytes | memoryview) -> int:
    """The checksum as TFRecord files have it: rotated by 15 bits, plus a constant."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---------------------------------------------------------------- the file


class Records:
    """A TFRecord file, mapped and not read: `spans` are the records' places. Threads may read at once.

    The index takes 12 bytes of each record; the checksums of the lengths are compared, those of the data by `sound`.
    Errors: ValueError naming file and byte where a length or its checksum is wrong, or the file ends too early.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spans: list[Span] = []
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                self.data: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        at = 0
        while at < size:
            head = self.data[at : at + 12]
            number = len(self.spans)
            if len(head) < 12:
                raise ValueError(f"{path} ends within the head of record {number}, at byte {size}")
            length, check = struct.unpack("<QI", head)
            if masked(head[:8]) != check:
                raise ValueError(f"{path}, record {number}: the checksum of its length (byte {at}) does not agree")
            start = at + 12
            if start + length + 4 > size:
                here = size - start
                raise ValueError(f"{path} ends within record {number}: {length} bytes are due, {here} are left")
            self.spans.append((start, start + length))
            at = start + length + 4

    def sound(self, number: int) -> bool:
        """Whether the checksum of a record's data agrees; the whole record is read."""
        start, stop = self.spans[number]
        (check,) = struct.unpack("<I", self.data[stop : stop + 4])
        return masked(self.data[start:stop]) == check

    def features(self, number: int) -> dict[str, tuple[int, Span]]:
        """{name: (kind, place of its list)} of the Example that a record holds."""
        try:
            return features(self.data, *self.spans[number])
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}, record {number} is no tf.train.Example: {error}") from None


# ---------------------------------------------------------------- the message


def _varint(data: mmap.mmap | bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError(f"a number at byte {at} does not end")


def _walk(data: mmap.mmap | bytes, start: int, stop: int) -> Iterator[tuple[int, int, Span]]:
    """(field number, wire type, place of its content) of each field of a message."""
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        kind = tag & 7
        begin = at
        if kind == VARINT:
            _, at = _varint(data, at, stop)
        elif kind == DELIMITED:
            length, begin = _varint(data, at, stop)
            at = begin + length
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at > stop:
            raise ValueError(f"a field at byte {begin} passes the end of its message by {at - stop} bytes")
        yield tag >> 3, kind, (begin, at)


def features(data: mmap.mmap | bytes, start: int, stop: int) -> dict[str, tuple[int, Span]]:
    """{name: (kind, place of its list)} of an Example; what a later entry says holds, as in every map."""
    found: dict[str, tuple[int, Span]] = {}
    for number, _, whole in _walk(data, start, stop):
        if number != 1:
            continue
        for entry_number, _, entry in _walk(data, *whole):
            if entry_number == 1:
                name, value = _entry(data, entry)
                found[name] = value
    return found


def _entry(data: mmap.mmap | bytes, entry: Span) -> tuple[str, tuple[int, Span]]:
    name, value = "", (0, (entry[1], entry[1]))
    for number, kind, place in _walk(data, *entry):
        if number == 1 and kind == DELIMITED:
            name = data[place[0] : place[1]].decode("utf-8")
        elif number == 2 and kind == DELIMITED:
            for which, inner, span in _walk(data, *place):
                value = (which, span) if inner == DELIMITED else value
    return name, value


def byte_spans(data: mmap.mmap | bytes, span: Span) -> np.ndarray:
    """(n, 2) int64: places of the strings of a BytesList."""
    places = [place for number, kind, place in _walk(data, *span) if number == 1 and kind == DELIMITED]
    return np.array(places, np.int64).reshape(-1, 2)


def floats(data: mmap.mmap | bytes, span: Span) -> np.ndarray:
    """(n,) float32 of a FloatList, packed or not."""
    parts = [data[a:b] for number, kind, (a, b) in _walk(data, *span) if number == 1 and kind in (DELIMITED, FIXED32)]
    joined = b"".join(parts)
    if len(joined) % 4:
        raise ValueError(f"{len(joined)} bytes of numbers that have 4 each")
    return np.frombuffer(joined, "<f4")


def integers(data: mmap.mmap | bytes, span: Span) -> np.ndarray:
    """(n,) int64 of an Int64List, packed or not."""
    parts = [data[a:b] for number, kind, (a, b) in _walk(data, *span) if number == 1 and kind in (DELIMITED, VARINT)]
    array = np.frombuffer(b"".join(parts), np.uint8)
    ends = np.flatnonzero(array < 128)
    if len(array) and (not len(ends) or ends[-1] != len(array) - 1):
        raise ValueError("the last whole number does not end")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > 10:
        raise ValueError("a whole number of more than ten bytes")
    out = np.zeros(len(ends), np.uint64)
    for k in range(int(lengths.max(initial=0))):
        here = lengths > k
        out[here] |= (array[starts[here] + k] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * k)
    return out.view(np.int64)


def count(data: mmap.mmap | bytes, kind: int, span: Span) -> int:
    """How many values a list has."""
    if kind == BYTES:
        return len(byte_spans(data, span))
    return len(floats(data, span) if kind == FLOATS else integers(data, span))
