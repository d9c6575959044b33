"""The compiled router sends every record where its Python twin sends it."""

import logging

import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.settings import Settings
from examples.generate import generate
from examples.odd_lines import odd_lines
from streams.agents.router import RouterHandler
from streams.engine.batches import Partition
from streams.engine.context import Context
from streams.engine.producer import BATCH_BYTES_MAX
from streams.native import is_installed, native
from tests.messages import RULES, message, raw
from tests.property.strategies import JSON
from tests.property.test_decoding import damaged, with_ids
from tests.twins import needs_native

pytestmark = needs_native
COMPILED = native(Settings()) if is_installed() else None
SOURCE = Partition("segment-events", 3)
SETTINGS = Settings(leaves_partitions=7, max_message_bytes=RULES.max_message_bytes, blocked_ids=list(RULES.blocked_ids))


def handler(settings, choice):
    context = Context(msgspec.structs.replace(settings, native=choice), "w")
    return RouterHandler(context, context.metrics.stage("router"))


def records(values, fetched):
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 30)
    for at, value in enumerate(values):
        builder.append(at, 1_795_000_000_000 - at, b"any", value, [("any", b"thing")])
    batch = fetched(bytes(builder.build())).next_batch() if values else []
    return batch.records() if hasattr(batch, "records") else [*batch]


def routed(router, records):
    """What goes to each partition, and what goes to the quarantine."""
    runs = [router._run() for _ in range(SETTINGS.leaves_partitions)]
    refused = router._route(SOURCE, records, runs)
    return [list(run) for run in runs], refused


VALUES = st.one_of(st.none(), with_ids(), damaged(), st.binary(max_size=50), JSON.map(raw))


@given(
    st.lists(VALUES, max_size=8),
    st.sampled_from([[], list(RULES.blocked_ids), [*RULES.blocked_ids, "\N{LATIN SMALL LETTER E WITH ACUTE}"]]),
    st.booleans(),
)
@example([b'{"type":"track","userId":"a","userId":null,"anonymousId":"b"}'], [], False)
@example([b'{"type":5,"type":"track","userId":"x","\\u0075serId":"u1"}'], [], False)
@example([b'{"type":"track","userId":"a","x":"\xff"}', b'{"type":"track","userId":"a\xff"}'], [], False)
@example([b'{"type":"track","userId":"a","anonymousId":1e999}', b'{"type":"track","userId":"a"}x'], [], False)
@example([b'{"type":"track","userId":"a","x":' + b"[" * 500 + b"]" * 500 + b"}"], [], False)
@example([b'{"type":"track","userId":"a","x":NaN}', b'{"type":"track","userId":"a","x":1e999}'], [], False)
@example(
    [raw(message("page", userId=each)) for each in ("\x1cu", "\u212a", "u\x85", '""', "''a''", "x" * 129, "é" * 300)],
    ["k"],
    True,
)
def test_every_record_goes_where_the_twin_sends_it(values, blocked, fetched_by_aiokafka):
    logging.getLogger("streams.agents.router").setLevel(logging.CRITICAL)
    settings = msgspec.structs.replace(SETTINGS, blocked_ids=blocked)
    by_aiokafka, compiled = records(values, MemoryRecords), records(values, COMPILED.Fetched)
    expected = routed(handler(settings, "off"), by_aiokafka)
    router = handler(settings, "on")
    for given_records in (by_aiokafka, compiled) if fetched_by_aiokafka else (compiled, by_aiokafka):
        assert routed(router, given_records) == expected


def test_odd_lines_go_where_the_twin_sends_them():
    values = [line.value for line in odd_lines()]
    expected = routed(handler(SETTINGS, "off"), records(values, MemoryRecords))
    assert routed(handler(SETTINGS, "on"), records(values, COMPILED.Fetched)) == expected
    assert expected[1]


def test_ordinary_messages_are_routed_without_asking_python():
    values = list(generate(7, 5000, profile="load"))

    def ask(record):
        raise AssertionError(record.value)

    runs = [COMPILED.Run(BATCH_BYTES_MAX) for _ in range(SETTINGS.leaves_partitions)]
    router = handler(SETTINGS, "on")._router
    assert router.route(*SOURCE, records(values, COMPILED.Fetched), runs, ask) == 0
    assert sum(map(len, runs)) == len(values)


def test_the_router_of_a_worker_is_the_compiled_one():
    router = handler(Settings(), "auto")
    assert type(router._router) is COMPILED.Router
    assert type(router._run()) is COMPILED.Run
