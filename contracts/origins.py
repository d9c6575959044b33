"""Where a message came from, and what travels on the leaves topic: header names and kinds."""

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final, NamedTuple

ORIGIN_HEADER: Final = "tidemark-origin"
"""On the leaves topic: the packed `Origin` of the source record."""

KIND_HEADER: Final = "tidemark-kind"
"""On the leaves topic: one of the kinds below. A record without it is a `MESSAGE`."""

MESSAGE: Final = b"message"
"""The raw bytes of one Segment message."""
CLAIM: Final = b"claim"
"""A user leaf's claim of the anonymous leaf that is the record's key (SEMANTICS S1)."""
CONTRIBUTION: Final = b"contribution"
"""An anonymous leaf's own facts, to its owner that is the record's key; empty facts withdraw it."""
ACT: Final = b"act"
"""An operator's act on a pair of leaves (SEMANTICS S1)."""

REDRIVE_HEADER: Final = "tidemark-redrive"
"""On the leaves topic, after the origin: the message comes out of the quarantine; one of the two below. On the
quarantine topic: a redriven message was refused once more."""

WHOLE: Final = b"whole"
"""Nothing knows the message yet."""
ROWS: Final = b"rows"
"""The state has the message already; only its rows are missing."""

_HEAD: Final = Struct(">iqq")
_unpack_head: Final = _HEAD.unpack_from
_topics: Final[dict[bytes, str]] = {}
"""Names of source topics, of which there are a few, by their bytes."""
_new_tuple: Final = tuple.__new__
"""Makes a named tuple in a third of the time that its own constructor takes."""


class Origin(NamedTuple):
    """The source record that a message was read from. A redrive and the leaves topic keep it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Kafka's time of the source record, milliseconds since 1970-01-01 UTC."""

    def text(self) -> str:
        """Return `topic/partition/offset`: lineage as state keeps it."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def pack(self) -> bytes:
        """Return the bytes of a header: partition, offset and time as big-endian integers, then the topic."""
        return _HEAD.pack(self.partition, self.offset, self.timestamp_ms) + self.topic.encode()

    @classmethod
    def unpack(cls, data: bytes) -> "Origin":
        """Read what `pack` made.

        Raises `ValueError` when the bytes are not an origin.
        """
        if len(data) <= _HEAD.size:
            raise ValueError(f"an origin has more than {_HEAD.size} bytes, this has {len(data)}")
        partition, offset, timestamp_ms = _unpack_head(data)
        topic = data[_HEAD.size :]
        text = _topics.get(topic)
        if text is None:
            text = _topics[topic] = topic.decode()
        return _new_tuple(cls, (text, partition, offset, timestamp_ms))


def packer(topic: str, partition: int) -> Callable[[int, int], bytes]:
    """Return what packs the origin of one partition's records, given offset and time, without making an `Origin`."""
    name = topic.encode()
    pack = partial(Struct(f"{_HEAD.format}{len(name)}s").pack, partition)
    return lambda offset, timestamp_ms: pack(offset, timestamp_ms, name)
