"""A partition's state as the engine sees it: a store of its own, and the changelogs that it is the fold of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.engine.batches import Partition
from tables.store import PartitionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from streams.engine.restorer import Restored


class StateTable(NamedTuple):
    """The state that the stage of one input topic keeps, in as many parts as that topic has partitions."""

    topic: str
    """The input topic; partition n of every changelog belongs to partition n of it."""
    partitions: int
    family: str
    """Column family of the table, in which the position S is too."""
    changelogs: Callable[[PartitionStore], Mapping[str, Restored]]
    """By changelog topic, what its records write into a store."""

    def parts(self) -> Iterator[Partition]:
        """Every partition that has state of this table."""
        return (Partition(self.topic, number) for number in range(self.partitions))

    def open(self, state_dir: Path, number: int) -> PartitionStore:
        """Open a partition's store, which nobody else may have open."""
        return PartitionStore(state_dir / f"{self.topic}-{number}", [self.family])
