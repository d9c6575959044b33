"""The messages of a comparison, and what has to be in Postgres once all of them were applied.

Computed here from the messages alone, by code that shares nothing with any of the systems that are compared.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from examples.generate import generate

SEED = 7
REPEATED = 100
"""One message in so many is a repetition: enough that leaving deduplication out gives wrong rows."""
LATER = 2_000
"""A message is repeated after so many others, in another partition: a retry some seconds later."""


@dataclass
class Profile:
    """What is compared of one profile."""

    page_views: int = 0
    last_seen: str = ""
    identified: str = ""
    email: str = ""
    points: str = ""


@dataclass
class Truth:
    """What has to be there. `leaves` is by identity as a message names it (userId, else anonymousId); in `profiles`
    anonymous identities that a message named beside a userId are one with that user, as Tidemark resolves them."""

    messages: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Distinct messages by type."""
    leaves: str = ""
    """Digest, see `DIGEST`."""
    profiles: str = ""


DIGEST = """
select count(*) || ' profiles, ' || coalesce(md5(string_agg(concat_ws(' ',
    profile_id, page_views, coalesce(round(extract(epoch from last_seen) * 1000)::text, ''), coalesce(email, ''),
    coalesce(attributes ->> 'loyalty_points', '')
), E'\\n' order by profile_id)), 'empty')
from profiles
"""
"""Of every profile: its key, count of pages, last page in ms since 1970, and two traits of its newest identify."""


def distinct(messages: int) -> int:
    """How many of `messages` are no repetition."""
    if messages % REPEATED or messages <= LATER:
        raise SystemExit(f"--messages: expected a multiple of {REPEATED} above {LATER}; got {messages}")
    return messages - messages // REPEATED


def traffic(messages: int, users: int) -> Iterator[bytes]:
    """Yield `messages` record values, repetitions among them; the same arguments give the same bytes."""
    waiting: deque[tuple[int, bytes]] = deque()
    for number, line in enumerate(generate(SEED, distinct(messages), profile="load", users=users)):
        yield line
        if number % (REPEATED - 1) == 0:
            waiting.append((number + LATER, line))
        while waiting and waiting[0][0] <= number:
            yield waiting.popleft()[1]
    yield from (line for _, line in waiting)


def truth(messages: int, users: int) -> Truth:
    """Apply the distinct messages one by one."""
    kinds: Counter[str] = Counter()
    leaves: dict[str, Profile] = {}
    owners: dict[str, str] = {}
    for line in generate(SEED, distinct(messages), profile="load", users=users):
        message = json.loads(line)
        kind, at = message["type"], message["timestamp"]
        kinds[kind] += 1
        anonymous = f"anon:{message['anonymousId']}"
        if message["userId"] is not None:
            leaf = f"user:{message['userId']}"
            owners.setdefault(anonymous, leaf)
        else:
            leaf = anonymous
        profile = leaves.setdefault(leaf, Profile())
        if kind == "page":
            profile.page_views += 1
            profile.last_seen = max(profile.last_seen, at)
        elif kind == "identify" and at >= profile.identified:
            profile.identified = at
            profile.email = message["traits"]["email"]
            profile.points = str(message["traits"]["loyalty_points"])
    merged: dict[str, Profile] = {}
    for leaf, profile in leaves.items():
        whole = merged.setdefault(owners.get(leaf, leaf), Profile())
        whole.page_views += profile.page_views
        whole.last_seen = max(whole.last_seen, profile.last_seen)
        if profile.identified > whole.identified:
            whole.identified, whole.email, whole.points = profile.identified, profile.email, profile.points
    return Truth(messages, kinds, digest(leaves), digest(merged))


def digest(profiles: dict[str, Profile]) -> str:
    """What `DIGEST` returns for these profiles."""
    lines = (
        f"{key} {each.page_views} {_milliseconds(each.last_seen)} {each.email} {each.points}"
        for key, each in sorted(profiles.items())
    )
    return f"{len(profiles)} profiles, {hashlib.md5(chr(10).join(lines).encode()).hexdigest()}"


def _milliseconds(at: str) -> str:
    return str(round(datetime.fromisoformat(at).timestamp() * 1000)) if at else ""
