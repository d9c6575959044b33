"""Messages for load: the sizes, kinds and skew of real traffic, made fast from templates.

55 % page, 33 % track, 10 % identify, 2 % group; users by a Zipf law; about 0.9 kB a message. A fifth of
the page and track calls are anonymous, on one of their user's two devices.
"""

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from examples.people import END, iso
from examples.vocabulary import BROWSERS, COMPANIES, PEOPLE, PRODUCTS, SITE, Browser

CHUNK: Final = 20_000
"""Messages drawn at a time: random.choices costs less than a microsecond a draw this way."""
PER_SECOND: Final = 1000
"""Messages that share a second of receivedAt: one a millisecond."""
_ANONYMOUS: Final = 0.2


def load(
    rng: random.Random, messages: int, users: int, zipf: float, *, hot: float = 0.0, attributes: int = 0
) -> Iterator[bytes]:
    """Yield `messages` lines; the n-th of `users` users weighs n to the power -zipf.

    With `hot`, the first user makes that share of all messages; an identify call has `attributes` traits besides.
    """
    templates = _templates(attributes)
    kinds = ("page", "track", "identify", "group")
    weights = [rank**-zipf for rank in range(1, users + 1)]
    if hot:
        weights[0] = hot / (1 - hot) * sum(weights[1:])
    ladder = list(accumulate(weights))
    start_s = END.timestamp()
    salt = rng.getrandbits(48)
    second, stamp = -1, b""
    done = 0
    while done < messages:
        size = min(CHUNK, messages - done)
        who = rng.choices(range(users), cum_weights=ladder, k=size)
        what = rng.choices(kinds, (55, 33, 10, 2), k=size)
        dice = [rng.random() for _ in range(size)]
        for place in range(size):
            number, user, luck = done + place, who[place], dice[place]
            if number // PER_SECOND != second:
                second = number // PER_SECOND
                stamp = iso(start_s + second)[:-4].encode()
            kind = what[place]
            known = luck >= _ANONYMOUS or kind in ("identify", "group")
            pool = templates[kind]
            yield pool[int(luck * 7919) % len(pool)] % {
                b"user": b'"u%07d"' % user if known else b"null",
                b"number": b"%d" % user,
                b"anonymous": b"a%07d-%d-4b1e-9f55-0c2d5b7e88aa" % (user, number & 1),
                b"id": b"ajs-next-%012x-%010x" % (salt, number),
                b"at": b"%s%03dZ" % (stamp, number % PER_SECOND),
                b"value": b"%d" % (luck * 10_000),
            }
        done += size


def introductions(rng: random.Random, users: int, *, attributes: int = 0) -> Iterator[bytes]:
    """Yield one identify call of each user, on the first device, an hour before `load` begins."""
    pool = _templates(attributes)["identify"]
    at = iso(END.timestamp() - 3600).encode()
    salt = rng.getrandbits(48)
    for user in range(users):
        yield pool[user % len(pool)] % {
            b"user": b'"u%07d"' % user,
            b"number": b"%d" % user,
            b"anonymous": b"a%07d-0-4b1e-9f55-0c2d5b7e88aa" % user,
            b"id": b"ajs-next-%012x-%010x" % (salt, user),
            b"at": at,
            b"value": b"%d" % (user % 10_000),
        }


def _templates(attributes: int = 0) -> dict[str, list[bytes]]:
    """Return ready lines by kind, with %-places for what differs between messages."""
    out: dict[str, list[bytes]] = {"page": [], "track": [], "identify": [], "group": []}
    for browser in BROWSERS:
        for index, product in enumerate(PRODUCTS):
            path = f"/{product.category.lower()}/{product.sku.lower()}"
            page = {
                "path": path,
                "referrer": SITE + "/",
                "search": "",
                "title": product.name,
                "url": SITE + path,
            }
            out["page"].append(_template("page", browser, index, page, name=product.name, properties=page))
            order = {"order_id": "FW-@value", "revenue": product.price, "currency": "EUR", "sku": product.sku}
            event = "Order Completed" if index % 5 == 0 else "Product Viewed"
            out["track"].append(_template("track", browser, index, page, event=event, properties=order))
            first, last, country, region, city, _, _ = PEOPLE[index % len(PEOPLE)]
            traits = {
                "email": "u@number@mail.example",
                "firstName": first,
                "lastName": last,
                "address": {"city": city, "country": country, "state": region},
                "plan": "member",
                "loyalty_points": "@value",
                **{f"attribute_{number:03}": f"value {number} of @number" for number in range(attributes)},
            }
            out["identify"].append(_template("identify", browser, index, page, traits=traits))
            company = COMPANIES[index % len(COMPANIES)]
            group = {"name": company.name, "industry": company.industry, "employees": company.employees}
            out["group"].append(_template("group", browser, index, page, groupId=company.group_id, traits=group))
    return out


def _template(kind: str, browser: Browser, index: int, page: dict[str, str], **fields: object) -> bytes:
    message = {
        "anonymousId": "@anonymous",
        "context": {
            "ip": f"203.0.113.{index + 1}",
            "library": {"name": "analytics.js", "version": "next-1.81.0"},
            "locale": PEOPLE[index % len(PEOPLE)][5],
            "page": page,
            "timezone": PEOPLE[index % len(PEOPLE)][6],
            "userAgent": browser.user_agent,
        },
        "integrations": {},
        "messageId": "@id",
        "originalTimestamp": "@at",
        "receivedAt": "@at",
        "sentAt": "@at",
        "timestamp": "@at",
        "type": kind,
        "userId": "@user",
        **fields,
    }
    line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).replace("%", "%%")
    line = line.replace('"@user"', "%(user)b").replace('"@value"', "%(value)b")
    for place in ("anonymous", "number", "value", "id", "at"):
        line = line.replace("@" + place, f"%({place})b")
    return line.encode()
