"""Whatever is delivered and fetched, in any order and through rebalances: a stage takes each record once, in order."""

import asyncio
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.batches import Arrived
from tests.unit.test_stage import P0, Record, running

BATCHES = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=12)
"""Of one partition's log: how many records each has, and whether this worker has sent it."""
STEPS = st.lists(st.sampled_from(["deliver", "deliver", "fetch", "fetch", "run", "rebalance"]), max_size=40)


async def taken(batches, deliveries, steps, sizes):
    """The offsets that cycles took, all of the log being fetched at the end."""
    end = sum(count for count, _ in batches)
    fetched, left, size = 0, deque(deliveries), iter(sizes)
    async with running() as on:
        for step in [*steps, "end"]:
            if step == "deliver" and left and on.stage.awaits(P0, len(left[0])):
                on.delivered(*left.popleft())
            elif step in {"fetch", "end"}:
                until = end if step == "end" else min(end, fetched + next(size))
                if fetched < until:
                    on.stage.arrived(Arrived(*P0, 1, [Record(offset) for offset in range(fetched, until)]))
                fetched = until
            elif step == "run":
                await on.settled()
            elif step == "rebalance":
                await on.stage.quiesce()
                fetched = on.stage.position(P0)
                on.stage.open()
        await on.until(lambda: on.stage.done(P0) == end)
        assert not on.failures
        return on.records()


@given(batches=BATCHES, steps=STEPS, data=st.data())
def test_each_record_is_taken_once_and_in_order(batches, steps, data):
    ours, begin = [], 0
    for count, is_ours in batches:
        if is_ours:
            ours.append(range(begin, begin + count))
        begin += count
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=len(steps), max_size=len(steps)))
    deliveries = data.draw(st.permutations(ours))
    assert asyncio.run(taken(batches, deliveries, steps, sizes)) == [*range(begin)]
