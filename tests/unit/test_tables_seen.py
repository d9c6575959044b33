"""Messages seen within the window, on a real store; the clock is an argument (SEMANTICS S3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables.seen import DAY_MS, GENERATIONS, SeenMessages, encode_offset, pack_entries, seen_key
from tables.store import PartitionStore

WINDOW_DAYS = 30
WINDOW_MS = WINDOW_DAYS * DAY_MS
FAMILY_MS = -(-WINDOW_MS // GENERATIONS)
NOW = 1_795_000_000_000


def key(n):
    return seen_key("user:u1", f"m{n}")


class Table:
    """The seen table as a leaf partition uses it: rotate, find, then write what was not found."""

    def __init__(self, path):
        self.store = PartitionStore(path, [])
        self.seen = SeenMessages(self.store, WINDOW_DAYS)
        self.changelog = []

    def apply(self, now_ms, offsets):
        self.seen.rotate(now_ms)
        entries = [(key(n), encode_offset(offset)) for n, offset in offsets.items()]
        self.changelog.append((pack_entries(entries), now_ms))
        self.store.apply([(self.seen.family(now_ms), entries)], {})

    def find(self, now_ms, *numbers):
        self.seen.rotate(now_ms)
        return self.seen.find([key(n) for n in numbers])

    def again(self, path):
        self.store.close()
        self.store = PartitionStore(path, [])
        self.seen = SeenMessages(self.store, WINDOW_DAYS)


@pytest.fixture
def table(tmp_path):
    made = Table(tmp_path / "store")
    yield made
    made.store.close()


def test_what_was_applied_is_found_at_its_offset(table):
    assert table.find(NOW, 1, 2) == [None, None]
    table.apply(NOW, {1: 0, 2: 2**40})
    assert table.find(NOW, 2, 3, 1, 2) == [2**40, None, 0, 2**40]
    assert table.seen.find([]) == []


def test_a_message_is_one_thing_for_each_leaf():
    assert seen_key("user:u1", "m1") != seen_key("anon:u1", "m1")
    assert seen_key("user:u1", "m1") == seen_key("user:u1", "m1")


def test_found_throughout_the_window_in_whichever_family_it_is(table):
    for n in range(GENERATIONS + 1):
        table.apply(NOW + n * FAMILY_MS, {n: n})
    now = NOW + GENERATIONS * FAMILY_MS
    within = [n for n in range(GENERATIONS + 1) if NOW + n * FAMILY_MS > now - WINDOW_MS]
    assert within
    found = table.find(now, *range(GENERATIONS + 1))
    assert [found[n] for n in within] == within


def test_the_youngest_family_that_has_it_is_preferred(table):
    """A message beyond the window is applied anew; where an older entry is still on disk, the new one counts."""
    table.apply(NOW, {1: 10})
    table.apply(NOW + FAMILY_MS, {1: 20})
    assert table.find(NOW + FAMILY_MS, 1) == [20]


def test_rotation_drops_only_what_is_older_than_the_window(table):
    start = NOW // FAMILY_MS * FAMILY_MS
    table.apply(start, {1: 1})
    table.apply(start + FAMILY_MS - 1, {2: 2})
    # The youngest entry of that family is exactly as old as the window, then out of it.
    last = start + FAMILY_MS + WINDOW_MS - 1
    assert table.find(last, 1, 2) == [1, 2]
    oldest = min(table.store.families)
    assert table.find(last + 1, 1, 2) == [None, None]
    assert oldest not in table.store.families


def test_families_on_disk_are_bounded_whatever_happens(table):
    for n in range(50):
        table.apply(NOW + n * FAMILY_MS // 3, {n: n})
        assert len(table.store.families) <= GENERATIONS + 2


def test_a_clock_that_was_set_back_forgets_nothing(table):
    table.apply(NOW, {1: 1})
    table.apply(NOW - FAMILY_MS, {2: 2})
    assert table.find(NOW - FAMILY_MS, 1, 2) == [1, 2]
    assert table.find(NOW, 1, 2) == [1, 2]


def test_found_again_after_a_restart(table, tmp_path):
    table.apply(NOW, {1: 1})
    table.apply(NOW + FAMILY_MS, {2: 2})
    table.again(tmp_path / "store")
    assert table.find(NOW + FAMILY_MS, 1, 2, 3) == [1, 2, None]


def test_restored_entries_go_to_the_family_of_their_own_time_and_aged_out_ones_nowhere(table, tmp_path):
    now = NOW + 3 * WINDOW_MS
    table.apply(NOW, {1: 1})
    table.apply(now - FAMILY_MS, {2: 2})
    table.apply(now, {3: 3})
    copy = Table(tmp_path / "copy")
    written = copy.seen.restored(table.changelog, now)
    assert sum(len(pairs) for _, pairs in written) == 2
    copy.store.apply(written, {})
    assert copy.find(now, 1, 2, 3) == table.find(now, 1, 2, 3) == [None, 2, 3]
    assert copy.store.families == table.store.families
    assert copy.seen.restored(table.changelog[:1], now) == []
    copy.store.close()


STEPS = st.lists(st.tuples(st.integers(0, FAMILY_MS), st.lists(st.integers(0, 5), max_size=3)), min_size=1, max_size=12)


@given(steps=STEPS)
def test_within_the_window_nothing_is_applied_twice(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("seen")
    table = Table(path / "store")
    now, first = NOW, {}
    for offset, (later_ms, numbers) in enumerate(steps):
        now += later_ms
        found = dict(zip(numbers, table.find(now, *numbers), strict=True))
        for n, known in found.items():
            if n in first and now - first[n][0] < WINDOW_MS:
                assert known == first[n][1]
        new = {n: offset for n, known in found.items() if known is None}
        table.apply(now, new)
        first.update(dict.fromkeys(new, (now, offset)))
    copy = Table(path / "copy")
    for entry in table.changelog:
        copy.store.apply(copy.seen.restored([entry], now), {})
    assert copy.find(now, *range(6)) == table.find(now, *range(6))
    for each in (table, copy):
        each.store.close()
