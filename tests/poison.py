"""One worker's decisions from raw bytes to rows, without services: what arbitrary input must never break.

Each record ends as exactly one of applied, duplicate and quarantined; none meets a bug of ours; and every row is one
that Postgres takes.
"""

import json
from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecord

from contracts.definitions import STRING, AttributeType, Definition, Definitions
from contracts.origins import ORIGIN_HEADER, Origin
from contracts.outcomes import Reason, Refusal
from contracts.records import decode_update
from contracts.settings import Settings
from domain.company import apply_company, company_row
from domain.identity import route
from sinks.postgres.batch import TABLES, Batch, staged
from streams.agents.leaf_partition import PartitionCycle
from streams.agents.quarantine import quarantine_row, quarantined
from streams.engine.producer import Outgoing
from tests.messages import KAFKA_MS, RULES
from tests.twins import fetched, finished, hot

SETTINGS = Settings(leaves_partitions=1, companies_partitions=1)
CHOICES = frozenset({"red", "true", "1"})
BY_HAND = [
    (scope, name, Definition(kind, CHOICES))
    for scope in ("user", "company", "event:Order Completed")
    for name, kind in zip("nibdfm", [each for each in AttributeType if each != AttributeType.STRING], strict=True)
]

INT64 = range(-(2**63), 2**63)
KEY_BYTES_MAX = 520
"""Of a bounded name with the prefix of a leaf, as in `user:`."""


class Worker:
    """State in dictionaries, in the form in which it is stored."""

    def __init__(self, *, is_native: bool = False) -> None:
        self._is_native = is_native
        self._hot = hot(is_native=is_native, settings=SETTINGS)
        self.read = self.applied = self.duplicate = 0
        self.quarantine: dict[int, str] = {}
        """Reasons by source offset."""
        self._definitions = Definitions().extended(1, BY_HAND)
        self._records: dict[bytes, bytes] = {}
        self._seen: dict[bytes, int] = {}
        self._companies: dict[str, object] = {}
        self._highs: dict[str, int] = {}
        self._next = 0

    def take(self, values: Sequence[bytes | None]) -> None:
        """Take source records, and all that leaves tell each other then. Raises AssertionError, or what breaks."""
        forwarded: list[Outgoing] = []
        for value in values:
            origin = Origin("segment", 0, self.read, KAFKA_MS + self.read)
            self.read += 1
            routed = route(value, RULES)
            if isinstance(routed, Refusal):
                self._refuse(quarantined(SETTINGS, origin, routed, value), value)
            else:
                headers = [(ORIGIN_HEADER, origin.pack())]
                key = routed.leaf.encode()
                forwarded.append(Outgoing(SETTINGS.leaves_topic, 0, key, value, origin.timestamp_ms, headers))
        while forwarded:
            forwarded = self._cycle(forwarded)
        ended = self.applied + self.duplicate + len(self.quarantine)
        assert ended == self.read, f"{self.read} read, {ended} ended: {values!r}"

    def _cycle(self, records: Sequence[Outgoing]) -> list[Outgoing]:
        taken = [
            DefaultRecord(self._next + place, each.timestamp_ms, 0, each.key, each.value, each.headers)
            for place, each in enumerate(records)
        ]
        taken = fetched(taken, is_native=self._is_native)
        cycle = PartitionCycle(
            SETTINGS, RULES, self._hot, taken, applied=self._next, committed=self._next, highs=self._highs
        )
        self._next = cycle.to_offset
        finished(cycle.read(self._definitions))
        self._define(cycle.undefined(self._definitions))
        batch, outgoing = Batch(), []
        decided = finished(cycle.decide(self._definitions, self._load, self._find, batch=batch, outgoing=outgoing))
        for item in cycle.items():
            assert item.call is None or item.leaf.encode() == item.record.key, "the router chose another leaf"
        self._highs.update(cycle.grown)
        self.applied += decided.counts.applied
        self.duplicate += decided.counts.duplicate
        for key, kept in decided.records.items():
            if kept is None:
                self._records.pop(key, None)
            else:
                self._records[key] = kept
        self._seen.update(decided.seen)
        letters = [sent for sent in outgoing if sent.topic == SETTINGS.leaves_topic]
        for sent in outgoing:
            if sent.topic == SETTINGS.quarantine_topic:
                self._refuse(sent, sent.value)
            elif sent.topic == SETTINGS.companies_topic:
                self._update(sent, batch)
        check_rows(batch)
        return letters

    def _load(self, keys):
        return {key: self._records[key] for key in keys if key in self._records}

    def _find(self, keys):
        return {key: self._seen[key] for key in keys if key in self._seen}

    def _define(self, new: set[tuple[str, str]]) -> None:
        if new:
            attributes = [(scope, name, STRING) for scope, name in new if scope != "event"]
            events = [name for scope, name in new if scope == "event"]
            self._definitions = self._definitions.extended(self._definitions.version + 1, attributes, events)

    def _update(self, sent: Outgoing, batch: Batch) -> None:
        update = decode_update(sent.value)
        self._companies[update.company_id] = apply_company(
            self._companies.get(update.company_id), update, self._definitions
        )
        batch.companies.append(
            (company_row(update.company_id, self._companies[update.company_id], self._definitions), self._next)
        )

    def _refuse(self, sent: Outgoing, value: bytes | None) -> None:
        row = quarantine_row(DefaultRecord(0, sent.timestamp_ms, 0, sent.key, sent.value, sent.headers))
        assert row.reason in set(Reason)
        assert row.reason != Reason.INTERNAL_ERROR, f"{row.detail}: {value!r}"
        assert row.raw == (value or b"")
        assert row.offset not in self.quarantine
        check_texts((row.detail,))
        self.quarantine[row.offset] = row.reason


def check_rows(batch: Batch) -> None:
    """Raises AssertionError for a value that Postgres does not take."""
    for table in TABLES:
        for row in staged(table, getattr(batch, table), 1):
            check_texts((row,) if isinstance(row, str) else row)
    for view in batch.page_views:
        check_json(view.properties)
        check_keys(view.message_id, view.leaf)
    for occurrence in batch.occurrences:
        check_json(occurrence.properties)
        check_json(occurrence.sent_properties or "{}")
        check_keys(occurrence.message_id, occurrence.leaf, occurrence.event)
    for profile, _ in batch.profiles:
        check_json(profile.attributes)
        check_keys(profile.profile_id)
    for company, _ in batch.companies:
        check_json(company.attributes)
        check_keys(company.company_id)
    for change in batch.audience_changes:
        check_keys(change.leaf, change.audience, change.message_id)


def check_texts(values: Sequence[object]) -> None:
    for value in values:
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value, value
        elif isinstance(value, int):
            assert value in INT64, value
        else:
            assert value is None or isinstance(value, bytes), value


def check_json(text: str) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON: {text}")

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()


def check_keys(*keys: str) -> None:
    for key in keys:
        assert len(key.encode()) <= KEY_BYTES_MAX, key
