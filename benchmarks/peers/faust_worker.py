"""The job on Faust as its documentation writes it: `faust_worker.py`, told by the environment.

Two agents and two tables in RocksDB. The second agent's stream updates the tables message by message, in a processor,
for a table's write goes to the partition of the message that is current; then it takes messages in batches, so that
Postgres gets one transaction a batch.
"""

import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import faust
import orjson

from benchmarks.peers.job import (
    BOOTSTRAP,
    DSN,
    HOME,
    PARTITIONS,
    SOURCE,
    Message,
    Occurrence,
    Profile,
    View,
    apply,
    compact,
    leaf_of,
    mark,
    moment,
    row_of,
)

BATCH = 1000
WITHIN = timedelta(seconds=0.5)
"""A batch that is not full is written after so long."""

VIEWS = """
insert into peer.page_views (message_id, leaf, event_time, url, path, title, referrer, name, properties)
select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::text[], $9::jsonb[])
on conflict do nothing
"""
OCCURRENCES = """
insert into peer.event_occurrences (message_id, leaf, event, event_time, properties)
select * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[])
on conflict do nothing
"""
PROFILES = """
insert into peer.profiles (profile_id, user_id, email, page_views, first_seen, last_seen, attributes)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
    $7::jsonb[])
on conflict (profile_id) do update set user_id = excluded.user_id, email = excluded.email,
    page_views = excluded.page_views, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
    attributes = excluded.attributes
"""

app = faust.App(
    "peer",
    broker=f"kafka://{BOOTSTRAP}",
    datadir=HOME,
    store="rocksdb://",
    topic_partitions=PARTITIONS,
    value_serializer="json",
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    consumer_max_fetch_size=4 * 2**20,
    producer_linger=0.05,
    stream_wait_empty=False,
)
source = app.topic(SOURCE, value_serializer="json")
leaves = app.topic(
    "peer-leaves", key_type=str, key_serializer="raw", value_serializer="json", partitions=PARTITIONS, internal=True
)
options = {"driver": "rocksdict"}
seen = app.Table("seen", partitions=PARTITIONS, options=options)
profiles = app.Table("profiles", partitions=PARTITIONS, options=options)
pools: list[asyncpg.Pool] = []


@app.task
async def connect() -> None:
    """Made once the worker's loop runs."""
    await pool()


async def pool() -> asyncpg.Pool:
    """The connections to Postgres, one a partition at most."""
    if not pools:
        pools.append(asyncpg.create_pool(DSN, min_size=1, max_size=PARTITIONS))
        await pools[0]
    return pools[0]


@app.agent(source)
async def route(messages: AsyncIterator[Message]) -> None:
    """Send every message on by its identity."""
    first = True
    async for message in messages:
        if first:
            mark()
            first = False
        await leaves.send(key=leaf_of(message), value=compact(message))


def update(message: Message) -> tuple[Message, Profile]:
    """Apply a message once. A repetition is written again, for after a crash Postgres may not have seen it."""
    leaf = leaf_of(message)
    profile = profiles.get(leaf)
    if profile is None or message["messageId"] not in seen:
        seen[message["messageId"]] = 1
        profiles[leaf] = profile = apply(profile, message)
    return message, profile


@app.agent(leaves)
async def apply_all(messages: faust.StreamT) -> None:
    """Apply messages once each, and write what they lead to."""
    messages.add_processor(update)
    async for batch in messages.take(BATCH, within=WITHIN):
        changed: dict[str, Profile] = {}
        views: list[View] = []
        occurrences: list[Occurrence] = []
        for message, profile in batch:
            leaf = leaf_of(message)
            changed[leaf] = profile
            row = row_of(message, leaf)
            if isinstance(row, View):
                views.append(row)
            elif row is not None:
                occurrences.append(row)
        await write(changed, views, occurrences)


async def write(changed: dict[str, Profile], views: list[View], occurrences: list[Occurrence]) -> None:
    """One transaction."""
    async with (await pool()).acquire() as connection, connection.transaction():
        if views:
            columns = list(zip(*views, strict=True))
            times, texts = [moment(at) for at in columns[2]], [orjson.dumps(each).decode() for each in columns[8]]
            await connection.execute(VIEWS, *columns[:2], times, *columns[3:8], texts)
        if occurrences:
            columns = list(zip(*occurrences, strict=True))
            times, texts = [moment(at) for at in columns[3]], [orjson.dumps(each).decode() for each in columns[4]]
            await connection.execute(OCCURRENCES, *columns[:3], times, texts)
        told = changed.values()
        await connection.execute(
            PROFILES,
            list(changed),
            [each["user_id"] for each in told],
            [each["attributes"].get("email") for each in told],
            [each["page_views"] for each in told],
            [moment(each["first_seen"]) for each in told],
            [moment(each["last_seen"]) for each in told],
            [orjson.dumps(each["attributes"]).decode() for each in told],
        )


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--without-web", "--loglevel", "warn"]
    app.main()
