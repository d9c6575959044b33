"""The RocksDB database of one partition: column families, one write batch a cycle, changelog positions inside."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
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

BLOCK_CACHE_BYTES: Final = 4 * 1024 * 1024
"""Block cache of one partition. RocksDB's own default is larger than a worker's whole memory budget when a worker
owns dozens of partitions; the working set of a cycle is read once and kept decoded by the caller."""

WRITE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Memtable of one column family; two may exist while one is flushed."""

BULK_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""Memtable of one column family while restoring: fewer and larger files to compact."""

BULK_BUFFERS_MAX: Final = 4
"""Such memtables of one family at most; writing waits for one of them to be flushed then."""

_SIZES: Final = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
"""RocksDB's properties of a column family's size, in bytes; reading them takes microseconds."""

_OFFSET: Final = struct.Struct(">q")


class PartitionStore:
    """Key-value state of one partition on local disk, with the changelog position it stands for.

    Everything that a cycle changes, and the position that its changelog transaction reached, is one write batch:
    after a crash the store is exactly the fold of its changelog before that position. The store is a cache of the
    changelog: it may be deleted at any time while no worker has it open, and is then restored from Kafka.
    """

    def __init__(self, path: Path, families: Sequence[str]) -> None:
        """Open or create the database in directory `path` with at least the column families named."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._is_bulk = False
        self._cache = Cache(BLOCK_CACHE_BYTES)
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
        if self._is_bulk:
            options = WriteOptions()
            options.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, stubbed as a method
            self._db.set_write_options(options)
        self._families = {name: self._db.get_column_family(name) for name in names}
        self._handles = {name: self._db.get_column_family_handle(name) for name in names}

    def reopen(self, *, bulk: bool) -> None:
        """Open anew, for writing in bulk or for use.

        In bulk, writes cost a quarter, and reads what a look through everything costs. There is no write-ahead log:
        column families are flushed together, so that a crash leaves the store as it was after one of the latest
        batches, positions included.
        """
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
            options.set_atomic_flush(True)
        options.set_write_buffer_size(BULK_BUFFER_BYTES if self._is_bulk else WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(BULK_BUFFERS_MAX if self._is_bulk else 2)
        options.set_max_open_files(256)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        return options

    @property
    def families(self) -> frozenset[str]:
        """Names of the column families, without the one of the positions."""
        return frozenset(self._families)

    def position(self, changelog: str) -> int | None:
        """Next offset of `changelog` that this store has not seen; None for a store that never saw any."""
        raw = cast("bytes | None", self._db.get(changelog.encode()))
        return None if raw is None else cast("int", _OFFSET.unpack(raw)[0])

    def size_bytes(self) -> int:
        """What the store takes on disk and in write buffers, as RocksDB estimates it."""
        families: list[Rdict] = [self._db, *self._families.values()]
        return sum(family.property_int_value(name) or 0 for family in families for name in _SIZES)

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`, None where absent."""
        if not keys:
            return []
        return cast("list[bytes | None]", self._families[family].get(list(keys)))

    def keys(self, family: str, start: bytes, end: bytes) -> Iterator[bytes]:
        """Keys from `start` on and before `end`, in order, as of now."""
        for each in self._families[family].keys(from_key=start):
            key = cast("bytes", each)
            if key >= end:
                return
            yield key

    def add_family(self, name: str) -> None:
        """Create a column family."""
        self._families[name] = self._db.create_column_family(name, self._options())
        self._handles[name] = self._db.get_column_family_handle(name)

    def drop_family(self, name: str) -> None:
        """Drop a column family with all that it holds; its space is given back at once."""
        del self._families[name], self._handles[name]
        self._db.drop_column_family(name)

    def apply(
        self,
        writes: Iterable[tuple[str, Iterable[tuple[bytes, bytes | None]]]],
        positions: Mapping[str, int],
    ) -> None:
        """Write `(family, pairs)` and the changelog positions in one atomic batch; a value of None deletes."""
        batch = WriteBatch(raw_mode=True)
        for family, pairs in writes:
            handle = self._handles[family]
            for key, value in pairs:
                if value is None:
                    batch.delete(key, handle)
                else:
                    batch.put(key, value, handle)
        for changelog, offset in positions.items():
            batch.put(changelog.encode(), _OFFSET.pack(offset))
        self._db.write(batch)

    def close(self) -> None:
        """Flush and close; the directory may then be opened by another process."""
        self._families.clear()
        self._handles.clear()
        self._db.close()
