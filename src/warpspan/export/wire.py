"""What goes over the channel between a process and its export helper: frames, both ways.

A frame is a header (length of the payload, kind, number of the batch) and a payload, which
`marshal` made: both ends are the same interpreter, and nothing in Python turns plain values into
bytes in less time.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import Any

HEADER = struct.Struct("!IBQ")

#: Longer payloads are neither sent nor read: the official exporters send no larger requests.
MAX_PAYLOAD = 64 << 20

# To the helper. A batch of a signal goes over in one or more slices, of which one says LAST.
SETUP, STOP = 1, 2
TRACES, METRICS, LOGS = 3, 4, 5
LAST = 0x80
# From the helper: it can export, it can't; the export of a batch begins, was made, has failed.
READY, REFUSED, BEGUN, DONE, FAILED = 16, 17, 18, 19, 20

SIGNALS = {TRACES: "traces", METRICS: "metrics", LOGS: "logs"}

# The newest: what occurs more than once, keys above all, is written once, in less than half the time.
_VERSION = marshal.version


class WireError(Exception):
    """The other end sent what no frame can be."""


def dumps(value: Any) -> bytes:
    """Plain values (None, bool, int, float, str, bytes, tuple, list, dict) as bytes."""
    return marshal.dumps(value, _VERSION)


def loads(payload: bytes) -> Any:
    """The values that `dumps` got."""
    return marshal.loads(payload)  # noqa: S302 - from our other end, over a private channel


def frame(kind: int, batch: int = 0, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return HEADER.pack(len(payload), kind, batch) + payload


def parse(header: bytes) -> tuple[int, int, int]:
    """Length of the payload, kind, and number of the batch.

    Raises:
        WireError: no frame is that long.
    """
    length, kind, batch = HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        raise WireError(f"a frame of {length} bytes")
    return length, kind, batch


def take(received: bytearray) -> tuple[int, int, bytes] | None:
    """Kind, batch and payload of the first frame, taken out; None where it is not whole yet.

    Raises:
        WireError: it is none.
    """
    if len(received) < HEADER.size:
        return None
    length, kind, batch = parse(bytes(received[: HEADER.size]))
    if len(received) < HEADER.size + length:
        return None
    payload = bytes(received[HEADER.size : HEADER.size + length])
    del received[: HEADER.size + length]
    return kind, batch, payload


def read_exactly(channel: socket.socket, size: int) -> bytes | None:
    """So many bytes, or None where the other end is gone before that."""
    parts = bytearray(size)
    view, filled = memoryview(parts), 0
    while filled < size:
        try:
            received = channel.recv_into(view[filled:])
        except ConnectionError:
            return None
        if not received:
            return None
        filled += received
    return bytes(parts)
