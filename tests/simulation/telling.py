"""What happens, in words: for a person who replays a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.origins import ACT, CLAIM, CONTRIBUTION, KIND_HEADER, ORIGIN_HEADER, Origin
from contracts.records import decode_act, decode_claim, decode_contribution, decode_update

if TYPE_CHECKING:
    from streams.engine.producer import Outgoing
    from tests.oracle import Record
    from tests.simulation.kafka import LogRecord
    from tests.simulation.stages import Plan


def told_source(record: Record) -> str:
    """A record of a source topic."""
    value = (record.value or b"").decode(errors="replace")
    return f"{record.topic}/{record.partition}/{record.offset} at {record.kafka_time_ms}: {value}"


def told_record(record: LogRecord | Outgoing) -> str:
    """A record of one of the engine's own topics."""
    key, value = (record.key or b"").decode(), record.value or b""
    if not record.headers:
        return f"update of {decode_update(value).company_id}"
    name, header = record.headers[0]
    if name == KIND_HEADER and header == CLAIM:
        claim = decode_claim(value)
        return f"claim of {key} by {claim.user} ({claim.claimed.at}, {claim.claimed.message_id})"
    if name == KIND_HEADER and header == CONTRIBUTION:
        given = decode_contribution(value)
        return (
            f"{'contribution' if given.counters else 'withdrawal'} of {given.giver} to {key}, version {given.version}"
        )
    if name == KIND_HEADER and header == ACT:
        act = decode_act(value)
        return f"act on {key} and {act.user}: {'allow' if act.act.is_allowed else 'unclaim'} as of {act.act.at}"
    if name == ORIGIN_HEADER:
        origin = Origin.unpack(header)
        return f"{origin.topic}/{origin.partition}/{origin.offset}{' of ' if key else ' to the quarantine'}{key}"
    return f"{name} {header!r}"


def told_plan(plan: Plan) -> str:
    """What a cycle takes and what it sends."""
    moves = "; ".join(
        f"{owned.partition[0]}/{owned.partition[1]} from {records[0].offset}: {', '.join(map(told_record, records))}"
        for owned, records in plan.taken
    )
    return f"{moves}. To send: {', '.join(map(told_record, plan.outgoing)) or 'nothing'}"
