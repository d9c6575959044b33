"""Records of internal topics that somebody else has written end the worker with the reason, and with the way out."""

from collections.abc import Callable, Sequence

import pytest
from aiokafka.record.default_records import DefaultRecord

from contracts.errors import InternalError
from contracts.origins import CLAIM, KIND_HEADER, ORIGIN_HEADER
from streams.agents.company import read_update
from streams.agents.leaf_items import read_item
from streams.agents.quarantine import REASON_HEADER, quarantine_row
from streams.engine.records import Record
from tests.messages import KAFKA_MS, RULES, message, raw


def leaf(record: Record) -> object:
    return read_item(record, RULES)


@pytest.mark.parametrize(
    ("read", "headers", "told"),
    [
        (leaf, [], "a message with its origin"),
        (leaf, [("x-api-key", b"anything that is long enough")], "its first header is 'x-api-key'"),
        (leaf, [(KIND_HEADER, CLAIM)], "a claim, a contribution or an act"),
        (leaf, [(KIND_HEADER, b"letter")], "not b'letter'"),
        (read_update, [], "an update of a company"),
        (quarantine_row, [], "a refused message"),
        (quarantine_row, [(ORIGIN_HEADER, b"short"), (REASON_HEADER, b"no_identity")], "an origin has more than"),
    ],
)
@pytest.mark.parametrize("value", [raw(message("page")), b"", None])
def test_what_nobody_here_has_sent_is_told(
    read: Callable[[Record], object], headers: Sequence[tuple[str, bytes]], told: str, value: bytes | None
):
    with pytest.raises(InternalError) as raised:
        read(DefaultRecord(4711, KAFKA_MS, 0, b"user:u1", value, list(headers)))
    text = str(raised.value)
    assert told in text
    assert "offset 4711" in text
    assert "rebuild" in text
