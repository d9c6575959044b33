"""The engine replaces or calls private parts of Faust and aiokafka. Where one of them changes, read it again.

Each digest is of the source text of a part that `streams/engine/` relies on. A failure here is no bug by itself:
compare the new text with what the module named beside it assumes, adapt that module, and take the new digest over.
"""

import hashlib
import inspect
import re
from functools import reduce
from importlib import import_module

import pytest

RELIED_ON = {
    # streams/engine/transport.py replaces these, and calls `callback`, `_getmany`, `_get_active_partitions`.
    "faust.transport.consumer:Consumer._drain_messages": "20a80f69cb789475a464716985deb8a9",
    "faust.transport.consumer:Consumer._commit_handler": "26f0bab5d48c40ebf14da66da80c4cbe",
    "faust.transport.consumer:Consumer._commit_livelock_detector": "df2b2712e63e044960711804990ad3bd",
    "faust.transport.consumer:Consumer._get_active_partitions": "18a818f58b97dc00c9df98730e3b6946",
    "faust.transport.consumer:Consumer.stop_flow": "0ec0392d78f12d954859697ca22b9c1e",
    "faust.transport.consumer:Consumer.resume_flow": "f0847a6549adf0c013069cda847992f3",
    "faust.transport.consumer:Consumer.resume_partitions": "f0dd30e5737b940ca723c23ed9e2319b",
    "faust.transport.consumer:Fetcher._fetcher": "c4c0ebc30a78de954422349168b2a115",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer": (
        "6b290ba56a30f7e7e1f8f03bf1c129ed"
    ),
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records": "cd58cbe15d265cf1fc596ac4bc84dfb3",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._seek_wait": "4d0510756d5cd1edc61a1075e03eb0da",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "4b9c9a1919c17e6659acc3227bb81b63",
    "faust.transport.drivers.aiokafka:Consumer._to_message": "e2e46171feddbec629603c4ce8662555",
    "faust.transport.drivers.aiokafka:Producer._settings_auth": "dd53f0a0a2c2c9fbfabef5d0255b2a37",
    # streams/engine/restorer.py stands in the place of these.
    "faust.tables.manager:TableManager.on_start": "5534c74c9faa1bc630c007f4727483f6",
    "faust.tables.manager:TableManager.on_stop": "305bde895d4fae1a8fb7397cfa183220",
    "faust.tables.manager:TableManager.on_rebalance": "c0e8308fed47a7bbc2ce01f9b81760c7",
    "faust.tables.manager:TableManager.wait_until_tables_registered": "d3e6ea1a0ff7746f95016c9890788fef",
    "faust.tables.base:Collection.on_start": "1b7cd2549319d20bc741df70aa8c9f39",
    # streams/engine/core.py goes by the order of events in these.
    "faust.tables.recovery:Recovery._resume_streams": "5decb093dc82726edb92e153e56e8ba5",
    "faust.app.base:App._on_partitions_revoked": "e2e0eaf88cb1caabbb0ec08e0e62b384",
    "faust.app.base:App._on_partitions_assigned": "b9bc8a6a8b131c35f2fc689014bcc6ac",
    "faust.app.base:App.on_stop": "81eb6252fae4d8d23ad2970125de516d",
    # streams/engine/assignor.py calls this a topic at a time.
    "aiokafka.coordinator.assignors.sticky.sticky_assignor:StickyPartitionAssignor": "a3af92a5e867ae79cd23ebb2b3927058",
    # streams/engine/records.py does what the first one's `_unpack_records` and the second one's `getall` do.
    "aiokafka.consumer.fetcher:PartitionRecords": "dbff1e287f4e9bef4b0e0580d76522e8",
    # streams/engine/producer.py builds its own batches, and adds records by the compiled builder inside of one.
    "aiokafka.producer.message_accumulator:BatchBuilder": "f51c2e33ea1c165b7b36ba7ecaacb48a",
    "aiokafka.producer.producer:AIOKafkaProducer.send_batch": "5519458368149f83d4a907f759f68f4d",
    "aiokafka.producer.producer:AIOKafkaProducer.create_batch": "ada62da19906b4fdfc6bbf88852dd7b8",
    "aiokafka.producer.message_accumulator:MessageAccumulator.add_batch": "679d80d728c96ab7a0549b5969c49c35",
    # It waits a shorter time where the one before is not through with its markers (`MARKERS_S`).
    "aiokafka.producer.sender:AddPartitionsToTxnHandler.handle_response": "6d25dd3b023288e6929f3a8ab2d35ba9",
}


def digest(part: str) -> str:
    """The first half of the SHA-256 of a part's source, comments and white space aside."""
    module, _, name = part.partition(":")
    found = reduce(getattr, name.split("."), import_module(module))
    source = inspect.getsource(getattr(found, "fun", found))
    code = re.sub(r"\s+", " ", re.sub(r"#.*", "", source))
    return hashlib.sha256(code.encode()).hexdigest()[:32]


@pytest.mark.parametrize("part", RELIED_ON)
def test_part_is_as_it_was_read(part: str) -> None:
    assert digest(part) == RELIED_ON[part], f"{part} has changed: see the module named above it in RELIED_ON"
