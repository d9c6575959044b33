"""Records, origins and definitions as they cross a boundary."""

import msgspec
import pytest

from contracts.definitions import STRING, AttributeType, Definition, Definitions
from contracts.origins import Origin, packer
from contracts.records import (
    CompanyRecord,
    CompanyUpdate,
    Fallback,
    LeafCounters,
    LeafFields,
    Slot,
    decode_company,
    decode_counters,
    decode_fields,
    decode_update,
    encode,
)

KEPT = [None, True, False, 0, -(2**63), 2**64 - 1, 0.0, 1.0, "", "é\ufffd", ['{"a":1}'], [str(2**70)]]


@pytest.mark.parametrize("value", KEPT)
def test_records_survive_with_their_types(value):
    fields = LeafFields(
        {"email": Slot("a", 1, "m")},
        {"": Slot(value, 2, "n", "segment/0/7", Fallback(value, 1, "m", "segment/1/5"))},
        {"vip": Slot(True, 3, "o")},
        {"acme": 4},
    )
    assert repr(decode_fields(encode(fields))) == repr(fields)
    company = CompanyRecord(attributes={"k": Slot(value, 1, "m")})
    assert repr(decode_company(encode(company))) == repr(company)
    update = CompanyUpdate("acme", "m", 1, {"name": None}, {"k": value})
    assert repr(decode_update(encode(update))) == repr(update)


def test_counters_are_small():
    counters = LeafCounters(17, 1_771_885_735_387_000, None)
    data = encode(counters)
    assert decode_counters(data) == counters
    assert len(data) < 16


def test_a_record_of_another_version_is_refused():
    data = msgspec.msgpack.encode([2, 0, 0, None])
    with pytest.raises(msgspec.ValidationError):
        decode_counters(data)


def test_origins_of_a_partition_are_packed_alike():
    for topic, partition, offset, timestamp_ms in (("segment", 0, 0, 0), ("é.t", 2**31 - 1, 2**63 - 1, -1)):
        assert packer(topic, partition)(offset, timestamp_ms) == Origin(topic, partition, offset, timestamp_ms).pack()


def test_origins_travel_as_bytes():
    origin = Origin("segment-é", 7, 2**40, 1_771_885_735_387)
    assert Origin.unpack(origin.pack()) == origin
    assert Origin.unpack(Origin("t", 0, 0, -1).pack()).timestamp_ms == -1
    with pytest.raises(ValueError, match="20 bytes"):
        Origin.unpack(b"short")


def test_a_snapshot_of_definitions_never_changes():
    number = Definition(AttributeType.NUMBER)
    first = Definitions()
    second = first.extended(1, [("user", "plan", STRING), ("event:A", "n", number)], ["A"])
    third = second.extended(2, [("user", "plan", number)], retyped=2)
    assert (first.scope("user"), first.events) == ({}, frozenset())
    assert second.scope("user") == {"plan": STRING}
    assert third.scope("user") == {"plan": number}
    assert third.scope("event:A") is second.scope("event:A")
    assert (second.version, second.retyped, third.version, third.retyped, third.events) == (1, 0, 2, 2, {"A"})
    assert third.extended(3, [], ["B"]).retyped == 2
