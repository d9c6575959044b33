"""One cycle of a partition of the leaves topic: what is new to the state, what to Postgres, and what is counted."""

import pytest
from aiokafka.record.default_records import DefaultRecord

from contracts.definitions import EVENTS, STRING, Definitions
from contracts.origins import CONTRIBUTION, KIND_HEADER, ORIGIN_HEADER, REDRIVE_HEADER, ROWS, WHOLE, Origin
from contracts.outcomes import Reason
from contracts.records import Contribution, GivenFields, LeafCounters, Slot, decode_update, encode
from contracts.rows import PROFILE_FIELDS
from contracts.settings import Settings
from sinks.postgres.batch import Batch
from streams.agents import leaf_cycle
from streams.agents.leaf_partition import PartitionCycle
from streams.agents.quarantine import quarantine_row
from streams.engine.context import partition_of
from tables import leaves
from tables.seen import seen_key
from tests.messages import AT, KAFKA_MS, RULES, message, raw
from tests.twins import TWINS, fetched, finished, hot

SETTINGS = Settings()
LEAF = "user:u1"


def record(value, offset, headers=(), leaf=LEAF):
    return DefaultRecord(offset, KAFKA_MS, 0, leaf.encode(), value, list(headers))


def item(content, offset, source=None, source_partition=0):
    """A record of the leaves topic at `offset`, which the router read at `source` of a partition of segment."""
    origin = Origin("segment", source_partition, offset if source is None else source, KAFKA_MS)
    leaf = f"user:{content['userId']}" if isinstance(content, dict) and content.get("userId") else LEAF
    return record(raw(content), offset, headers=[(ORIGIN_HEADER, origin.pack())], leaf=leaf)


class Partition:
    """State and rows of one partition over its cycles, kept apart as the store and Postgres keep them."""

    def __init__(self, is_native):
        self.is_native = is_native
        self.hot = hot(is_native=is_native)
        self.records = {}
        self.seen = {}
        self.applied = self.committed = 0
        self.highs = {}
        self.definitions = Definitions()
        self.outgoing = []
        self.batch = Batch()
        self.counts = None

    def cycle(self, *records, to=None, defines=True):
        """Decide a cycle; its changes go to the state, its rows are in `batch`.

        What nothing defines yet is defined, as a worker does: the compiled hot path leaves it to Python otherwise.
        """
        self.batch, self.outgoing = Batch(), []
        records = fetched(records, is_native=self.is_native)
        cycle = PartitionCycle(
            SETTINGS, RULES, self.hot, records, applied=self.applied, committed=self.committed, highs=self.highs
        )
        if to is not None:
            cycle.to_offset = to
        finished(cycle.read(self.definitions))
        undefined = cycle.undefined(self.definitions) if defines else ()
        if undefined:
            attributes = [(scope, name, STRING) for scope, name in undefined if scope != EVENTS]
            events = [name for scope, name in undefined if scope == EVENTS]
            self.definitions = self.definitions.extended(self.definitions.version + 1, attributes, events)
        self.decided = finished(
            cycle.decide(self.definitions, self.read, self.find, batch=self.batch, outgoing=self.outgoing)
        )
        self.counts = self.decided.counts
        for key, kept in self.decided.records.items():
            if kept is None:
                self.records.pop(key, None)
            else:
                self.records[key] = kept
        self.seen.update(self.decided.seen)
        self.highs.update(cycle.grown)
        self.applied, self.committed = self.decided.applied, max(self.committed, cycle.to_offset)
        return self

    def read(self, keys):
        return {key: self.records[key] for key in keys if key in self.records}

    def find(self, keys):
        return {key: self.seen[key] for key in keys if key in self.seen}

    @property
    def counters(self):
        return leaves.decode(b"c", self.records[leaves.counters_key(LEAF)])

    @property
    def fields(self):
        return leaves.decode(b"f", self.records[leaves.fields_key(LEAF)])

    def counted(self):
        return self.counts.applied, self.counts.duplicate

    def profile(self):
        return {row.profile_id: row for row, _ in self.batch.profiles}

    def snapshot(self):
        return dict(self.records), dict(self.seen)


@pytest.fixture(params=TWINS)
def partition(request):
    return Partition(request.param)


MESSAGES = [
    message("page", messageId="p1"),
    message("identify", messageId="i1", traits={"email": "a@b.co", "plan": "pro"}),
    message("track", messageId="t1", properties={"n": 1}),
    message("group", messageId="g1", traits={"name": "Acme"}),
]
CALLS = [item(each, offset) for offset, each in enumerate(MESSAGES)]


def to_companies(partition):
    return [sent for sent in partition.outgoing if sent.topic == SETTINGS.companies_topic]


def rows_of(batch):
    return {
        name: sorted({repr(row) for row in getattr(batch, name)})
        for name in ("page_views", "occurrences", "company_members", "profiles", "identities", "counters")
    }


def test_new_records_change_the_state_make_rows_and_count(partition):
    partition.cycle(*CALLS)
    assert partition.counted() == (4, 0)
    assert (partition.applied, partition.committed) == (4, 4)
    assert partition.highs == {"segment/0": 3}
    assert partition.counters.page_views == 1
    assert partition.fields.attributes["plan"].value == "pro"
    batch = partition.batch
    assert [len(rows) for rows in (batch.page_views, batch.occurrences, batch.company_members)] == [1, 1, 1]
    assert [identity.leaf for identity in batch.identities] == [LEAF]
    ((row, position),) = batch.profiles
    assert (row.profile_id, row.page_views, position) == (LEAF, 1, 4)
    assert batch.counters == []
    (sent,) = to_companies(partition)
    assert decode_update(sent.value).company_id == "acme"


def test_a_leaf_that_only_views_has_its_counters_written_alone(partition):
    partition.cycle(item(message("page", messageId="p1"), 0))
    partition.cycle(item(message("page", messageId="p2"), 1), item(message("page", messageId="p3"), 2))
    assert partition.batch.profiles == []
    ((row, position),) = partition.batch.counters
    assert (row.page_views, position) == (3, 3)
    assert partition.batch.identities == []


def test_known_records_make_their_rows_again_and_change_nothing(partition):
    """In [P, S): the changelog was committed, Postgres was not."""
    partition.cycle(*CALLS)
    first, before, sent = rows_of(partition.batch), partition.snapshot(), to_companies(partition)
    partition.committed, partition.highs = 0, {}
    partition.cycle(*CALLS)
    assert rows_of(partition.batch) == first
    assert partition.snapshot() == before
    assert partition.decided.records == partition.decided.seen == {}
    # They are counted now, since counters move with the rows; and the company hears of it again.
    assert partition.counted() == (4, 0)
    assert partition.outgoing == sent
    assert (partition.applied, partition.committed) == (4, 4)


def test_known_records_show_the_state_as_it_is_by_now(partition):
    later = item(message("identify", messageId="i2", traits={"plan": "free"}, timestamp="2026-02-23T23:00:00Z"), 4)
    partition.cycle(*CALLS, later)
    partition.committed, partition.highs = 0, {}
    partition.cycle(*CALLS[:2], to=2)
    assert '"plan":"free"' in partition.profile()[LEAF].attributes.replace(" ", "")
    assert partition.applied == 5
    assert partition.counted() == (2, 0)


def test_records_behind_postgres_change_the_state_without_rows_or_counting(partition):
    """In [S, P): Postgres was committed, the state was put back."""
    partition.committed, partition.highs = 4, {"segment/0": 3}
    partition.cycle(*CALLS)
    assert rows_of(partition.batch) == rows_of(Batch())
    assert partition.counted() == (0, 0)
    assert not partition.counts.warnings
    assert partition.counters.page_views == 1
    assert partition.fields.fields["email"].value == "a@b.co"
    assert len(partition.seen) == 4
    assert (partition.applied, partition.committed) == (4, 4)
    # The company may not have heard of it.
    assert len(to_companies(partition)) == 1


def test_a_cycle_across_both_positions(partition):
    partition.cycle(*CALLS[:2])
    partition.committed, partition.highs = 1, {"segment/0": 0}
    partition.cycle(*CALLS[1:])
    assert partition.counted() == (3, 0)
    assert len(partition.batch.page_views) == 0
    assert len(partition.batch.occurrences) == 1
    assert partition.profile()[LEAF].page_views == 1
    assert set(partition.decided.seen.values()) == {2, 3}


def test_the_routers_repetition_is_a_duplicate_that_does_not_count(partition):
    first = item(message("page", messageId="p1"), 0, source=10)
    partition.cycle(first, item(message("page", messageId="p2"), 1, source=11))
    before = partition.snapshot()
    again = item(message("page", messageId="p1"), 2, source=10), item(message("page", messageId="p2"), 3, source=11)
    partition.cycle(*again)
    assert partition.counted() == (0, 0)
    assert partition.snapshot() == before
    assert rows_of(partition.batch) == rows_of(Batch())
    partition.cycle(item(message("page", messageId="p3"), 4, source=12))
    assert partition.counted() == (1, 0)


def test_each_source_partition_has_a_count_of_its_own(partition):
    one = item(message("page", messageId="p1"), 0, source=10)
    other = item(message("page", messageId="p2"), 1, source=10, source_partition=1)
    partition.cycle(one, other)
    assert partition.counted() == (2, 0)
    assert partition.highs == {"segment/0": 10, "segment/1": 10}


def test_another_copy_is_a_duplicate_in_the_same_cycle_and_later(partition):
    same = message("page", messageId="p1")
    partition.cycle(item(same, 0), item(same, 1))
    assert partition.counted() == (1, 1)
    partition.cycle(item(same, 2))
    assert partition.counted() == (0, 1)
    assert partition.counters.page_views == 1
    assert rows_of(partition.batch) == rows_of(Batch())
    assert partition.seen == {seen_key(LEAF, "p1"): 0}


def test_a_duplicate_that_is_known_is_counted_with_its_rows(partition):
    same = message("page", messageId="p1")
    partition.cycle(item(same, 0), item(same, 1))
    partition.committed, partition.highs = 0, {}
    partition.cycle(item(same, 0), item(same, 1))
    assert partition.counted() == (1, 1)
    assert partition.counters.page_views == 1
    assert len(partition.batch.page_views) == 1


def test_one_message_id_on_two_leaves_is_two_messages(partition):
    partition.cycle(item(message("page"), 0), item(message("page", userId="u2"), 1))
    assert partition.counted() == (2, 0)


def test_warnings_are_counted_once(partition):
    odd = item(message("identify", messageId=..., traits={"email": ["x"]}), 0)
    partition.cycle(odd)
    assert dict(partition.counts.warnings) == {"missing_message_id": 1, "ignored_field": 1}
    partition.cycle(item(message("identify", messageId=..., traits={"email": ["x"]}), 1))
    assert dict(partition.counts.warnings) == {}


def quarantined(outgoing):
    (sent,) = [each for each in outgoing if each.topic == SETTINGS.quarantine_topic]
    return quarantine_row(record(sent.value, 0, sent.headers))


def test_a_refused_message_goes_to_the_quarantine_as_it_came(partition):
    refused = item(message("track", event=..., messageId="t1"), 0, source=42)
    partition.cycle(refused)
    row = quarantined(partition.outgoing)
    assert (row.topic, row.partition, row.offset) == ("segment", 0, 42)
    assert row.reason == "missing_event_name"
    assert row.detail
    assert row.raw == refused.value
    assert partition.counted() == (0, 0)
    assert partition.highs == {"segment/0": 42}
    assert partition.snapshot() == ({}, {})
    assert rows_of(partition.batch) == rows_of(Batch())
    # It was not entered: the same message, mended, is no duplicate.
    partition.cycle(item(message("track", messageId="t1"), 1, source=43))
    assert partition.counted() == (1, 0)


def test_a_bug_costs_the_message_that_meets_it(caplog, monkeypatch):
    def apply(counters, fields, call, *args, **kwargs):
        if call.message_id == "i1":
            raise TypeError("a bug")
        return real(counters, fields, call, *args, **kwargs)

    real = leaf_cycle.leaves.apply
    monkeypatch.setattr(leaf_cycle.leaves, "apply", apply)
    partition = Partition(is_native=False)
    broken = item(message("identify", messageId="i1", traits={"plan": "pro"}), 1)
    partition.cycle(item(message("page", messageId="p1"), 0), broken, item(message("page", messageId="p2"), 2))
    row = quarantined(partition.outgoing)
    assert row.reason == Reason.INTERNAL_ERROR
    assert row.offset == 1
    assert row.raw == broken.value
    assert "cannot apply segment/0 at offset 1" in caplog.text
    assert partition.counted() == (2, 0)
    assert partition.counters.page_views == 2
    assert set(partition.seen.values()) == {0, 2}
    assert partition.applied == 3


def redriven(content, offset, *, source, value=WHOLE, leaf=LEAF):
    """A record that lets a message of the quarantine go in again."""
    origin = Origin("segment", 0, source, KAFKA_MS)
    headers = [(ORIGIN_HEADER, origin.pack()), (REDRIVE_HEADER, value)]
    return record(raw(content), offset, headers, leaf)


def test_a_redrive_counts_though_its_offset_is_below_what_was_counted(partition):
    partition.cycle(item(message("page", messageId="p1"), 0, source=50))
    partition.cycle(redriven(message("page", messageId="p0"), 1, source=7))
    (gone,) = partition.batch.redriven
    assert gone[:4] == ("segment", 0, 7, "applied")
    assert (gone.leaves_topic, gone.leaves_partition) == (SETTINGS.leaves_topic, partition_of(b"user:u1", 4))
    assert partition.counted() == (0, 0), "Postgres counts it, by the row"
    assert partition.highs == {"segment/0": 50}
    assert partition.counters.page_views == 2
    assert len(partition.batch.page_views) == 1


def test_a_redrive_of_what_is_known_is_a_duplicate(partition):
    partition.cycle(item(message("page", messageId="p1"), 0, source=50))
    partition.cycle(redriven(message("page", messageId="p1"), 1, source=7))
    assert [each.outcome for each in partition.batch.redriven] == ["duplicate"]
    assert partition.counted() == (0, 0)
    assert partition.counters.page_views == 1
    assert rows_of(partition.batch) == rows_of(Batch())


def test_a_redrive_is_told_again_until_postgres_has_it_and_no_more(partition):
    partition.cycle(redriven(message("page", messageId="p1"), 0, source=7))
    partition.committed = 0
    partition.cycle(redriven(message("page", messageId="p1"), 0, source=7))
    assert [each.outcome for each in partition.batch.redriven] == ["applied"]
    partition.cycle(redriven(message("page", messageId="p1"), 0, source=7))
    assert partition.batch.redriven == []
    assert partition.counters.page_views == 1


def test_a_redrive_that_is_refused_again_says_so(partition):
    partition.cycle(redriven(message("track", event=...), 0, source=7))
    row = quarantined(partition.outgoing)
    assert (row.offset, row.reason, row.is_again, row.lacks_rows) == (7, "missing_event_name", True, False)
    assert partition.batch.redriven == []
    assert partition.highs == {}


def test_a_redrive_to_a_leaf_that_the_rules_do_not_say_has_no_effect(partition, caplog):
    partition.cycle(redriven(message("page"), 0, source=7, leaf="user:u9"))
    assert (partition.batch.redriven, partition.outgoing, partition.snapshot()) == ([], [], ({}, {}))
    assert "stays in the quarantine" in caplog.text


def test_a_redrive_of_missing_rows_makes_them_and_leaves_the_state_alone(partition):
    partition.cycle(*CALLS)
    before = partition.snapshot()
    partition.cycle(*(redriven(each, 4 + n, source=n, value=ROWS) for n, each in enumerate(MESSAGES)))
    batch = partition.batch
    assert [len(rows) for rows in (batch.page_views, batch.occurrences, batch.company_members)] == [1, 1, 1]
    assert [each.outcome for each in batch.redriven] == ["applied"] * 4
    assert partition.snapshot() == before
    assert partition.profile()[LEAF].page_views == 1


def test_a_bug_in_rows_leaves_them_missing(monkeypatch):
    partition = Partition(is_native=False)

    def broken(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(leaf_cycle.LeafCycle, "_rows", broken)
        partition.cycle(item(message("page", messageId="p1"), 0))
    row = quarantined(partition.outgoing)
    assert (row.reason, row.lacks_rows, row.is_again) == (Reason.INTERNAL_ERROR, True, False)
    partition.cycle(redriven(message("page", messageId="p1"), 1, source=0, value=ROWS))
    assert len(partition.batch.page_views) == 1
    assert partition.counters.page_views == 1


def test_a_record_of_another_leaf_than_its_key_takes_no_other_with_it(partition):
    astray = message("identify", userId="u3", messageId="i3", traits={"nowhere_defined": "x"})
    records = [item(message("page", messageId="p1"), 0), item(astray, 1)]
    records[1] = record(records[1].value, 1, headers=records[1].headers, leaf="user:u2")
    partition.cycle(*records, defines=False)
    assert partition.counts.applied == 2
    assert partition.counters.page_views == 1


@pytest.mark.parametrize("header", [("traceparent", b"00-4bf9"), (REDRIVE_HEADER, None)])
def test_a_message_with_a_header_of_others_is_no_redrive(partition, header):
    page = item(message("page"), 0)
    partition.cycle(record(page.value, 0, headers=[*page.headers, header]))
    assert (partition.counted(), partition.batch.redriven) == ((1, 0), [])


def test_page_views_beyond_64_bits_are_not_wrapped(partition):
    given = [Contribution(f"anon:a{n}", 1, LeafCounters(2**62, 5, None)) for n in (1, 2)]
    partition.cycle(*(record(encode(each), n, [(KIND_HEADER, CONTRIBUTION)]) for n, each in enumerate(given)))
    assert [row.page_views for row, _ in partition.batch.counters] == [2**63]


def test_a_standard_field_that_is_no_text_is_shown_as_it_is(partition):
    given = GivenFields({"email": Slot(120, 5, "m-1")})
    letter = Contribution("anon:a1", 1, LeafCounters(1, 5, None), given)
    partition.cycle(record(encode(letter), 0, [(KIND_HEADER, CONTRIBUTION)]))
    assert partition.profile()[LEAF].fields[PROFILE_FIELDS.index("email")] == 120


@pytest.mark.parametrize("kind", ["identify", "track"])
def test_the_newest_membership_holds_and_each_word_on_it_is_history(partition, kind):
    said = {"identify": "traits", "track": "properties"}[kind]
    context = {"personas": {"computation_class": "audience", "computation_key": "vip"}}
    newer, older = AT, AT - 86_400_000_000
    partition.cycle(
        item(message(kind, messageId="m-1", context=context, **{said: {"vip": True}}), 0),
        item(message(kind, messageId="m-2", context=context, timestamp=older // 1000, **{said: {"vip": False}}), 1),
    )
    held = [(tuple(row), message_id) for row, message_id in partition.batch.audience_memberships]
    assert held == [((LEAF, "vip", True, newer), "m-1")] * 2
    history = [(each.member, each.event_time, each.message_id) for each in partition.batch.audience_changes]
    assert history == [(True, newer, "m-1"), (False, older, "m-2")]
    assert partition.fields.attributes["vip"].value is True
