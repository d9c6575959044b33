"""The topics of an app version: how many partitions they have, and what is kept in them for how long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aiokafka.admin import NewTopic

from contracts.errors import ServiceError, SettingError
from streams.engine.cluster import partition_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.admin import AIOKafkaAdminClient

    from contracts.settings import Settings
    from streams.engine.cluster import Cluster

SOURCE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest record of a source topic that Tidemark creates: above its own limit, so that a record that is too large is
seen, and quarantined, rather than refused by the broker."""

HEADROOM_BYTES: Final = 1024 * 1024
"""How much larger than its source a record of an internal topic may be: key, headers and the record batch's own."""

KEPT: Final = "-1"
"""`retention.ms` of a log that nothing is ever deleted from by time."""

ANY_TIME: Final = str(2**63 - 1)
"""`message.timestamp.after.max.ms` of internal topics. Their records carry the source's time, and Kafka refuses by
default what lies an hour ahead: a source that is more permissive must not stop a worker."""

DAY_MS: Final = 24 * 60 * 60 * 1000

_VISIBLE_S: Final = 30.0
"""How long a broker may take until it tells of a topic that it has created."""

_TOPIC_ALREADY_EXISTS = 36


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    role: Literal["source", "leaves", "companies", "quarantine", "changelog"]
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]
    """Kafka's topic settings by name."""
    partitions_setting: str
    """The setting that says how many partitions there are."""


@dataclass(frozen=True, slots=True)
class Existing:
    """A topic that was there before, with the number of partitions it has."""

    name: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Created:
    """What `create_topics` did, each in the order of the specs."""

    created: tuple[str, ...]
    existing: tuple[Existing, ...]


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Every topic of this app version, the source topics first.

    Changelogs have as many partitions as the topic whose state they hold. The leaves and companies topics and the
    quarantine are logs of ours, never cut by time; what is a key's newest value is compacted; the messages that were
    seen are kept for the dedupe window and a quarter more, since a segment goes as a whole.
    """
    shared = {"min.insync.replicas": str(settings.min_insync_replicas)}
    source_bytes = max(SOURCE_BYTES_MAX, settings.max_message_bytes)
    internal = {
        **shared,
        "max.message.bytes": str(source_bytes + HEADROOM_BYTES),
        "message.timestamp.after.max.ms": ANY_TIME,
    }
    log = {**internal, "cleanup.policy": "delete", "retention.ms": KEPT}
    compacted = {**internal, "cleanup.policy": "compact"}
    seen = {
        **internal,
        "cleanup.policy": "delete",
        "retention.ms": str(settings.dedupe_window_days * DAY_MS * 5 // 4),
        "segment.ms": str(DAY_MS),
    }
    copies = settings.replication_factor
    of_leaves = (settings.leaves_partitions, copies)
    of_companies = (settings.companies_partitions, copies)
    return [
        *(
            TopicSpec(
                topic,
                "source",
                settings.source_partitions,
                copies,
                {**shared, "max.message.bytes": str(source_bytes)},
                "source_partitions",
            )
            for topic in settings.source_topics
        ),
        TopicSpec(settings.leaves_topic, "leaves", *of_leaves, log, "leaves_partitions"),
        TopicSpec(settings.companies_topic, "companies", *of_companies, log, "companies_partitions"),
        TopicSpec(
            settings.quarantine_topic,
            "quarantine",
            settings.quarantine_partitions,
            copies,
            log,
            "quarantine_partitions",
        ),
        TopicSpec(settings.leaves_changelog, "changelog", *of_leaves, compacted, "leaves_partitions"),
        TopicSpec(settings.seen_changelog, "changelog", *of_leaves, seen, "leaves_partitions"),
        TopicSpec(settings.companies_changelog, "changelog", *of_companies, compacted, "companies_partitions"),
    ]


async def create_topics(cluster: Cluster, specs: Sequence[TopicSpec]) -> Created:
    """Create the topics that do not exist yet, and return once the cluster tells of all of them.

    A source topic may have any number of partitions. Raises SettingError where one of ours has another number than
    the settings say, before anything is created, and ServiceError where the cluster refuses to create one.
    """
    async with cluster.admin() as admin:
        counts = await partition_counts(admin, (spec.name for spec in specs))
        _require_partitions(specs, counts)
        missing = [spec for spec in specs if spec.name not in counts]
        created = await _create(admin, missing) if missing else set()
        await _await_visible(admin, missing)
    return Created(
        created=tuple(spec.name for spec in missing if spec.name in created),
        existing=tuple(
            Existing(spec.name, counts.get(spec.name, spec.partitions)) for spec in specs if spec.name not in created
        ),
    )


async def require_topics(cluster: Cluster, specs: Sequence[TopicSpec]) -> None:
    """Check that every topic is there, with as many partitions as the settings say.

    Raises ServiceError for one that is not, SettingError for another number: keys would be looked for elsewhere.
    """
    async with cluster.admin() as admin:
        counts = await partition_counts(admin, (spec.name for spec in specs))
    absent = [spec.name for spec in specs if spec.name not in counts]
    if absent:
        raise ServiceError(
            f"expected Kafka to have the topics {', '.join(absent)}; it has not. Create them: tidemark topics create"
        )
    _require_partitions(specs, counts)


def _require_partitions(specs: Sequence[TopicSpec], counts: Mapping[str, int]) -> None:
    for spec in specs:
        found = counts.get(spec.name, spec.partitions)
        if spec.role != "source" and found != spec.partitions:
            raise SettingError(
                spec.partitions_setting,
                f"expected topic {spec.name} to have {spec.partitions} partitions; it has {found}, and keys stay where "
                f"they are. Set it to {found}, or begin another app_version",
            )


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> set[str]:
    """Create topics; return those that somebody else has not created meanwhile."""
    topics = [
        NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=dict(spec.configs))
        for spec in specs
    ]
    answer = (await admin.create_topics(topics)).to_object()
    created = set()
    for error in answer["topic_errors"]:
        if error["error_code"] == 0:
            created.add(error["topic"])
        elif error["error_code"] != _TOPIC_ALREADY_EXISTS:
            reason = error.get("error_message") or f"error {error['error_code']}"
            raise ServiceError(
                f"expected Kafka to create topic {error['topic']!r}; it refused: {reason} "
                "Change the settings, or create the topic by other means (tidemark topics list shows what it needs)."
            )
    return created


async def _await_visible(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    try:
        async with asyncio.timeout(_VISIBLE_S):
            while True:
                counts = await partition_counts(admin, (spec.name for spec in specs))
                hidden = [spec.name for spec in specs if spec.name not in counts]
                if not hidden:
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise ServiceError(
            f"expected Kafka to tell of the topics it has created within {_VISIBLE_S:.0f} s; it did not. "
            "See the broker's log, and try again."
        ) from None
    _require_partitions(specs, counts)
