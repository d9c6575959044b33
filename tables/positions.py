"""The position S of a partition, kept among its table's records: in the store and in the changelog alike."""

from __future__ import annotations

from typing import Final

APPLIED: Final = b"\x00applied"
"""Key of the position S: the state is exactly the fold of the input topic's records before it."""


def encode_position(offset: int) -> bytes:
    """Record of the position S: its decimal text."""
    return str(offset).encode()


def decode_position(record: bytes | None) -> int | None:
    """Read what `encode_position` made; None for a partition that never applied anything."""
    return None if record is None else int(record)
