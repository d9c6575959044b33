"""Rows that Postgres will never take: their messages are quarantined after all, in the transaction of the others.

Messages are cleaned and bounded before rows are made of them, so this should not happen; where it does, it costs those
messages their rows, is told, and stops nobody else.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from contracts import rows
from contracts.errors import InternalError
from contracts.outcomes import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sinks.postgres.batch import Batch, Refused
    from streams.agents.leaf_items import Item
    from streams.engine.batches import Partition


log = logging.getLogger(__name__)


def account_for(items: Mapping[Partition, Sequence[Item]], batch: Batch, refused: Sequence[Refused]) -> Batch:
    """The batch with the messages behind the refused rows quarantined, and no longer counted as applied.

    A row of a profile stands for its last message in the cycle; where only other leaves had something to say to it,
    the row is left out. Raises InternalError for a row of no record.
    """
    quarantined: list[rows.Quarantined] = list(batch.quarantined)
    taken_back: set[tuple[str, int, int]] = set()
    uncounted: dict[tuple[str, int], int] = {}
    for each in refused:
        partition, item = _record_of(items, each)
        origin = item.origin
        if origin is None:
            log.error(
                "Postgres refused a row of %s, which no message stands behind: %s: %r", each.table, each.error, each.row
            )
            continue
        quarantined.append(
            rows.Quarantined(
                origin.topic,
                origin.partition,
                origin.offset,
                Reason.INTERNAL_ERROR,
                f"Postgres refused its row of {each.table}: {each.error}"[:300],
                item.record.value or b"",
                origin.timestamp_ms,
                lacks_rows=True,
                is_again=item.redrive is not None,
            )
        )
        taken_back.add(origin[:3])
        if item.is_counted:
            item.is_counted = False
            uncounted[partition] = uncounted.get(partition, 0) + 1
    moves = [replace(move, applied=move.applied - uncounted.get(move.key, 0)) for move in batch.progress]
    redriven = [each for each in batch.redriven if each[:3] not in taken_back]
    return replace(batch, quarantined=quarantined, redriven=redriven, progress=moves)


def _record_of(items: Mapping[Partition, Sequence[Item]], refused: Refused) -> tuple[Partition, Item]:
    row: Any = refused.row[0] if refused.table in {"counters", "profiles", "audience_memberships"} else refused.row
    leaf = row if isinstance(row, str) else getattr(row, "leaf", None) or getattr(row, "profile_id", None)
    message_id = getattr(row, "message_id", None)
    found = [
        (partition, item)
        for partition, of in items.items()
        for item in of
        if item.leaf == leaf and (message_id is None or (item.call is not None and item.call.message_id == message_id))
    ]
    if found:
        messages = [each for each in found if each[1].call is not None]
        return (messages or found)[-1]
    msg = f"expected a record behind the row that Postgres refused ({refused.error}); none of the cycle is: {row!r}"
    raise InternalError(msg[:2000])
