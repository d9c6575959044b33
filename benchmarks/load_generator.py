"""Sends messages at a fixed rate, each when it is due, whatever the system does with them: a process of its own.

An open loop: message n is due n / rate seconds after the start, and its latency counts from then, so that a stall of
the system is seen by every message that was due meanwhile. Messages are made before, so making them costs nothing then.
Messages that have become due since the last look go out together, as a producer that lingers sends them.

Protocol: the orders as JSON on the first line of standard input, the start (a time of the monotonic clock, which all
processes of a machine share) on the second, once `ready` was answered; at the end the report as JSON.
"""

import asyncio
import gc
import sys
import time

import msgspec
import uvloop

from benchmarks.measures import percentiles
from benchmarks.pipeline import SEED
from contracts.settings import Settings
from examples.generate import generate
from operations.settings import load_settings
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing

LINGER_S = 0.005
"""Between two sends; part of the latency. Less makes more requests, which the broker pays with the CPU of two cores."""
RECORD_TIME_MS = 1_795_000_000_000


class Orders(msgspec.Struct, frozen=True):
    """What is to be sent."""

    messages: int
    rate: float
    """Messages a second."""
    users: int
    warm_up: int
    """So many of the messages do not count in the report."""


class Sent(msgspec.Struct, frozen=True):
    """What was sent."""

    kinds: dict[str, int]
    """Messages by type, the warm-up included."""
    late: dict[str, float]
    """Milliseconds from the moment a message was due until Kafka's client was given it, as percentiles."""
    cpu_s: float
    """What sending has cost."""


def due_by(now: float, began: float, rate: float, messages: int) -> int:
    """How many messages are due at `now`: the first at `began`."""
    return min(messages, max(0, int((now - began) * rate) + 1)) if now >= began else 0


async def send(settings: Settings, orders: Orders) -> None:
    """Follow the protocol."""
    lines = list(generate(SEED, orders.messages, profile="load", users=orders.users))
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    kinds: dict[str, int] = {}
    for line in lines:
        kind = str(msgspec.json.decode(decoder.decode(line)["type"]))
        kinds[kind] = kinds.get(kind, 0) + 1
    topic, partitions = settings.source_topics[0], settings.source_partitions
    producer = BatchProducer(Cluster(settings))
    await producer.start()
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    began, cpu = float(sys.stdin.readline()), time.process_time()
    late: list[float] = []
    try:
        await asyncio.sleep(began - time.monotonic())
        sent = 0
        while sent < orders.messages:
            now = time.monotonic()
            due = due_by(now, began, orders.rate, orders.messages)
            if due > sent:
                run = range(sent, due)
                late += (now - began - number / orders.rate for number in run if number >= orders.warm_up)
                await producer.send(
                    Outgoing(topic, number % partitions, None, lines[number], RECORD_TIME_MS) for number in run
                )
                sent = due
            await asyncio.sleep(LINGER_S - (time.monotonic() - began) % LINGER_S)
    finally:
        await producer.stop()
    report = Sent(kinds, percentiles([each * 1000 for each in late]), time.process_time() - cpu)
    print(msgspec.json.encode(report).decode(), flush=True)


def main() -> None:
    """Read the orders; the settings come by the environment, as a worker's do."""
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    uvloop.run(send(load_settings(), orders))


if __name__ == "__main__":
    main()
