"""Rows that are encoded as they come are those that they were made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rows import AudienceMembership, EventOccurrence, PageView
from contracts.settings import Settings
from sinks.postgres.batch import event_times
from streams.native import is_installed, native
from tests.twins import needs_native

pytestmark = needs_native
COMPILED = native(Settings()) if is_installed() else None
BOOLEAN, BIGINT, TEXT = 16, 20, 25
FIELDS = {
    PageView: [TEXT, TEXT, TEXT, BIGINT, *[TEXT] * 6],
    EventOccurrence: [TEXT, TEXT, TEXT, BIGINT, TEXT, TEXT],
    AudienceMembership: [TEXT, TEXT, BOOLEAN, BIGINT],
}
VALUES = {
    BOOLEAN: st.none() | st.booleans(),
    BIGINT: st.integers(-(2**63), 2**63 - 1),
    TEXT: st.none() | st.text(st.characters(exclude_categories=["Cs"])) | st.just("é" * 300),
}
INDICES = st.none() | st.integers(-6, 6)
STEPS = st.sampled_from([None, 1, 2, -1, -2])


def rows_of(kind):
    return st.lists(st.builds(kind, *(VALUES[field] for field in FIELDS[kind])), max_size=5)


def encoded(kind, rows):
    found = COMPILED.EncodedRows(kind, FIELDS[kind])
    for row in rows:
        found.append(row)
    return found


@given(st.sampled_from(list(FIELDS)).flatmap(lambda kind: st.tuples(st.just(kind), rows_of(kind))), st.data())
def test_encoded_rows_are_the_rows(of, data):
    kind, rows = of
    found = encoded(kind, rows)
    begin, end, step = data.draw(INDICES), data.draw(INDICES), data.draw(STEPS)
    assert len(found) == len(rows)
    assert [*found] == rows
    assert found[begin:end:step] == rows[begin:end:step]
    assert all(type(each) is kind for each in found)
    array = COMPILED.RowArray(7, FIELDS[kind])
    assert array(found) == array(rows)
    for at in range(-len(rows), len(rows)):
        assert found[at] == rows[at]
    for at in (-len(rows) - 1, len(rows)):
        with pytest.raises(IndexError):
            found[at]


@given(rows_of(PageView))
def test_their_event_times_are_told(rows):
    assert [*event_times(encoded(PageView, rows))] == [*event_times(rows)]


def test_what_cannot_be_encoded_is_not_appended():
    fit = EventOccurrence("m", "user:u", "Bought", 1, "{}", None)
    found = encoded(EventOccurrence, [fit])
    with pytest.raises(TypeError):
        found.append(fit._replace(properties=5))
    with pytest.raises(OverflowError):
        found.append(fit._replace(event_time=2**63))
    for odd in (None, fit[:-1], (*fit, None)):
        with pytest.raises(TypeError):
            found.append(odd)
    assert [*found] == [fit]


def test_they_are_of_one_type():
    with pytest.raises(ValueError, match="of another"):
        COMPILED.RowArray(7, FIELDS[EventOccurrence])(encoded(PageView, []))
    with pytest.raises(TypeError, match="bigint"):
        encoded(EventOccurrence, [EventOccurrence("m", "user:u", "Bought", 1, "{}", None)]).column("event")
