"""The tables that stages keep: their families, their changelogs, and what a changelog's records write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.engine.context import now_ms
from streams.engine.state import StateTable
from tables import companies, leaves
from tables.seen import SeenMessages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contracts.settings import Settings
    from streams.engine.records import Record
    from streams.engine.restorer import Pairs, Restored
    from tables.store import PartitionStore


def leaves_table(settings: Settings) -> StateTable:
    """Leaves and the messages that they have seen."""

    def changelogs(store: PartitionStore) -> Mapping[str, Restored]:
        seen = SeenMessages(store, settings.dedupe_window_days)

        def restore_leaves(records: Sequence[Record]) -> list[tuple[str, Pairs]]:
            return [(leaves.FAMILY, [(record.key, record.value) for record in records])]

        def restore_seen(records: Sequence[Record]) -> list[tuple[str, Pairs]]:
            now = now_ms()
            # A standby goes on for longer than the window.
            seen.rotate(now)
            return seen.restored([(record.value, record.timestamp) for record in records], now)

        return {settings.leaves_changelog: restore_leaves, settings.seen_changelog: restore_seen}

    return StateTable(settings.leaves_topic, settings.leaves_partitions, leaves.FAMILY, changelogs)


def companies_table(settings: Settings) -> StateTable:
    """Companies."""

    def restore_companies(records: Sequence[Record]) -> list[tuple[str, Pairs]]:
        return [(companies.FAMILY, [(record.key, record.value) for record in records])]

    return StateTable(
        settings.companies_topic,
        settings.companies_partitions,
        companies.FAMILY,
        lambda _store: {settings.companies_changelog: restore_companies},
    )
