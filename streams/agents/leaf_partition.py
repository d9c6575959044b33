"""One cycle of one partition of the leaves topic: read its records, then decide them, leaf by leaf in either twin.

The compiled hot path takes the leaves whose records are all of the ordinary kinds; what is left, all leaves where it is
not built, `LeafCycle` takes. Nothing that a cycle decides of one leaf depends on another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contracts import records as state
from contracts import rows
from domain.calls import missing
from domain.conversion import json_text
from domain.user_agent import read_user_agent
from streams.agents.leaf_cycle import Counts, LeafCycle
from streams.agents.leaf_items import Item, mark_new, read_item
from streams.agents.leaf_state import load
from streams.engine.producer import Outgoing
from streams.native import native
from tables import leaves

if TYPE_CHECKING:
    from contracts.definitions import Definitions
    from contracts.settings import Settings
    from domain.identity import Rules
    from sinks.postgres.batch import Batch
    from streams.engine.records import Record

GIVE_WAY_EVERY: Final = 200
"""Records that Python reads or decides at a time: about 5 ms."""

Read = Callable[[Collection[bytes]], Mapping[bytes, bytes]]
"""Returns the encoded records that stand under these keys of `tables.leaves`, as far as there are any."""

Find = Callable[[Sequence[bytes]], Mapping[bytes, int]]
"""Returns the offset of the first application of each message that was seen, by the keys of `tables.seen`."""


@dataclass(slots=True)
class Decided:
    """What a cycle changes in the state of one partition, as its table and changelogs hold it."""

    applied: int
    """S after the cycle."""
    records: dict[bytes, bytes | None]
    """By the keys of `tables.leaves`; None removes the record."""
    seen: dict[bytes, int]
    """Offsets of first applications, by the keys of `tables.seen`."""
    counts: Counts


def hot_path(settings: Settings, rules: Rules) -> Any:  # noqa: ANN401  the module may not be there, nor its types
    """The compiled hot path under these settings (`tidemark_native.Leaves`), or None where it is not built."""
    compiled = native(settings)
    if compiled is None:
        return None
    return compiled.Leaves(
        rules.blocked_ids,
        rules.max_message_bytes,
        rules.future_tolerance_us,
        settings.leaves_topic,
        settings.leaves_partitions,
        settings.companies_topic,
        settings.companies_partitions,
        (
            rows.PageView,
            rows.EventOccurrence,
            rows.Counters,
            rows.Profile,
            rows.Identity,
            rows.CompanyMember,
            Outgoing,
            rows.AudienceMembership,
            rows.AudienceChange,
        ),
        read_user_agent,
        json_text,
    )


class PartitionCycle:
    """The records of one partition in one cycle. `read` comes first, then `undefined`, then `decide`."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        hot: Any,  # noqa: ANN401  as `hot_path` returns it
        records: Sequence[Record],
        *,
        applied: int,
        committed: int,
        highs: Mapping[str, int],
    ) -> None:
        """`applied` is S, `committed` is P, `highs` are the greatest source offsets met before, by source partition."""
        self.records = records
        self.to_offset = records[-1].offset + 1
        self._settings = settings
        self._rules = rules
        self._applied = applied
        self._committed = committed
        self._highs = highs
        self._hot: Any = None if hot is None else hot.cycle(records, applied, committed, highs)
        self._read_with: Definitions | None = None
        self._items: dict[int, Item] = {}
        """By their place in the cycle: those that Python decides."""
        self.grown: dict[str, int] = {}
        """Greatest source offsets, of the source partitions where they have grown."""

    def read(self, definitions: Definitions) -> Generator[None, None, None]:
        """Read the records; gives way to others now and then."""
        if self._hot is None:
            yield from self._take(range(len(self.records)))
            self.grown = mark_new(self._items.values(), self._committed, self._highs)
            return
        self._hot.read(definitions)
        self._read_with = definitions
        self.grown = self._hot.grown
        yield from self._take(self._hot.deferred)

    def _take(self, places: Iterable[int]) -> Generator[None, None, None]:
        """Read records as items."""
        for count, place in enumerate(places, 1):
            item = self._items[place] = read_item(self.records[place], self._rules)
            if self._hot is not None:
                item.is_new = self._hot.is_new(place)
                if item.call is not None and item.leaf.encode() != item.record.key:
                    self._hot.leave_all()
            if count % GIVE_WAY_EVERY == 0:
                yield

    def undefined(self, definitions: Definitions) -> set[tuple[str, str]]:
        """The `(scope, name)` pairs that these records use and nothing defines yet."""
        found = set() if self._hot is None else set(self._hot.undefined)
        for item in self._items.values():
            if item.call is not None:
                found.update(missing(item.call, definitions))
        return found

    def decide(
        self, definitions: Definitions, read: Read, find: Find, *, batch: Batch, outgoing: list[Outgoing]
    ) -> Generator[None, None, Decided]:
        """Decide every record; `batch` and `outgoing` are added to. Gives way to others now and then."""
        decided = Decided(max(self._applied, self.to_offset), {}, {}, Counts())
        if self._hot is not None:
            if definitions is not self._read_with:
                self._hot.read(definitions)
            yield from self._take(self._hot.load(read, find))
            # One of those may be of another leaf than its key: then all others are left to Python as well.
            yield from self._take(self._hot.deferred)
            self._hot.decide(decided, batch, outgoing)
            yield
        if self._items:
            yield from self._decide_items(definitions, read, find, decided=decided, batch=batch, outgoing=outgoing)
        return decided

    def _decide_items(
        self,
        definitions: Definitions,
        read: Read,
        find: Find,
        *,
        decided: Decided,
        batch: Batch,
        outgoing: list[Outgoing],
    ) -> Generator[None, None, None]:
        items = [item for _, item in sorted(self._items.items())]
        cycle = LeafCycle(
            self._settings,
            definitions,
            load(items, lambda keys: {key: leaves.decode(key, kept) for key, kept in read(keys).items()}, find),
            applied=self._applied,
            committed=self._committed,
            last_ms=self.records[-1].timestamp,
            counts=decided.counts,
            batch=batch,
            outgoing=outgoing,
        )
        for count, item in enumerate(items, 1):
            cycle.take(item)
            if count % GIVE_WAY_EVERY == 0:
                yield
        cycle.finish(self.to_offset)
        decided.records.update(
            (key, None if kept is None else state.encode(kept)) for key, kept in cycle.changed.items()
        )
        decided.seen.update(cycle.newly_seen)

    def items(self) -> list[Item]:
        """All records as items, in their order, with whether they were counted."""
        for place, record in enumerate(self.records):
            if place not in self._items:
                item = self._items[place] = read_item(record, self._rules)
                item.is_new = self._hot.is_new(place)
                item.is_counted = self._hot.is_counted(place)
        return [self._items[place] for place in range(len(self.records))]
