"""Record batches that the compiled hot path encodes are those that aiokafka would build."""

import struct
from functools import partial

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.settings import Settings
from examples.generate import generate
from streams.engine.cluster import Cluster
from streams.engine.producer import BATCH_BYTES_MAX, BatchProducer, batches
from streams.native import is_installed, native
from tests.twins import needs_native

pytestmark = needs_native
COMPILED = native(Settings()) if is_installed() else None

BASE_SEQUENCE_AT, TIME_MS, CODEC_ZSTD = 53, 1_795_000_000_000, 4
SIZES = st.integers(0, 40) | st.sampled_from([63, 64, 127, 128, 300, 8191, 8192, 20_000])
BYTES = st.none() | st.binary(max_size=20) | SIZES.map(lambda size: b"x" * size)
HEADERS = st.lists(st.tuples(st.text(max_size=6), BYTES), max_size=4) | st.just([("h" * 70, b"v")] * 70)
CONTENTS = st.lists(
    st.tuples(st.integers(0, 5) | st.integers(0, 2**53) | st.just(TIME_MS), BYTES, BYTES, HEADERS), min_size=1
)
BATCH_BYTES = st.sampled_from([1, 100, 300, 1000, 20_000, BATCH_BYTES_MAX])


def aiokafka_batches(contents, bytes_max, *, zstd=False, transactional=False):
    create = partial(BatchBuilder, bytes_max, CODEC_ZSTD * zstd, is_transactional=transactional)
    return list(batches(create, contents))


def built(batch, number):
    batch._set_producer_state(9, 3, number)
    size = batch.size()
    data = bytes(batch._build())
    assert batch.size() == len(data)
    assert data == bytes(batch._build())
    return batch.record_count(), size, data


@given(CONTENTS, BATCH_BYTES, st.booleans())
@example([(TIME_MS, b"k", b"x" * 100_000, [])] * 12, BATCH_BYTES_MAX, False)
def test_batches_are_those_of_aiokafka_byte_for_byte(contents, bytes_max, transactional):
    expected = aiokafka_batches(contents, bytes_max, transactional=transactional)
    found = COMPILED.Run(bytes_max, contents).batches(False, transactional)
    assert len(found) == len(expected)
    for number, pair in enumerate(zip(found, expected, strict=True)):
        ours, theirs = (built(batch, number) for batch in pair)
        assert ours == theirs


@given(CONTENTS, BATCH_BYTES)
def test_compressed_batches_hold_the_same(contents, bytes_max):
    encoded = COMPILED.Run(bytes_max, contents)
    read = []
    for number, batch in enumerate(encoded.batches(True, False)):
        _, _, data = built(batch, number)
        (sequence,) = struct.unpack_from(">i", data, BASE_SEQUENCE_AT)
        decoded = MemoryRecords(data).next_batch()
        assert decoded.validate_crc()
        assert (decoded.compression_type, decoded.producer_id, sequence) == (CODEC_ZSTD, 9, number)
        records = list(decoded)
        assert [each.offset for each in records] == list(range(batch.record_count()))
        read += [(each.timestamp, each.key, each.value, each.headers) for each in records]
    assert read == contents


@given(st.lists(st.tuples(BYTES, BYTES)), BATCH_BYTES)
def test_a_run_of_pairs_is_that_of_their_contents(pairs, bytes_max):
    contents = [(TIME_MS, key, value, []) for key, value in pairs]
    run = COMPILED.Run.of_pairs(bytes_max, TIME_MS, iter(pairs))
    assert list(run) == contents
    expected = COMPILED.Run(bytes_max, contents).batches(False, True)
    for ours, theirs in zip(run.batches(False, True), expected, strict=True):
        assert built(ours, 7) == built(theirs, 7)


@given(CONTENTS, BATCH_BYTES, st.slices(12))
def test_a_run_is_a_sequence_of_contents(contents, bytes_max, part):
    run = COMPILED.Run(bytes_max, contents)
    assert len(run) == len(contents)
    assert list(run) == contents
    assert run[-1] == contents[-1]
    assert list(run[part]) == contents[part]
    assert not list(COMPILED.Run(bytes_max))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_times_may_lie_anywhere(one, other):
    contents = [(one, None, b"", []), (other, b"", None, []), (one, None, None, [])]
    (batch,) = COMPILED.Run(BATCH_BYTES_MAX, contents).batches(False, False)
    decoded = MemoryRecords(bytes(batch._build())).next_batch()
    assert (decoded.first_timestamp, decoded.max_timestamp) == (one, max(one, other))
    assert [(each.timestamp, each.key, each.value, each.headers) for each in decoded] == contents


@pytest.mark.parametrize("transactional_id", [None, "w"])
def test_a_producer_sends_what_is_encoded_here(transactional_id):
    producer = BatchProducer(Cluster(Settings(native="on")), transactional_id=transactional_id, compression="zstd")
    contents = [(TIME_MS, b"user:u1", line, []) for line in generate(7, 2000, profile="load")]
    for run in (contents, COMPILED.Run(BATCH_BYTES_MAX, contents)):
        sent = list(producer._batches(run))
        assert {type(batch) for batch in sent} == {COMPILED.Batch}
        decoded = [MemoryRecords(bytes(batch._build())).next_batch() for batch in sent]
        assert [each.value for batch in decoded for each in batch] == [value for _, _, value, _ in contents]
        assert {batch.is_transactional for batch in decoded} == {transactional_id is not None}


def test_compression_is_nearly_as_good_as_aiokafkas():
    contents = [(TIME_MS, b"user:%d" % n, line, []) for n, line in enumerate(generate(7, 2000, profile="load"))]
    ours = sum(len(batch._build()) for batch in COMPILED.Run(BATCH_BYTES_MAX, contents).batches(True, False))
    theirs = sum(len(batch._build()) for batch in aiokafka_batches(contents, BATCH_BYTES_MAX, zstd=True))
    # At level 1 in the place of 3.
    assert ours <= theirs * 1.02
