"""The part of the job that is the same for the peers in Python: which identity, which row, which change of a profile.

Only the standard library, for it runs in the environment of each peer. Times stay ISO 8601 texts in UTC, which sort as
they are; `rows` that asyncpg takes are made by the peers that use it.
"""

import os
import time
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

Message = dict[str, Any]
Profile = dict[str, Any]

SOURCE = "segment"
PARTITIONS = int(os.environ.get("BENCH_PARTITIONS", "4"))
BOOTSTRAP = os.environ.get("BENCH_BOOTSTRAP", "")
DSN = os.environ.get("BENCH_DSN", "")
HOME = os.environ.get("BENCH_HOME", ".")
"""A directory for local state, of this process alone."""


def mark() -> None:
    """Tell that the first record was read: its time, on the clock that all processes of a machine share."""
    place = Path(os.environ["BENCH_MARK"])
    place.with_suffix(".new").write_text(repr(time.monotonic()))
    place.with_suffix(".new").replace(place)


class View(NamedTuple):
    """A row of page_views."""

    message_id: str
    leaf: str
    event_time: str
    url: str | None
    path: str | None
    title: str | None
    referrer: str | None
    name: str | None
    properties: Any


class Occurrence(NamedTuple):
    """A row of event_occurrences."""

    message_id: str
    leaf: str
    event: str
    event_time: str
    properties: Any


def leaf_of(message: Message) -> str:
    """The identity: userId, else anonymousId."""
    user_id = message.get("userId")
    return f"user:{user_id}" if user_id else f"anon:{message['anonymousId']}"


def compact(message: Message) -> Message:
    """What the second step needs of a message: the rest need not go through Kafka a second time."""
    kind = message["type"]
    small = {key: message.get(key) for key in ("type", "messageId", "userId", "anonymousId", "timestamp")}
    if kind == "page":
        small["name"], small["properties"] = message.get("name"), message.get("properties")
    elif kind == "track":
        small["event"], small["properties"] = message["event"], message.get("properties")
    elif kind == "identify":
        small["traits"] = message.get("traits")
    return small


def row_of(message: Message, leaf: str) -> View | Occurrence | None:
    """The row that a message leads to, if any."""
    kind = message["type"]
    properties = message.get("properties") or {}
    if kind == "page":
        get = properties.get
        parts = (get("url"), get("path"), get("title"), get("referrer"), message.get("name"))
        return View(message["messageId"], leaf, message["timestamp"], *parts, properties)
    if kind == "track":
        return Occurrence(message["messageId"], leaf, message["event"], message["timestamp"], properties)
    return None


def apply(profile: Profile | None, message: Message) -> Profile:
    """The profile after the message, whatever order messages come in; None for one that is new."""
    at = message["timestamp"]
    if profile is None:
        profile = {"user_id": message.get("userId"), "page_views": 0, "first_seen": at, "last_seen": None}
        profile.update(identified_at="", attributes={})
    elif at < profile["first_seen"]:
        profile["first_seen"] = at
    kind = message["type"]
    if kind == "page":
        profile["page_views"] += 1
        if profile["last_seen"] is None or at > profile["last_seen"]:
            profile["last_seen"] = at
    elif kind == "identify":
        traits = message.get("traits") or {}
        if at >= profile["identified_at"]:
            profile["identified_at"] = at
            profile["attributes"] = {**profile["attributes"], **traits}
        else:
            profile["attributes"] = {**traits, **profile["attributes"]}
    return profile


@lru_cache(maxsize=4096)
def moment(at: str | None) -> datetime | None:
    """A time as asyncpg takes it."""
    return None if at is None else datetime.fromisoformat(at)
