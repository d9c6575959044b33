"""What is read off a worker when somebody asks for it: lag, state, partitions, health."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

from streams.health import problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.engine.batches import Partition
    from streams.engine.context import Context
    from streams.engine.core import Engine

_PARTITION: Final = ("topic", "partition")

_FAMILIES: Final = {
    "tidemark_ready": ("Whether /health/ready says so: 1 or 0.", ()),
    "tidemark_postgres_waiting": ("How many parts of the worker wait for Postgres to come back.", ()),
    "tidemark_owned_partitions": ("Partitions that this worker owns.", ("topic",)),
    "tidemark_lag_records": ("Records behind the end of the partition, as of the last fetch.", _PARTITION),
    "tidemark_restored_records": ("Changelog records that the last takeover has restored.", _PARTITION),
    "tidemark_restore_remaining_records": ("Changelog records that are still to be restored.", _PARTITION),
    "tidemark_standby_lag_records": (
        "Changelog records that the standby of a partition is behind, as of its last fetch.",
        _PARTITION,
    ),
    "tidemark_state_size_bytes": ("Local state on disk and in write buffers, as RocksDB estimates it.", _PARTITION),
    "tidemark_no_progress_seconds": ("For how long what is under way has not got on.", ("activity",)),
}


class Gauges:
    """A collector of prometheus_client over one engine."""

    def __init__(self, engine: Engine, context: Context) -> None:
        self._engine = engine
        self._context = context

    def describe(self) -> list[GaugeMetricFamily]:
        """Every family, without samples."""
        return [GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in _FAMILIES.items()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Every family, as of now."""
        engine, context = self._engine, self._context
        restored = context.restored
        owned = Counter(partition.topic for partition in engine.owned)
        samples: dict[str, Mapping[tuple[str, ...], float]] = {
            "tidemark_ready": {(): not problems(engine)},
            "tidemark_postgres_waiting": {(): len(engine.observation.waits())},
            "tidemark_owned_partitions": {(topic,): owned[topic] for topic in engine.topics},
            "tidemark_lag_records": _by_partition(engine.observation.lags()),
            "tidemark_restored_records": _by_partition({each: done for each, (done, _) in restored.items()}),
            "tidemark_restore_remaining_records": _by_partition({each: left for each, (_, left) in restored.items()}),
            "tidemark_standby_lag_records": _by_partition(context.standbys.lags()),
            "tidemark_state_size_bytes": _by_partition(
                {partition: store.size_bytes() for partition, store in context.stores.items()}
            ),
            "tidemark_no_progress_seconds": {(still.activity.name,): still.for_s for still in engine.watchdog.still},
        }
        for family in self.describe():
            for labels, value in samples[family.name].items():
                family.add_metric(labels, value)
            yield family


def _by_partition(values: Mapping[Partition, float]) -> dict[tuple[str, ...], float]:
    return {(topic, str(number)): value for (topic, number), value in values.items()}
