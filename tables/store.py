"""The RocksDB database of one partition: column families, changelog positions inside, and what is held before it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    MemtableFactory,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

POSITIONS: Final = "default"
"""Column family of the changelog positions: topic -> next offset to restore from."""

CACHE_BYTES: Final = 64 * 1024 * 1024
"""Block cache of all stores of the process, however many partitions it owns. Indexes and filters are in it as well, so
that memory does not grow with the state."""

INDEX_BLOCK_BYTES: Final = 4096
"""Indexes and filters are cut into blocks of this size, of which a look-up needs one each. Whole ones grow with their
files: then a look-up reads megabytes where the cache has no room for all of them."""

WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Memtable of one column family; two may exist while one is flushed."""

BULK_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""Memtable of one column family while restoring: fewer and larger files to compact."""

BULK_BUFFERS_MAX: Final = 4
"""Such memtables of one family at most; writing waits for one of them to be flushed then."""

HELD_BYTES_MAX: Final = 2 * 1024 * 1024
"""What a store holds back before it is written to RocksDB; as much again, written already, is held to be read."""

PAIR_BYTES: Final = 170
"""What a pair takes beside the bytes of its key and value: two objects and places in two dictionaries."""

MEMTABLE_BLOOM_RATIO: Final = 0.1
"""Part of a memtable for a Bloom filter: most messages were never seen, and a look into a skip list tells it slowly."""

_SIZES: Final = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
"""RocksDB's properties of a column family's size, in bytes; reading them takes microseconds."""

_CACHE: Final = Cache(CACHE_BYTES)

_ABSENT: Final = object()

_OFFSET: Final = struct.Struct(">q")


class PartitionStore:
    """Key-value state of one partition on local disk, with the changelog position it stands for.

    Everything that a cycle changes, and the position that its changelog transaction reached, is one step: after a
    crash the store is exactly the fold of its changelog before that position. The store is a cache of the changelog: it
    may be deleted at any time while no worker has it open, and is then restored from Kafka. So nothing has to be on
    disk at once: steps are held in memory, where what is written often is found and overwritten, and go to RocksDB some
    thousand pairs at a time, as one batch and without a write-ahead log. Column families are flushed together. A crash
    loses some of the last steps, whole ones, which are restored from the changelog.
    """

    def __init__(self, path: Path, families: Sequence[str]) -> None:
        """Open or create the database in directory `path` with at least the column families named."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._is_bulk = False
        self._open(families)

    def _open(self, families: Iterable[str]) -> None:
        path = self.path
        existing = set(Rdict.list_cf(str(path))) if (path / "CURRENT").exists() else set()
        names = existing.union(families) - {POSITIONS}
        self._db = Rdict(
            str(path),
            options=self._options(),
            column_families={name: self._options() for name in sorted(names)},
        )
        options = WriteOptions()
        options.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, stubbed as a method
        self._db.set_write_options(options)
        self._families = {name: _Family(self._db, name) for name in names}
        self._positions: dict[bytes, bytes] = {}
        """Those not yet written."""
        self._held_bytes = 0

    def reopen(self, *, bulk: bool) -> None:
        """Open anew, for writing in bulk or for use: in bulk, reads cost what a look through everything costs."""
        families = self.families
        self.close()
        self._is_bulk = bulk
        self._open(families)

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        if self._is_bulk:
            # Unsorted until it is flushed, which background threads do.
            options.set_memtable_factory(MemtableFactory.vector())
            options.set_allow_concurrent_memtable_write(False)
        else:
            options.set_memtable_whole_key_filtering(True)
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO)
        # Files of about one size are merged: a record is rewritten a few times. By levels, which change all over where
        # keys are spread evenly, it is many times; a look into some more files costs less, most being told by filters.
        options.set_compaction_style(DBCompactionStyle.universal())
        options.set_atomic_flush(True)
        options.set_write_buffer_size(BULK_BUFFER_BYTES if self._is_bulk else WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(BULK_BUFFERS_MAX if self._is_bulk else 2)
        options.set_max_open_files(256)
        # Not sixteen threads for the files of a small store, with as many stores as there are partitions.
        options.set_max_file_opening_threads(1)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        table = BlockBasedOptions()
        table.set_block_cache(_CACHE)
        table.set_cache_index_and_filter_blocks(True)
        table.set_bloom_filter(10, False)
        table.set_index_type(BlockBasedIndexType.two_level_index_search())
        table.set_partition_filters(True)
        table.set_metadata_block_size(INDEX_BLOCK_BYTES)
        table.set_pin_top_level_index_and_filter(True)
        options.set_block_based_table_factory(table)
        return options

    @property
    def families(self) -> frozenset[str]:
        """Names of the column families, without the one of the positions."""
        return frozenset(self._families)

    def position(self, changelog: str) -> int | None:
        """Next offset of `changelog` that this store has not seen; None for a store that never saw any."""
        key = changelog.encode()
        raw = self._positions.get(key) or cast("bytes | None", self._db.get(key))
        return None if raw is None else cast("int", _OFFSET.unpack(raw)[0])

    def size_bytes(self) -> int:
        """What the store takes on disk and in write buffers, as RocksDB estimates it."""
        databases = [self._db, *(family.database for family in self._families.values())]
        return sum(database.property_int_value(name) or 0 for database in databases for name in _SIZES)

    def get_many(
        self, family: str, keys: Sequence[bytes], above: Sequence[Mapping[bytes, bytes | None]] = ()
    ) -> list[bytes | None]:
        """Values in the order of `keys`, None where absent.

        What stands in one of `above`, in the first that has the key, is taken in the place of what is stored.
        """
        return self._families[family].get_many(keys, above)

    def keys(self, family: str, start: bytes, end: bytes) -> Iterator[bytes]:
        """Keys from `start` on and before `end`, in order, as of now."""
        self._write()
        for each in self._families[family].database.keys(from_key=start):
            key = cast("bytes", each)
            if key >= end:
                return
            yield key

    def add_family(self, name: str) -> None:
        """Create a column family."""
        self._db.create_column_family(name, self._options())
        self._families[name] = _Family(self._db, name)

    def drop_family(self, name: str) -> None:
        """Drop a column family with all that it holds; its space is given back at once."""
        del self._families[name]
        self._db.drop_column_family(name)

    def apply(
        self,
        writes: Iterable[tuple[str, Iterable[tuple[bytes, bytes | None]]]],
        positions: Mapping[str, int],
    ) -> None:
        """Take `(family, pairs)` and the changelog positions in one step; a value of None deletes."""
        step = [(self._families[family], dict(pairs)) for family, pairs in writes]
        for family, pairs in step:
            self._held_bytes += family.put(pairs)
        self._positions.update((changelog.encode(), _OFFSET.pack(offset)) for changelog, offset in positions.items())
        if self._held_bytes > HELD_BYTES_MAX:
            self._write()

    def _write(self) -> None:
        """Give RocksDB what is held back, in one atomic batch."""
        batch = WriteBatch(raw_mode=True)
        for family in self._families.values():
            family.write(batch)
        for changelog, offset in self._positions.items():
            batch.put(changelog, offset)
        self._db.write(batch)
        self._positions = {}
        self._held_bytes = 0

    def close(self) -> None:
        """Write, flush and close; the directory may then be opened by another process."""
        self._write()
        self._families.clear()
        self._db.close()


class _Family:
    """A column family, and what is held of it in memory."""

    def __init__(self, database: Rdict, name: str) -> None:
        self.database = database.get_column_family(name)
        self._handle = database.get_column_family_handle(name)
        self._unwritten: dict[bytes, bytes | None] = {}
        self._held: dict[bytes, bytes | None] = {}
        """What is not written, and what was written last."""

    def get_many(self, keys: Sequence[bytes], above: Sequence[Mapping[bytes, bytes | None]]) -> list[bytes | None]:
        found: list[object] = [_ABSENT] * len(keys)
        for held in (*above, self._held):
            if not held.keys().isdisjoint(keys):
                get = held.get
                found = [
                    get(key, _ABSENT) if value is _ABSENT else value for key, value in zip(keys, found, strict=True)
                ]
        places = [place for place, value in enumerate(found) if value is _ABSENT]
        if places:
            values = cast("list[bytes | None]", self.database.get([keys[place] for place in places]))
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return cast("list[bytes | None]", found)

    def put(self, pairs: dict[bytes, bytes | None]) -> int:
        """Hold these; returns about how many bytes they take."""
        self._unwritten.update(pairs)
        self._held.update(pairs)
        return PAIR_BYTES * len(pairs) + sum(map(len, pairs)) + sum(map(len, filter(None, pairs.values())))

    def write(self, batch: WriteBatch) -> None:
        put, handle = batch.put, self._handle
        for key, value in self._unwritten.items():
            if value is None:
                batch.delete(key, handle)
            else:
                put(key, value, handle)
        self._held, self._unwritten = self._unwritten, {}
