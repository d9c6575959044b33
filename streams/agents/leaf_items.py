"""Records of the leaves topic, read: messages that the router forwards, and letters that leaves tell each other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from contracts import records as state
from contracts.origins import ACT, CLAIM, CONTRIBUTION, KIND_HEADER, ORIGIN_HEADER, REDRIVE_HEADER, Origin
from contracts.outcomes import Reason, Refusal
from domain.calls import Call, interpret
from streams.engine.records import foreign
from tables.seen import seen_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from domain.identity import Rules
    from streams.engine.records import Record

log = logging.getLogger(__name__)

Letter = state.Claim | state.Contribution | state.PairAct
"""What one leaf, or an operator, tells another leaf."""

_DECODE_LETTER: Final[dict[bytes, Callable[[bytes], Letter]]] = {
    CLAIM: state.decode_claim,
    CONTRIBUTION: state.decode_contribution,
    ACT: state.decode_act,
}


class Item(msgspec.Struct):
    """One record of the leaves topic on its way through a cycle; it has a call, a refusal or a letter."""

    record: Record
    leaf: str = ""
    origin: Origin | None = None
    """Of a message; a letter has none."""
    call: Call | None = None
    refusal: Refusal | None = None
    letter: Letter | None = None
    redrive: bytes | None = None
    """The header's value of a message that comes out of the quarantine."""
    seen_key: bytes = b""
    is_new: bool = False
    """Whether it counts: new to Postgres, and no repetition of a router that was restarted."""
    is_counted: bool = False
    """Whether it was counted as applied."""


def read_item(record: Record, rules: Rules) -> Item:
    """Read a record of the leaves topic, whatever its kind. Raises InternalError for one that nobody here has sent."""
    name, header = record.headers[0] if record.headers else ("", b"")
    if name == KIND_HEADER:
        return _read_letter(record, header)
    if name != ORIGIN_HEADER:
        raise foreign("a message with its origin in the leaves topic", record, f"its first header is {name!r}")
    origin = Origin.unpack(header)
    redrive = dict(record.headers).get(REDRIVE_HEADER) if len(record.headers) > 1 else None
    try:
        call = interpret(record.value, origin.timestamp_ms, rules)
    except Exception as error:  # a bug must not stop the partition: this one message is quarantined
        log.exception("cannot interpret %s/%d at offset %d", *origin[:3])
        call = Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])
    if type(call) is Refusal:
        return Item(record, origin=origin, refusal=call, redrive=redrive)
    return Item(record, call.leaf, origin, call, redrive=redrive, seen_key=seen_key(call.leaf, call.message_id))


def _read_letter(record: Record, kind: bytes) -> Item:
    try:
        return Item(record, record.key.decode(), letter=_DECODE_LETTER[kind](record.value))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise foreign(f"a claim, a contribution or an act, not {kind!r}, in the leaves topic", record, error) from error


def mark_new(items: Iterable[Item], committed: int, highs: Mapping[str, int]) -> dict[str, int]:
    """Mark the messages that count, in their order; a redriven one is counted by its row in the quarantine.

    `committed` is P, `highs` are the greatest offsets met so far by source partition. Returns those that have grown.
    """
    grown: dict[str, int] = {}
    for item in items:
        origin = item.origin
        if origin is None or item.redrive is not None or item.record.offset < committed:
            continue
        source = f"{origin.topic}/{origin.partition}"
        if origin.offset > grown.get(source, highs.get(source, -1)):
            grown[source] = origin.offset
            item.is_new = True
    return grown


def changes_fields(letter: Letter) -> bool:
    """Whether a letter may change what a profile's row shows beside its counters, or needs the large record."""
    return not isinstance(letter, state.Contribution) or letter.given is not None or letter.counters is None
