"""Whether a worker is ready: it reads, Postgres takes what it writes, and it gets on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.engine.core import Engine


def problems(engine: Engine) -> list[str]:
    """Why the worker is not ready; empty where it is."""
    found = [] if engine.phase == "running" else [engine.phase]
    if engine.watchdog.is_kafka_away:
        found.append("Kafka does not answer")
    return [*found, *engine.observation.waits(), *map(str, engine.watchdog.suspects)]
