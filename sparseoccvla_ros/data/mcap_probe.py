"""Tells how an MCAP file's messages are encoded, for files that no ROS reader opens (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER_RECORD_BYTES = 1 + 8 + 20  # opcode, length, content
_OPCODE_FOOTER, _OPCODE_CHANNEL = 0x02, 0x04


def mcap_encodings(path: Path) -> set[str]:
    """Message encodings of the channels that the file's summary lists, such as ``cdr``, ``protobuf`` or ``json``.

    Empty where there is no readable summary (truncated, damaged, not MCAP at all): the reader proper then says what is
    wrong.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open('rb') as file:
        size = file.seek(0, 2)
        if size < 2 * len(_MAGIC) + _FOOTER_RECORD_BYTES:
            return set()
        file.seek(-_FOOTER_RECORD_BYTES - len(_MAGIC), 2)
        end = file.read()
        (summary_start,) = struct.unpack_from('<Q', end, 9)
        if end[0] != _OPCODE_FOOTER or not end.endswith(_MAGIC) or not 0 < summary_start < size:
            return set()
        file.seek(summary_start)
        summary = BytesIO(file.read())
    encodings: set[str] = set()
    try:
        while len(head := summary.read(9)) == 9 and head[0] != _OPCODE_FOOTER:
            content = summary.read(struct.unpack('<Q', head[1:])[0])
            if head[0] == _OPCODE_CHANNEL:
                encodings.add(_channel_encoding(content))
    except (struct.error, OverflowError):  # damaged lengths
        return set()
    return encodings


def _channel_encoding(content: bytes) -> str:
    """A channel record is: id, schema id (uint16 each), topic, message encoding (strings with a uint32 length), ..."""
    (topic_bytes,) = struct.unpack_from('<I', content, 4)
    start = 8 + topic_bytes
    (encoding_bytes,) = struct.unpack_from('<I', content, start)
    return content[start + 4 : start + 4 + encoding_bytes].decode('utf-8', errors='replace')
