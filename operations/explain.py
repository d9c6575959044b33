"""Reading what explains a profile: Postgres says which leaves there are, the changelog what each of them holds.

Workers keep state in stores that nobody else may open; the compacted changelog has the same records.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from aiokafka import TopicPartition

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.explanation import Explanation, explain, needed_keys
from sinks.postgres import queries
from sinks.postgres.database import Connection, Database
from sinks.postgres.definitions import DefinitionStore
from sinks.postgres.progress import read_progress
from sinks.postgres.standing import claims_of
from streams.engine.cluster import Cluster, bounds, partitions_of
from streams.engine.context import partition_of
from tables.leaves import Record, decode, leaf_of
from tables.positions import APPLIED, decode_position

POLL_MS: Final = 200
"""How long one round waits for records."""

POLL_RECORDS_MAX: Final = 20_000
"""Looked at between two reports of progress."""

FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Reading is bound by bytes, so a fetch is large."""

BEHIND_S_MAX: Final = 10.0
"""How long a changelog may be behind Postgres: a tenth of a second under a worker that is idle, more under load."""

OnRead = Callable[[int, int], None]
"""Told how many offsets of the changelog have been passed, and how many there are."""


async def explain_profile(
    settings: Settings, connection: Connection, identifier: str, on_read: OnRead = lambda _read, _total: None
) -> Explanation | None:
    """Explain the profile of a userId, an anonymousId or a leaf; None where nobody has this identifier.

    Reads the changelog's partitions of the profile's leaves from their beginnings. Raises ServiceError when there is no
    changelog, or one that stays behind Postgres.
    """
    found = await queries.profile(connection, identifier)
    if found is None:
        return None
    root, leaves = found["profile_id"], found["leaves"]
    others = [leaf for leaf in await claims_of(connection, root) if leaf not in leaves]
    database = Database(settings.dsn, settings.schema, application="tidemark-cli")
    try:
        definitions = await DefinitionStore(database).load()
    finally:
        await database.close()
    progress = await read_progress(connection, settings.app_version)
    reached = {
        number: row.next_offset or 0 for (topic, number), row in progress.items() if topic == settings.leaves_topic
    }
    state = await read_state(settings, needed_keys(root, leaves, others), reached, on_read)
    return explain(root, leaves, others, state, definitions)


async def read_state(
    settings: Settings,
    keys: Collection[bytes],
    reached: Mapping[int, int],
    on_read: OnRead = lambda _read, _total: None,
) -> dict[bytes, Record]:
    """Return the records of the leaves table that stand under these keys, as the committed changelog has them.

    `reached` are the offsets of the leaves topic, by partition, that the changelog has to have applied. Raises
    ServiceError where it has not within `BEHIND_S_MAX`.
    """
    cluster, topic = Cluster(settings), settings.leaves_changelog
    count = await partitions_of(cluster, topic)
    numbers = {partition_of(leaf_of(key).encode(), count) for key in keys}
    raw: dict[bytes, bytes] = {}
    applied = dict.fromkeys(numbers, 0)
    give_up_s = time.monotonic() + BEHIND_S_MAX
    async with cluster.consumer(
        max_poll_records=POLL_RECORDS_MAX, max_partition_fetch_bytes=FETCH_BYTES_MAX
    ) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        limits = await bounds(consumer, partitions)
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, limits[partition].start)
        total = sum(limit.end - limit.start for limit in limits.values())
        while True:
            left = sum([max(0, limits[each].end - await consumer.position(each)) for each in partitions])
            on_read(total - left, total)
            if not left:
                behind = [number for number in numbers if applied[number] < reached.get(number, 0)]
                if not behind:
                    break
                if time.monotonic() > give_up_s:
                    raise ServiceError(_behind(topic, behind[0], applied[behind[0]], reached[behind[0]]))
            for of, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                for record in records:
                    if record.key == APPLIED:
                        applied[of.partition] = decode_position(record.value) or 0
                    elif record.key in keys:
                        if record.value is None:
                            raw.pop(record.key, None)
                        else:
                            raw[record.key] = record.value
    return {key: decode(key, value) for key, value in raw.items()}


def _behind(topic: str, number: int, applied: int, reached: int) -> str:
    return (
        f"expected {topic}/{number} to have applied what Postgres has, to offset {reached} of the leaves topic; it is "
        f"at {applied}: a worker was killed in between, and none has taken the partition over. Start one, and ask again"
    )
