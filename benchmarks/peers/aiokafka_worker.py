"""The job on aiokafka and asyncpg alone, without a framework: `aiokafka_worker.py`, told by the environment.

As one would write it who knows both: two tasks in one loop. The first reads the source, and sends what is needed by
identity, in record batches. The second writes a batch of one partition in one transaction, together with its position:
Postgres is the state, its keys are the deduplication, and page views are counted from the rows that were really new.
"""

import asyncio
import signal
import zlib
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from benchmarks.peers.job import (
    BOOTSTRAP,
    DSN,
    PARTITIONS,
    SOURCE,
    Message,
    Occurrence,
    View,
    compact,
    leaf_of,
    mark,
    moment,
    row_of,
)

LEAVES = "peer-leaves"
POLL_RECORDS = 5000
FETCH_BYTES = 4 * 2**20
BATCH_BYTES = 256 * 1024

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode

# A view that was there already is not returned, and so not counted.
APPLY = """
with new as (
    insert into peer.page_views (message_id, leaf, event_time, url, path, title, referrer, name, properties)
    select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::jsonb[])
    on conflict do nothing
    returning leaf, event_time
), counted as (
    select leaf, count(*) as n, max(event_time) as last_seen from new group by leaf
)
insert into peer.profiles as p
    (profile_id, user_id, email, page_views, first_seen, last_seen, attributes, identified_at)
select t.leaf, t.user_id, t.attributes ->> 'email', coalesce(c.n, 0), t.first_seen, c.last_seen, t.attributes,
    t.identified_at
from unnest($10::text[], $11::text[], $12::timestamptz[], $13::jsonb[], $14::timestamptz[])
    as t (leaf, user_id, first_seen, attributes, identified_at)
left join counted c using (leaf)
on conflict (profile_id) do update set
    page_views = p.page_views + excluded.page_views,
    first_seen = least(p.first_seen, excluded.first_seen),
    last_seen = greatest(p.last_seen, excluded.last_seen),
    attributes = case when excluded.identified_at >= coalesce(p.identified_at, '-infinity')
        then p.attributes || excluded.attributes else excluded.attributes || p.attributes end,
    email = case when excluded.identified_at >= coalesce(p.identified_at, '-infinity')
        then coalesce(excluded.email, p.email) else coalesce(p.email, excluded.email) end,
    identified_at = greatest(p.identified_at, excluded.identified_at)
"""
OCCURRENCES = """
insert into peer.event_occurrences (message_id, leaf, event, event_time, properties)
select * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[])
on conflict do nothing
"""
MOVE = """
insert into peer.positions as p (partition, next_offset) values ($1, $3)
on conflict (partition) do update set next_offset = $3 where p.next_offset = $2
returning next_offset
"""


def consumer(group: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer of a group whose offsets are committed by hand."""
    return AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=POLL_RECORDS,
        max_partition_fetch_bytes=FETCH_BYTES,
        **options,
    )


async def route() -> None:
    """Send every message on by its identity; at least once, for the second step drops repetitions."""
    source = consumer("peer-route")
    source.subscribe([SOURCE])
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP, acks="all", enable_idempotence=True, compression_type="lz4",
        max_batch_size=BATCH_BYTES,
    )  # fmt: skip
    await source.start()
    await producer.start()
    first = True
    try:
        while True:
            found = await source.getmany(timeout_ms=500)
            if first and found:
                mark()
                first = False
            await send(producer, (record.value for records in found.values() for record in records))
            if found:
                await source.commit({place: records[-1].offset + 1 for place, records in found.items()})
    finally:
        await producer.stop()
        await source.stop()


async def send(producer: AIOKafkaProducer, values: Iterable[bytes]) -> None:
    """One future a batch instead of one a record: `send` would cost more than all the rest of the step."""
    batches: dict[int, Any] = {}
    deliveries = []
    for value in values:
        message = decode(value)
        key = leaf_of(message).encode()
        partition = zlib.crc32(key) % PARTITIONS
        small = encode(compact(message))
        batch = batches.setdefault(partition, producer.create_batch())
        if batch.append(timestamp=None, key=key, value=small) is None:
            deliveries.append(await producer.send_batch(batch, LEAVES, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(timestamp=None, key=key, value=small)
    for partition, batch in batches.items():
        deliveries.append(await producer.send_batch(batch, LEAVES, partition=partition))
    for delivery in deliveries:
        await delivery


class Positions(ConsumerRebalanceListener):
    """Partitions begin where Postgres says, whatever Kafka knows."""

    def __init__(self, source: AIOKafkaConsumer, pool: asyncpg.Pool) -> None:
        self.source, self.pool = source, pool
        self.next: dict[int, int] = {}
        """Of the partitions that are ours, as Postgres has it."""
        self.writing = asyncio.Lock()
        """Held while batches are on their way: a partition is given up only after them."""

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002  aiokafka's signature
        async with self.writing:
            self.next.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        known = dict(await self.pool.fetch("select partition, next_offset from peer.positions"))
        for place in assigned:
            self.next[place.partition] = known.get(place.partition, 0)
            self.source.seek(place, self.next[place.partition])


async def apply_all(pool: asyncpg.Pool) -> None:
    """Apply the messages by identity: each partition's batch in a transaction of its own, partitions side by side."""
    source = consumer("peer-apply")
    positions = Positions(source, pool)
    source.subscribe([LEAVES], listener=positions)
    await source.start()
    try:
        while True:
            found = await source.getmany(timeout_ms=500)
            async with positions.writing, asyncio.TaskGroup() as group:
                for place, records in found.items():
                    if place.partition in positions.next:
                        group.create_task(write(pool, positions, place.partition, records))
    finally:
        await source.stop()


async def write(pool: asyncpg.Pool, positions: Positions, partition: int, records: list[Any]) -> None:
    """One transaction: views, counts and profiles, occurrences, position."""
    views: list[View] = []
    occurrences: list[Occurrence] = []
    profiles: dict[str, list[Any]] = {}
    before, after = positions.next[partition], records[-1].offset + 1
    if after <= before:
        return
    for record in records:
        message, leaf = decode(record.value), record.key.decode()
        row = row_of(message, leaf)
        if isinstance(row, View):
            views.append(row)
        elif row is not None:
            occurrences.append(row)
        note(profiles, leaf, message)
    async with pool.acquire() as connection, connection.transaction():
        columns = list(zip(*views, strict=True)) or [()] * 9
        told = list(zip(*profiles.values(), strict=True))
        await connection.execute(
            APPLY,
            *columns[:2], [moment(at) for at in columns[2]], *columns[3:8],
            [encode(each).decode() for each in columns[8]],
            list(profiles), told[0], [moment(at) for at in told[1]], [encode(each).decode() for each in told[2]],
            [moment(at) for at in told[3]],
        )  # fmt: skip
        if occurrences:
            ids, leaves, events, times, properties = zip(*occurrences, strict=True)
            texts = [encode(each).decode() for each in properties]
            await connection.execute(OCCURRENCES, ids, leaves, events, [moment(at) for at in times], texts)
        if await connection.fetchval(MOVE, partition, before, after) is None:
            raise RuntimeError(f"partition {partition} is no longer at {before}: another process has taken it over")
    positions.next[partition] = after


def note(profiles: dict[str, list[Any]], leaf: str, message: Message) -> None:
    """What a batch says of an identity: user, first time, attributes and when they were set."""
    at = message["timestamp"]
    told = profiles.get(leaf)
    if told is None:
        told = profiles[leaf] = [message.get("userId"), at, {}, None]
    elif at < told[1]:
        told[1] = at
    if message["type"] == "identify":
        traits = message.get("traits") or {}
        if told[3] is None or at >= told[3]:
            told[2], told[3] = {**told[2], **traits}, at
        else:
            told[2] = {**traits, **told[2]}


async def main() -> None:
    """Both steps, until SIGTERM or until one of them fails."""
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(LEAVES, PARTITIONS, 1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()
    async with asyncpg.create_pool(DSN, min_size=1, max_size=PARTITIONS) as pool:
        steps = asyncio.gather(route(), apply_all(pool))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, steps.cancel)
        try:
            await steps
        except asyncio.CancelledError:
            return


if __name__ == "__main__":
    uvloop.run(main())
