"""Arbitrary bytes and damaged messages never stop a worker: each ends as one of three (SEMANTICS S12)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.corpus import mutated, seeds
from tests.messages import raw
from tests.poison import Worker
from tests.property.strategies import JSON, messages
from tests.property.test_decoding import damaged
from tests.twins import TWINS

VALUES = st.one_of(
    st.none(),
    st.binary(max_size=60),
    JSON.map(raw),
    damaged(),
    messages().map(raw),
    st.builds(lambda message, message_id: raw(message | {"messageId": message_id}), messages(), JSON),
    st.builds(mutated, st.sampled_from(seeds()), st.randoms(use_true_random=False)),
)


@pytest.mark.parametrize("is_native", TWINS)
@given(values=st.lists(VALUES, max_size=8), cycles=st.integers(1, 4))
@example(values=[b'{"type":"group","userId":"u","groupId":"g","traits":{"n":' + b"9" * 308 + b"}}"], cycles=1)
@example(values=[b'{"type":"page","userId":"u","properties":' + b'{"a":' * 250 + b"1" + b"}" * 250 + b"}"], cycles=1)
def test_every_record_ends_as_one_of_three(is_native, values, cycles):
    worker = Worker(is_native=is_native)
    for begin in range(cycles):
        worker.take(values[begin::cycles])


@pytest.mark.parametrize("is_native", TWINS)
@given(values=st.lists(st.sampled_from(seeds()), max_size=12))
def test_every_seed_of_the_fuzzer_ends(is_native, values):
    Worker(is_native=is_native).take(values)
