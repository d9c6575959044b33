"""Records that are handed on a batch at a time are those that aiokafka hands on one by one."""

import struct

from aiokafka.consumer import fetcher
from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st

from streams.engine.records import DecodedRecords, DecodedResult

TP = TopicPartition("t", 0)
ATTRIBUTES_AT, CRC_AT, LAST_DELTA_AT, CONTROL = 21, 17, 23, 0x20


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
        compression = draw(st.sampled_from([0, 4]))
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


def handed_on(records_class, result_class, fetch, isolation, limits):
    """Every record, and the position after each call."""
    data, aborted, begins = fetch
    assignment = Assignment(begins)
    records = records_class(TP, MemoryRecords(data), aborted, begins, None, None, True, isolation)
    result = result_class(TP, assignment=assignment, partition_records=records, backoff=0)
    found, positions = [], []
    while result.has_more():
        some = result.getall(limits[len(positions) % len(limits)])
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in some]
        positions.append(assignment.position)
        assert all(offset < assignment.position for offset, *_ in found)
    return found, positions


@given(
    fetches(),
    st.sampled_from([fetcher.READ_COMMITTED, fetcher.READ_UNCOMMITTED]),
    st.lists(st.integers(1, 9), min_size=1) | st.just([None]),
)
@example((batch(0, [0, 1, 2], 5), [], 1), fetcher.READ_COMMITTED, [2])
def test_the_same_records_are_handed_on(fetch, isolation, limits):
    expected, stock = handed_on(fetcher.PartitionRecords, fetcher.FetchResult, fetch, isolation, [None])
    found, positions = handed_on(DecodedRecords, DecodedResult, fetch, isolation, limits)
    assert found == expected
    assert positions[-1] == stock[-1]
    assert positions == sorted(positions)
