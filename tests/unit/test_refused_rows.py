"""Messages behind rows that Postgres will never take end in the quarantine, and are no longer counted as applied."""

import pytest
from aiokafka.record.default_records import DefaultRecord

from contracts.errors import InternalError
from contracts.origins import Origin
from contracts.records import Claim, Claimed
from contracts.rows import Identity, Quarantined
from domain.calls import Call
from sinks.postgres.batch import Batch, Move, Refused
from streams.agents.leaf_items import Item
from streams.agents.refused_rows import account_for
from streams.engine.batches import Partition
from tests.messages import KAFKA_MS, call

LEAVES = Partition("leaves", 3)


def item(offset: int, read: Call) -> Item:
    record = DefaultRecord(offset, KAFKA_MS, 0, read.leaf.encode(), b"{}", [])
    return Item(record, read.leaf, Origin("segment", 1, 100 + offset, KAFKA_MS), read, is_counted=True)


def batch(**changes: object) -> Batch:
    return Batch(progress=[Move("leaves", 3, 1, 10, 12, applied=2)], **changes)


def test_the_message_of_a_refused_view_is_quarantined_with_its_raw_bytes() -> None:
    items = [item(10, call("page", messageId="p1")), item(11, call("page", messageId="p2"))]
    view = items[0].call.content.row
    accounted = account_for({LEAVES: items}, batch(), [Refused("page_views", 0, view, "22P05 no such text")])
    assert accounted.quarantined == [
        Quarantined(
            "segment",
            1,
            110,
            "internal_error",
            "Postgres refused its row of page_views: 22P05 no such text",
            b"{}",
            KAFKA_MS,
            lacks_rows=True,
        )
    ]
    assert [move.applied for move in accounted.progress] == [1]


def test_a_refused_row_of_a_leaf_stands_for_its_last_message_and_is_counted_once() -> None:
    items = [item(10, call("page", messageId="p1")), item(11, call("page", messageId="p2"))]
    leaf = items[0].call.leaf
    refused = [
        Refused("identities", 0, Identity(leaf, leaf), "54000 too long"),
        Refused("page_views", 1, items[1].call.content.row, "54000 too long"),
    ]
    accounted = account_for({LEAVES: items}, batch(), refused)
    assert [row.offset for row in accounted.quarantined] == [111, 111]
    assert [move.applied for move in accounted.progress] == [1]


def test_a_refused_row_of_no_message_is_a_bug() -> None:
    with pytest.raises(InternalError, match="expected a record behind"):
        account_for({LEAVES: []}, batch(), [Refused("identities", 0, Identity("user:x", "user:x"), "22000 bad")])


def test_a_refused_row_of_what_leaves_tell_each_other_is_left_out_and_told(caplog) -> None:
    claim = Claim("user:u1", Claimed(KAFKA_MS, "m1", "segment/0/1"))
    letter = Item(DefaultRecord(10, KAFKA_MS, 0, b"anon:a1", b"", []), "anon:a1", letter=claim)
    refused = [
        Refused("identities", 0, Identity("anon:a1", "user:u1"), "54000 too long"),
        Refused("profiles_gone", 0, "anon:a1", "54000 too long"),
    ]
    accounted = account_for({LEAVES: [letter]}, batch(), refused)
    assert (accounted.quarantined, [move.applied for move in accounted.progress]) == ([], [2])
    assert caplog.text.count("which no message stands behind") == 2
