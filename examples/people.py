"""The people of the sample's story, their devices and companies, and what is true of any message they cause."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from examples.vocabulary import BROWSERS, COMPANIES, PEOPLE, PHONES, TABLET, Browser, Company

END: Final = datetime(2026, 11, 16, 8, tzinfo=UTC)
"""When the week ends. Fixed, so that a seed gives the same bytes on any day."""
WEEK_S: Final = 7 * 86_400
DAY_S: Final = 86_400

Message = dict[str, Any]


@dataclass
class Sent:
    """A message and when Segment received it, in seconds since the epoch (that orders the arrivals)."""

    received_s: float
    message: Message


@dataclass
class Device:
    anonymous_id: str
    browser: Browser | None
    """None for the mobile app."""
    phone: tuple[str, str, str, str, str, int, int] | None
    push_token: str
    ip: str
    known: bool = False
    """Somebody has signed in on it."""


@dataclass
class Person:
    user_id: str | int
    first: str
    last: str
    country: str
    region: str
    city: str
    locale: str
    timezone: str
    email: str
    phone: str
    company: Company | None
    devices: list[Device] = field(default_factory=list)
    orders: int = 0
    revenue: float = 0.0


def iso(seconds: float) -> str:
    """Format an instant as Segment does: milliseconds and Z."""
    moment = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def make_people(rng: random.Random, count: int) -> list[Person]:
    people: list[Person] = []
    for number in range(count):
        first, _, country, region, city, locale, timezone = PEOPLE[number % len(PEOPLE)]
        last = PEOPLE[(number * 7 + number // len(PEOPLE)) % len(PEOPLE)][1]
        company = rng.choice(COMPANIES) if rng.random() < 0.35 else None
        person = Person(
            user_id=40_100 + number if number % 17 == 5 else f"u_{1000 + number}",
            first=first,
            last=last,
            country=country,
            region=region,
            city=city,
            locale=locale,
            timezone=timezone,
            email=f"{ascii_letters(first)}.{ascii_letters(last)}{number}@mail.example",
            phone=f"+1555{rng.randrange(10**7):07d}",
            company=company,
        )
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            person.devices.append(_device(rng))
        people.append(person)
    for one, other in zip(people[3::20], people[4::20], strict=False):
        tablet = Device(uuid(rng), TABLET, None, "", _ip(rng))
        one.devices.append(tablet)
        other.devices.append(tablet)
    return people


def ascii_letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isascii() and letter.isalpha()) or "friend"


def _ip(rng: random.Random) -> str:
    return f"{rng.choice((203, 198))}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def _device(rng: random.Random) -> Device:
    if rng.random() < 0.3:
        return Device(uuid(rng).upper(), None, rng.choice(PHONES), f"{rng.getrandbits(160):040x}", _ip(rng))
    return Device(uuid(rng), rng.choice(BROWSERS), None, "", _ip(rng))


def stamp(
    rng: random.Random,
    message: Message,
    happened_s: float,
    clock_off_s: float,
    queue_s: float,
    *,
    received_s: float | None = None,
) -> Sent:
    """Give a message its four times, and sometimes not all of them; `receivedAt` is always there."""
    if received_s is None:
        received_s = happened_s + queue_s + 0.3
    if "node" in message["messageId"]:
        original_s, sent_s = happened_s, received_s - 0.04
        timestamp_s = happened_s
    else:
        original_s = happened_s + clock_off_s
        sent_s = original_s + queue_s
        timestamp_s = received_s - (sent_s - original_s)
    message["receivedAt"] = iso(received_s)
    message["originalTimestamp"] = iso(original_s)
    message["sentAt"] = iso(sent_s)
    message["timestamp"] = iso(timestamp_s)
    dice = rng.random()
    if "node" in message["messageId"]:
        if dice < 0.3:
            del message["sentAt"]
        elif dice < 0.4:
            message["timestamp"] = message["timestamp"].replace("Z", "+00:00")
    elif dice < 0.02:
        del message["timestamp"]
    elif dice < 0.03:
        del message["timestamp"], message["sentAt"]
    elif dice < 0.035:
        del message["timestamp"], message["sentAt"], message["originalTimestamp"]
    return Sent(received_s, message)
