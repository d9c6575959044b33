"""The store of one partition, on a real RocksDB."""

import signal
import subprocess
import sys
from random import Random

import pytest

from tables.store import PartitionStore

FAMILY = "leaves"
CHANGELOG = "tidemark-v1-leaves-changelog"


@pytest.fixture
def store(tmp_path):
    opened = PartitionStore(tmp_path / "store", [FAMILY])
    yield opened
    opened.close()


def test_a_new_store_is_empty_and_knows_no_position(store):
    assert store.families == {FAMILY}
    assert store.position(CHANGELOG) is None
    assert store.get_many(FAMILY, [b"a", b"b"]) == [None, None]
    assert store.get_many(FAMILY, []) == []
    assert list(store.keys(FAMILY, b"", b"")) == []


def test_values_come_in_the_order_of_the_keys(store):
    store.apply([(FAMILY, [(b"a", b"1"), (b"b", b"2"), (b"", b"no key"), (b"c", b"")])], {})
    assert store.get_many(FAMILY, [b"b", b"x", b"a", b"b", b"", b"c"]) == [b"2", None, b"1", b"2", b"no key", b""]


def test_the_last_write_of_a_batch_holds_and_none_deletes(store):
    store.apply([(FAMILY, [(b"a", b"1"), (b"b", b"1")])], {})
    store.apply([(FAMILY, [(b"a", b"2"), (b"a", None), (b"b", None), (b"b", b"3"), (b"never", None)])], {})
    assert store.get_many(FAMILY, [b"a", b"b", b"never"]) == [None, b"3", None]


def test_values_and_positions_outlive_the_process(tmp_path):
    store = PartitionStore(tmp_path / "store", [FAMILY])
    store.apply([(FAMILY, [(b"a", b"1")])], {CHANGELOG: 7, "other": 0})
    store.add_family("seen-1")
    store.apply([("seen-1", [(b"s", b"2")])], {CHANGELOG: 9})
    store.close()
    again = PartitionStore(tmp_path / "store", [FAMILY, "new"])
    assert again.families == {FAMILY, "seen-1", "new"}
    assert (again.position(CHANGELOG), again.position("other"), again.position("third")) == (9, 0, None)
    assert again.get_many(FAMILY, [b"a"]) + again.get_many("seen-1", [b"s"]) + again.get_many("new", [b"a"]) == [
        b"1",
        b"2",
        None,
    ]
    again.close()


def test_a_batch_is_written_whole_or_not_at_all(store):
    def broken():
        yield (b"a", b"1")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        store.apply([(FAMILY, broken())], {CHANGELOG: 5})
    with pytest.raises(KeyError):
        store.apply([(FAMILY, [(b"b", b"1")]), ("no such family", [(b"a", b"1")])], {CHANGELOG: 5})
    assert store.get_many(FAMILY, [b"a", b"b"]) == [None, None]
    assert store.position(CHANGELOG) is None


def test_positions_are_no_values(store):
    store.apply([(FAMILY, [(CHANGELOG.encode(), b"a leaf of that name")])], {CHANGELOG: 3})
    assert store.position(CHANGELOG) == 3
    assert store.get_many(FAMILY, [CHANGELOG.encode()]) == [b"a leaf of that name"]


def test_keys_of_a_range(store):
    kept = [b"c1", b"c2", b"f", b"f\x00", b"f1", b"f2", b"f\xff", b"g"]
    store.apply([(FAMILY, [(key, b"") for key in kept])], {})
    assert list(store.keys(FAMILY, b"f", b"g")) == [b"f", b"f\x00", b"f1", b"f2", b"f\xff"]
    assert list(store.keys(FAMILY, b"f1\x00", b"g")) == [b"f2", b"f\xff"]
    assert list(store.keys(FAMILY, b"f\xff\x00", b"g")) == []
    assert list(store.keys(FAMILY, b"c", b"d")) == [b"c1", b"c2"]


def test_keys_are_those_of_when_the_scan_began(store):
    store.apply([(FAMILY, [(b"f1", b""), (b"f3", b"")])], {})
    scan = store.keys(FAMILY, b"f", b"g")
    assert next(scan) == b"f1"
    store.apply([(FAMILY, [(b"f2", b""), (b"f3", None)])], {})
    assert list(scan) == [b"f3"]


def test_families_are_apart_and_dropped_whole(store):
    store.add_family("seen-1")
    store.add_family("seen-2")
    store.apply([(FAMILY, [(b"k", b"0")]), ("seen-1", [(b"k", b"1")]), ("seen-2", [(b"k", b"2")])], {})
    store.drop_family("seen-1")
    assert store.families == {FAMILY, "seen-2"}
    assert store.get_many(FAMILY, [b"k"]) + store.get_many("seen-2", [b"k"]) == [b"0", b"2"]
    store.add_family("seen-1")
    assert store.get_many("seen-1", [b"k"]) == [None]


def test_a_store_that_is_open_is_not_opened_twice(store):
    with pytest.raises(Exception, match="lock"):
        PartitionStore(store.path, [FAMILY])


def test_written_in_bulk_it_holds_what_was_there_before_and_all_that_came(store):
    store.apply([(FAMILY, [(b"a", b"1"), (b"b", b"1")])], {CHANGELOG: 1})
    store.add_family("seen-1")
    store.reopen(bulk=True)
    store.add_family("seen-2")
    for n in range(3000):
        store.apply(
            [(FAMILY, [(b"%d" % n, b"x" * 1000), (b"b", None)]), ("seen-2", [(b"s", b"%d" % n)])], {CHANGELOG: n}
        )
    assert store.position(CHANGELOG) == 2999
    store.reopen(bulk=False)
    assert store.families == {FAMILY, "seen-1", "seen-2"}
    assert store.position(CHANGELOG) == 2999
    assert store.get_many(FAMILY, [b"a", b"b", b"0", b"2999"]) == [b"1", None, b"x" * 1000, b"x" * 1000]
    assert store.get_many("seen-2", [b"s"]) == [b"2999"]
    store.apply([(FAMILY, [(b"a", b"2")])], {CHANGELOG: 3000})
    assert store.get_many(FAMILY, [b"a"]) == [b"2"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tables.store import PartitionStore
store = PartitionStore(Path(sys.argv[1]), ["leaves", "seen-1"])
if sys.argv[3] == "in bulk":
    store.reopen(bulk=True)
for n in range(int(sys.argv[2])):
    # Families of very different sizes, the positions' the smallest.
    store.apply([("leaves", [(b"%d" % n, b"x" * 50_000)]), ("seen-1", [(b"%d" % n, b"")])], {"changelog": n + 1})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["in bulk", "in use"])
@pytest.mark.parametrize("steps", [10, 1000, 3000])
def test_killed_it_is_as_it_was_after_one_of_the_steps(tmp_path, steps, how):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "store", str(steps), how], check=False)
    assert killed.returncode == -signal.SIGKILL
    again = PartitionStore(tmp_path / "store", [FAMILY, "seen-1"])
    reached = again.position("changelog") or 0
    keys = [b"%d" % n for n in range(steps)]
    for family in (FAMILY, "seen-1"):
        assert [value is not None for value in again.get_many(family, keys)] == [n < reached for n in range(steps)]
    # Memtables were flushed on the way, where there was more than they hold.
    assert (reached > 0) == (steps > 10)
    again.close()


@pytest.mark.parametrize("bulk", [True, False])
def test_what_is_written_by_and_by_overwrites_deletes_and_is_found_as_if_it_were_written_at_once(store, bulk):
    truth, random = {}, Random(7)
    store.reopen(bulk=bulk)
    for step in range(400):
        pairs = [
            (b"%d" % random.randrange(3_000), random.choice([None, b"%d " % step * random.randrange(1, 100)]))
            for _ in range(100)
        ]
        store.apply([(FAMILY, pairs)], {CHANGELOG: step})
        truth.update(pairs)
        if step % 100 == 99:
            kept = sorted(key for key, value in truth.items() if value is not None)
            assert list(store.keys(FAMILY, b"", b"~")) == kept
        asked = [b"%d" % random.randrange(3_500) for _ in range(100)]
        assert store.get_many(FAMILY, asked) == [truth.get(key) for key in asked]
        assert store.position(CHANGELOG) == step
    store.reopen(bulk=False)
    assert store.get_many(FAMILY, list(truth)) == list(truth.values())
