"""The job on Quix Streams: `quix_worker.py`, told by the environment.

State is Quix's own: RocksDB with changelog topics. The sink is a `BatchingSink`, which Quix flushes with every
checkpoint, before it commits offsets.
"""

from datetime import timedelta
from typing import Any

import orjson
import psycopg2
from psycopg2.extras import execute_values
from quixstreams import Application, State
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.job import (
    BOOTSTRAP,
    DSN,
    HOME,
    SOURCE,
    Message,
    Occurrence,
    Profile,
    View,
    apply,
    compact,
    leaf_of,
    mark,
    row_of,
)

DEDUPE_WINDOW = timedelta(days=30)
COMMIT_S = 0.5
"""The default, 5 s, would add as much to the end of a run."""
PAGE = 1000
"""Rows a statement: execute_values' own default, 100, makes ten times as many."""

VIEWS = """
insert into peer.page_views (message_id, leaf, event_time, url, path, title, referrer, name, properties)
values %s on conflict do nothing
"""
OCCURRENCES = """
insert into peer.event_occurrences (message_id, leaf, event, event_time, properties) values %s on conflict do nothing
"""
PROFILES = """
insert into peer.profiles (profile_id, user_id, email, page_views, first_seen, last_seen, attributes) values %s
on conflict (profile_id) do update set user_id = excluded.user_id, email = excluded.email,
    page_views = excluded.page_views, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
    attributes = excluded.attributes
"""


class PostgresSink(BatchingSink):
    """Each checkpoint's rows of a partition in one transaction, and of each profile only its last state."""

    def setup(self) -> None:
        self.connection = psycopg2.connect(DSN)

    def write(self, batch: SinkBatch) -> None:
        views, occurrences, profiles = [], [], {}
        for item in batch:
            message, profile = item.value
            leaf = leaf_of(message)
            profiles[leaf] = profile
            row = row_of(message, leaf)
            if isinstance(row, View):
                views.append((*row[:8], orjson.dumps(row.properties).decode()))
            elif isinstance(row, Occurrence):
                occurrences.append((*row[:4], orjson.dumps(row.properties).decode()))
        with self.connection, self.connection.cursor() as cursor:
            if views:
                template = "(%s, %s, %s::timestamptz, %s, %s, %s, %s, %s, %s::jsonb)"
                execute_values(cursor, VIEWS, views, template, PAGE)
            if occurrences:
                execute_values(cursor, OCCURRENCES, occurrences, "(%s, %s, %s, %s::timestamptz, %s::jsonb)", PAGE)
            template = "(%s, %s, %s, %s, %s::timestamptz, %s::timestamptz, %s::jsonb)"
            execute_values(cursor, PROFILES, [tell(*each) for each in profiles.items()], template, PAGE)


def tell(leaf: str, profile: Profile) -> tuple[Any, ...]:
    """A profile as a row."""
    attributes = profile["attributes"]
    times = profile["first_seen"], profile["last_seen"]
    email = attributes.get("email")
    return leaf, profile["user_id"], email, profile["page_views"], *times, orjson.dumps(attributes).decode()


def update(message: Message, state: State) -> tuple[Message, Profile]:
    """Apply a message once. A repetition is written again, for after a crash Postgres may not have seen it."""
    seen = f"seen:{message['messageId']}"
    profile = state.get("profile")
    if profile is None or state.get_bytes(seen) is None:
        state.set_bytes(seen, b"1", ttl=DEDUPE_WINDOW)
        profile = apply(profile, message)
        state.set("profile", profile)
    return message, profile


class First:
    """Drops what is not needed further on, and tells of the first message."""

    told = False

    def __call__(self, message: Message) -> Message:
        if not self.told:
            self.told = True
            mark()
        return compact(message)


def main() -> None:
    """Run until SIGTERM."""
    app = Application(
        broker_address=BOOTSTRAP,
        consumer_group="peer",
        auto_offset_reset="earliest",
        commit_interval=COMMIT_S,
        state_dir=HOME,
        loglevel="WARNING",
        processing_guarantee="at-least-once",
        producer_extra_config={"linger.ms": 50, "compression.type": "lz4", "batch.size": 256 * 1024},
        consumer_extra_config={"max.partition.fetch.bytes": 4 * 2**20},
    )
    source = app.topic(SOURCE, value_deserializer="json", key_deserializer="bytes")
    frame = app.dataframe(source).apply(First())
    frame = frame.group_by(leaf_of, name="leaf", key_serializer="str", key_deserializer="str")
    frame.apply(update, stateful=True).sink(PostgresSink())
    app.run()


if __name__ == "__main__":
    main()
