"""The seen table: which messages a leaf has been touched by, within the dedupe window (SEMANTICS S3)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, cast

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tables.store import PartitionStore

DAY_MS: Final = 86_400_000

GENERATIONS: Final = 4
"""The window is cut into so many column families by the time of the first application; a family is dropped whole once
its youngest entry is out of the window. More of them waste less disk (a window plus one family is kept), and cost a
look-up more for a message that was never seen."""

KEY_BYTES: Final = 16
"""Size of a key: 128 bits."""

_PREFIX: Final = "seen-"
_OFFSET: Final = struct.Struct(">q")
_ENTRY: Final = struct.Struct(f"{KEY_BYTES}s{_OFFSET.size}s")


def seen_key(leaf: str, message_id: str) -> bytes:
    """The key of a message's effect on a leaf: 128 bits, which at 2.6 billion entries collide with odds of 10^-20."""
    return xxhash.xxh3_128_digest(f"{leaf}\0{message_id}".encode())


def encode_offset(offset: int) -> bytes:
    """The value of an entry: the leaves topic's offset at which the message was first applied."""
    return _OFFSET.pack(offset)


def pack_entries(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One changelog record for all entries of a cycle: keys and values in turn, of fixed sizes.

    The changelog is never compacted, so that a record needs no key of its own for each entry.
    """
    return b"".join(part for entry in entries for part in entry)


def unpack_entries(record: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read what `pack_entries` made."""
    return cast("Iterator[tuple[bytes, bytes]]", _ENTRY.iter_unpack(record))


class SeenMessages:
    """Entries `(leaf, messageId) -> offset of the first application`, in families by age on one partition's store.

    Times are the worker's clock, in milliseconds since 1970-01-01 UTC.
    """

    def __init__(self, store: PartitionStore, window_days: int) -> None:
        self._store = store
        self._window_ms = window_days * DAY_MS
        self._family_ms = -(-self._window_ms // GENERATIONS)
        self._live: list[str] = []
        self._current = -1

    def rotate(self, now_ms: int) -> None:
        """Drop the families that have aged out, and make the one of now. Cheap when there is nothing to do."""
        current = now_ms // self._family_ms
        if current == self._current:
            return
        for family in sorted(self._store.families):
            if family.startswith(_PREFIX) and not self._is_live(int(family[len(_PREFIX) :]), now_ms):
                self._store.drop_family(family)
        self._ensure(current)
        self._live = sorted(
            (family for family in self._store.families if family.startswith(_PREFIX)),
            key=lambda family: -int(family[len(_PREFIX) :]),
        )
        self._current = current

    def find(self, keys: Sequence[bytes]) -> list[int | None]:
        """Offset of the first application of each key, None where it was not seen within the window."""
        found: list[int | None] = [None] * len(keys)
        missing: Sequence[int] = range(len(keys))
        for family in self._live:
            values = self._store.get_many(family, [keys[index] for index in missing])
            still = []
            for index, value in zip(missing, values, strict=True):
                if value is None:
                    still.append(index)
                else:
                    found[index] = _OFFSET.unpack(value)[0]
            missing = still
            if not missing:
                break
        return found

    def restored(
        self, logged: Iterable[tuple[bytes, int]], now_ms: int
    ) -> list[tuple[str, list[tuple[bytes, bytes | None]]]]:
        """What changelog records `(packed entries, first applied at)` write: the aged out ones nothing."""
        by_family: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for packed, applied_ms in logged:
            number = applied_ms // self._family_ms
            if self._is_live(number, now_ms):
                by_family.setdefault(number, []).extend(unpack_entries(packed))
        return [(self._ensure(number), pairs) for number, pairs in by_family.items()]

    def _is_live(self, number: int, now_ms: int) -> bool:
        return (number + 1) * self._family_ms > now_ms - self._window_ms

    def _ensure(self, number: int) -> str:
        family = f"{_PREFIX}{number}"
        if family not in self._store.families:
            self._store.add_family(family)
            self._current = -1
        return family

    def family(self, applied_ms: int) -> str:
        """Where an entry of that time belongs."""
        return self._ensure(applied_ms // self._family_ms)
