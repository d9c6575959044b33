"""A week at Fernway, told by the sources that a shop has: website, mobile app, servers and Engage.

`tell` makes the messages, `arrivals` their disorder and duplicates; odd lines are the caller's.
"""

import random
from collections.abc import Iterator
from typing import Final

from examples.people import Message, Sent, make_people
from examples.systems import engage, servers
from examples.visits import sessions

_HOUR_S: Final = 3600


def tell(rng: random.Random, messages: int, users: int | None = None) -> list[Sent]:
    """Return exactly `messages` messages of about `users` people (by default one for 35 messages)."""
    people = make_people(rng, users or max(8, messages // 35))
    from_engage = messages // 12
    from_servers = messages // 14
    visits = _take(sessions(rng, people), messages - from_engage - from_servers)
    return visits + _take(servers(rng, people), from_servers) + _take(engage(rng, people), from_engage)


def _take(sent: Iterator[Sent], count: int) -> list[Sent]:
    return [next(sent) for _ in range(count)]


def arrivals(rng: random.Random, sent: list[Sent], duplicates: int) -> list[Message]:
    """Return the messages in their order of arrival: out of order by hours, some twice, hours apart."""
    at = [(one.received_s + rng.choice((0, 0, 1, 3)) * _HOUR_S * rng.random(), one.message) for one in sent]
    at += [(when + rng.uniform(0.5, 4) * _HOUR_S, message) for when, message in rng.sample(at, duplicates)]
    return [message for _, message in sorted(at, key=lambda pair: pair[0])]
