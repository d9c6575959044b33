"""Records that are handed on a batch at a time are those that aiokafka hands on one by one."""

import struct
import weakref

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.settings import Settings
from streams.app import build_app
from streams.engine.records import DecodedRecords, DecodedResult, joined, records_from
from streams.native import native
from tests.twins import TWINS, needs_native

TP = TopicPartition("t", 0)
ATTRIBUTES_AT, CRC_AT, LAST_DELTA_AT, CONTROL = 21, 17, 23, 0x20
MAGIC_AT, BATCH_HEADER_BYTES = 16, 61
CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


class Assignment:
    """What a fetch result needs of aiokafka's: that it is active, and the partition's position."""

    active = True

    def __init__(self, position):
        self.paused, self.position = False, position

    def state_value(self, _):
        return self

    def consumed_to(self, position):
        self.position = position


def batch(base, offsets, after, *, producer=-1, marker=None, is_transactional=False, compression=0):
    """The bytes of a batch with records at these offsets below `after`, or of a marker."""
    builder = DefaultRecordBatchBuilder(2, compression, is_transactional, producer, 0, 0, 1 << 20)
    for offset in offsets:
        key = b"k%d" % offset if marker is None else struct.pack(">hh", 0, marker)
        builder.append(offset - base, 1000 + offset, key, b"v" * (offset % 7), [("h", b"x")])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">i", data, LAST_DELTA_AT, after - base - 1)
    if marker is not None:
        data[ATTRIBUTES_AT + 1] |= CONTROL
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return bytes(data)


@st.composite
def fetches(draw):
    """Bytes of a fetch, the aborted transactions told with it, and where it was begun."""
    data, aborted, offset = b"", [], 0
    for _ in range(draw(st.integers(1, 5))):
        offset += draw(st.integers(0, 2))
        after = offset + draw(st.integers(1, 6))
        offsets = sorted(draw(st.sets(st.integers(offset, after - 1), min_size=1)))
        producer = draw(st.sampled_from([-1, 7, 8]))
        in_transaction = producer > 0 and draw(st.booleans())
        compression = draw(st.sampled_from(list(CODECS)))
        data += batch(
            offset, offsets, after, producer=producer, is_transactional=in_transaction, compression=compression
        )
        if in_transaction:
            is_aborted = draw(st.booleans())
            if is_aborted:
                aborted.append((producer, offset))
            marker = ABORT_MARKER if is_aborted else COMMIT_MARKER
            data += batch(after, [after], after + 1, producer=producer, is_transactional=True, marker=marker.type_)
            after += 1
        offset = after
    return data, aborted, draw(st.integers(0, 3))


def fetched_class(*, is_native):
    """What splits the bytes of a fetch into batches."""
    return native(Settings()).Fetched if is_native else MemoryRecords


def handed_on(records_class, result_class, fetch, isolation, limits, fetched=MemoryRecords):
    """Every record, and the position after each call."""
    data, aborted, begins = fetch
    assignment = Assignment(begins)
    records = records_class(TP, fetched(data), aborted, begins, None, None, True, isolation)
    result = result_class(TP, assignment=assignment, partition_records=records, backoff=0)
    found, positions = [], []
    while result.has_more():
        some = result.getall(limits[len(positions) % len(limits)])
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in some]
        positions.append(assignment.position)
        assert all(offset < assignment.position for offset, *_ in found)
    return found, positions


@pytest.mark.parametrize("is_native", TWINS)
@given(
    fetches(),
    st.sampled_from([fetcher.READ_COMMITTED, fetcher.READ_UNCOMMITTED]),
    st.lists(st.integers(1, 9), min_size=1) | st.just([None]),
)
@example((batch(0, [0, 1, 2], 5), [], 1), fetcher.READ_COMMITTED, [2])
def test_the_same_records_are_handed_on(is_native, fetch, isolation, limits):
    expected, stock = handed_on(fetcher.PartitionRecords, fetcher.FetchResult, fetch, isolation, [None])
    found, positions = handed_on(
        DecodedRecords, DecodedResult, fetch, isolation, limits, fetched_class(is_native=is_native)
    )
    assert found == expected
    assert positions[-1] == stock[-1]
    assert positions == sorted(positions)


BYTES = st.none() | st.binary(max_size=40) | st.integers(1, 300).map(lambda size: b"x" * size)
NAMES = st.text(max_size=6)
RECORDS = st.lists(
    st.tuples(st.integers(-(2**62), 2**62), BYTES, BYTES, st.lists(st.tuples(NAMES, BYTES), max_size=5)), min_size=1
)
"""Time, key, value and headers."""


@needs_native
@given(RECORDS, st.sampled_from(list(CODECS)), st.booleans())
def test_a_record_is_what_aiokafka_says(records, codec, has_log_append_time):
    builder = DefaultRecordBatchBuilder(2, codec, 0, 5, 0, 0, 1 << 30)
    for at, (time_ms, key, value, headers) in enumerate(records):
        builder.append(at, time_ms, key, value, headers)
    data = bytearray(builder.build())
    data[ATTRIBUTES_AT + 1] |= 8 * has_log_append_time
    expected, found = (
        [
            (each.offset, each.timestamp, each.timestamp_type, each.key, each.value, list(each.headers), each.checksum)
            for each in fetched(bytes(data)).next_batch()
        ]
        for fetched in (MemoryRecords, fetched_class(is_native=True))
    )
    assert found == expected
    if not has_log_append_time:
        assert [(time, key, value, headers) for _, time, _, key, value, headers, _ in found] == records


@needs_native
@pytest.mark.parametrize("codec", list(CODECS))
def test_bytes_of_a_batch_that_change_on_the_way_are_noticed(codec):
    whole = batch(0, range(5), 5, compression=codec)
    for at in range(ATTRIBUTES_AT, len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert not fetched_class(is_native=True)(changed).next_batch().validate_crc()
    assert fetched_class(is_native=True)(whole).next_batch().validate_crc()


@needs_native
@given(st.data())
def test_a_batch_is_read_or_refused_whatever_its_bytes_are(data):
    whole = batch(0, range(5), 5, compression=data.draw(st.sampled_from([0, 4])))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    rest = fetched_class(is_native=True)(bytes(damaged[: data.draw(st.integers(0, len(whole)))]))
    assert rest.has_next() == MemoryRecords(bytes(damaged)).has_next() or not rest.has_next()
    try:
        while rest.has_next():
            assert all(each.headers is not None for each in rest.next_batch())
    except (CorruptRecordException, UnsupportedCodecError):
        pass


@pytest.mark.parametrize("is_native", TWINS)
def test_consumers_of_a_worker_decode_as_the_settings_say(is_native, monkeypatch):
    for name in ("MemoryRecords", "PartitionRecords", "FetchResult"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    build_app(Settings(native="on" if is_native else "off"), "w1")
    assert fetcher.MemoryRecords is fetched_class(is_native=is_native)
    assert (fetcher.PartitionRecords, fetcher.FetchResult) == (DecodedRecords, DecodedResult)


@pytest.mark.parametrize("is_native", TWINS)
def test_a_fetch_is_let_go_of_once_its_records_are_taken(is_native):
    records = DecodedRecords(
        TP, fetched_class(is_native=is_native)(batch(0, range(5), 5)), [], 0, None, None, True, fetcher.READ_COMMITTED
    )
    assert len(records.take(None)[0]) == 5
    kept = weakref.ref(records)
    del records
    assert kept() is None


@needs_native
def test_records_of_old_and_new_formats_come_together():
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    builder.append(0, timestamp=7, key=b"k", value=b"v")
    data = bytes(builder.build()) + batch(1, [1, 2], 3) + batch(3, [3], 4)
    records = fetched_class(is_native=True)(data)
    decoded = DecodedRecords(TP, records, [], 0, None, None, True, fetcher.READ_COMMITTED)
    assert [each.offset for each in decoded.take(None)[0]] == [0, 1, 2, 3]


INDICES = st.none() | st.integers(-12, 12)


@needs_native
@given(st.lists(st.integers(0, 4), max_size=4), INDICES, INDICES, st.integers(-12, 12))
def test_records_are_a_sequence_across_batches(counts, begin, end, at):
    records, base = (), 0
    for count in counts:
        one = fetched_class(is_native=True)(batch(base, range(base, base + count), base + count + 1))
        records = joined(records, one.next_batch().records())
        base += count + 1
    offsets = [each.offset for each in records]
    assert len(records) == len(offsets) == sum(counts)
    assert [each.offset for each in records[begin:end]] == offsets[begin:end]
    assert [each.offset for each in records[begin:end][begin:end]] == offsets[begin:end][begin:end]
    assert [each.offset for each in records_from(records, at)] == [offset for offset in offsets if offset >= at]
    if -len(offsets) <= at < len(offsets):
        assert records[at].offset == offsets[at]
    else:
        with pytest.raises(IndexError):
            records[at]


@needs_native
def test_records_follow_each_other():
    records = fetched_class(is_native=True)(batch(0, range(5), 5)).next_batch().records()
    with pytest.raises(ValueError, match="follow each other"):
        records[::2]


@needs_native
def test_a_fetch_may_end_within_a_batch():
    whole = batch(0, range(5), 5)
    for size in range(len(whole)):
        rest = fetched_class(is_native=True)(whole + whole[:size])
        assert rest.size_in_bytes() == len(whole) + size
        assert len(list(rest.next_batch())) == 5
        assert not rest.has_next()
        assert rest.next_batch() is None


@needs_native
def test_messages_of_the_oldest_formats_are_read():
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
        builder.append(0, timestamp=7 if magic else None, key=b"k", value=b"v")
        data = bytes(builder.build())
        (found,) = fetched_class(is_native=True)(data).next_batch()
        assert (found.offset, found.key, found.value) == (0, b"k", b"v")
