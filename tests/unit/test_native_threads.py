"""The compiled hot path where several threads use it."""

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

from aiokafka.record.default_records import DefaultRecord

from contracts.definitions import Definitions
from contracts.origins import ORIGIN_HEADER, Origin
from tests.messages import CHROME, KAFKA_MS, message, raw
from tests.twins import hot, needs_native

pytestmark = needs_native

THREADS = 4
CYCLES = 50
ENDS_WITHIN_S = 60
"""It takes less than two; threads that wait for each other never end, and let no other thread of their process run."""


def read_cycles():
    """Read cycles in several threads, each with user agents that were not met before and definitions of its own."""
    sys.setswitchinterval(1e-6)
    leaves = hot(is_native=True)

    def read(thread):
        for number in range(CYCLES):
            context = {"userAgent": f"{CHROME} {thread}-{number}"}
            value = raw(message("identify", context=context))
            headers = [(ORIGIN_HEADER, Origin("segment", 0, number, KAFKA_MS).pack())]
            cycle = leaves.cycle([DefaultRecord(0, KAFKA_MS, 0, b"user:u1", value, headers)], 0, 0, {})
            cycle.read(Definitions())
            assert cycle.deferred == []

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(read, range(THREADS)))


def test_threads_that_read_with_python_do_not_wait_for_each_other():
    process = multiprocessing.get_context("spawn").Process(target=read_cycles)
    process.start()
    process.join(ENDS_WITHIN_S)
    process.kill()
    assert process.exitcode == 0
