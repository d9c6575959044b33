"""The compiled hot path and the Python beside it: tests of decisions run with each."""

import msgspec
import pytest

from contracts.settings import Settings
from streams.agents.leaf_partition import hot_path
from streams.engine.records import joined
from streams.native import is_installed, native
from tests.messages import RULES

needs_native = pytest.mark.skipif(not is_installed(), reason="the compiled hot path is not built here")

TWINS = [pytest.param(False, id="python"), pytest.param(True, id="native", marks=needs_native)]
"""Whether to decide with the compiled hot path."""


BASE_OFFSET_BYTES = 8
"""A batch begins with the offset of its first record."""


def hot(*, is_native, settings=None, rules=RULES):
    """What `PartitionCycle` takes."""
    native = "on" if is_native else "off"
    return hot_path(msgspec.structs.replace(settings or Settings(), native=native), rules)


def row_encoder(*, is_native):
    """What encodes staged rows in place of asyncpg, or None."""
    return native(Settings(native="on")).RowArray if is_native else None


def fetched(records, *, is_native):
    """The same records, as a worker with or without the compiled hot path has them."""
    if not is_native:
        return records
    compiled = native(Settings(native="on"))
    found = ()
    for each in records:
        (batch,) = compiled.Run(0, [(each.timestamp, each.key, each.value, each.headers)]).batches(False, False)
        one = compiled.Fetched(each.offset.to_bytes(BASE_OFFSET_BYTES) + batch._build()[BASE_OFFSET_BYTES:])
        found = joined(found, one.next_batch().records())
    return found


def finished(steps):
    """Take steps to their end; returns what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
