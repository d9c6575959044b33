"""The leaves table: keys and records of one leaf's facts.

A leaf has a small record, which every call moves, and a large one, which identify, group and Engage calls touch: nine
calls in ten neither read, write nor log the large one.
"""

from __future__ import annotations

from typing import Final

FAMILY: Final = "leaves"
"""Column family of the leaves table."""

FIELDS_PREFIX: Final = b"f"


def counters_key(leaf: str) -> bytes:
    """Key of the small record, `contracts.records.LeafCounters`."""
    return b"c" + leaf.encode()


def fields_key(leaf: str) -> bytes:
    """Key of the large record, `contracts.records.LeafFields`."""
    return FIELDS_PREFIX + leaf.encode()


def leaf_of(key: bytes) -> str:
    """The leaf that a record's key belongs to."""
    return key[1:].decode()
