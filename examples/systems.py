"""What machines send: the shop's servers and imports, and Segment's own Engage."""

import random
from collections.abc import Iterator

from examples.people import DAY_S, END, WEEK_S, Message, Person, Sent, stamp, uuid
from examples.trade import account_traits, company_traits, order, order_number
from examples.vocabulary import PRODUCTS, SPACE_ID


def servers(rng: random.Random, people: list[Person]) -> Iterator[Sent]:
    """Yield what the shop's own servers and imports send: userId only, little context, some late."""
    library = {"library": {"name": "analytics-node", "version": "2.2.1"}}
    while True:
        person = rng.choice(people)
        now_s = END.timestamp() - rng.random() * WEEK_S
        message: Message = {
            "messageId": f"node-next-{int(now_s * 1000)}-{uuid(rng)}",
            "userId": person.user_id,
            "context": dict(library),
            "integrations": {"All": True, "Salesforce": False},
        }
        dice = rng.random()
        happened_s = now_s
        if dice < 0.35:
            number = order_number(rng)
            message |= {
                "type": "track",
                "event": "Order Shipped",
                "properties": {
                    "order_id": number,
                    "carrier": rng.choice(("DHL", "PostNord", "UPS")),
                    "parcels": 1,
                },
            }
            message["context"]["traits"] = {"email": person.email}
        elif dice < 0.5:
            happened_s = now_s - rng.uniform(30, 1100) * DAY_S
            product = rng.choice(PRODUCTS)
            message |= {
                "type": "track",
                "event": "Order Completed",
                "properties": order(rng, person, product),
            }
            message["properties"]["imported"] = True
        elif dice < 0.56:
            happened_s = now_s + rng.uniform(1, 40) * DAY_S
            message |= {
                "type": "track",
                "event": "Trip Reminder Scheduled",
                "properties": {"channel": "email"},
            }
        elif dice < 0.66:
            product = rng.choice(PRODUCTS)
            message |= {
                "type": "track",
                "event": "Order Refunded",
                "properties": {"order_id": order_number(rng), "revenue": -product.price, "reason": None},
            }
        elif dice < 0.86:
            happened_s = now_s - rng.choice((0, 0, 20, 200)) * DAY_S
            message |= {"type": "identify", "traits": account_traits(rng, person)}
            if rng.random() < 0.4:
                message["context"]["traits"] = {"newsletter": rng.random() < 0.5, "plan": "never: traits win"}
        elif dice < 0.96 and person.company:
            message |= {
                "type": "group",
                "groupId": person.company.group_id,
                "traits": company_traits(rng, person.company),
            }
        else:
            message |= {"type": "alias", "previousId": rng.choice(person.devices).anonymous_id}
        yield stamp(rng, message, happened_s, 0.0, 0.05, received_s=now_s)


def engage(rng: random.Random, people: list[Person]) -> Iterator[Sent]:
    """Yield audiences, computed traits and journey steps in both of their forms."""
    while True:
        person = rng.choice(people)
        now_s = END.timestamp() - rng.random() * WEEK_S
        message: Message = {
            "messageId": f"personas_{rng.getrandbits(100):025x}",
            "userId": person.user_id,
            "integrations": {"All": False, "Warehouses": {"all": False}, "Kafka": True},
            "version": 2,
        }
        if rng.random() < 0.25:
            message["anonymousId"] = person.devices[0].anonymous_id
        dice = rng.random()
        as_track = rng.random() < 0.5
        if dice < 0.5:
            key, entered = _audience(rng, person)
            message |= {"context": _personas("audience", key)}
            if as_track:
                event = "Audience Entered" if entered else "Audience Exited"
                message |= {
                    "type": "track",
                    "event": event,
                    "properties": {"audience_key": key, key: entered},
                }
            else:
                message |= {"type": "identify", "traits": {key: entered}}
        elif dice < 0.78:
            key, value = rng.choice(
                (
                    ("total_revenue_180_days", round(person.revenue, 2)),
                    ("order_count", person.orders),
                    ("favourite_category", rng.choice(PRODUCTS).category),
                )
            )
            message |= {"context": _personas(rng.choice(("trait", "computed_trait")), key)}
            if as_track:
                message |= {
                    "type": "track",
                    "event": "Trait Computed",
                    "properties": {"trait_key": key, key: value},
                }
            else:
                message |= {"type": "identify", "traits": {key: value}}
        elif dice < 0.9:
            step = rng.choice(("welcome_series_email_1", "welcome_series_email_2", "win_back_offer"))
            message |= {
                "context": _personas("journey_step", step),
                "type": "identify",
                "traits": {step: "true"},
            }
        elif person.company:
            message |= {
                "context": _personas("audience", "team_accounts"),
                "type": "group",
                "groupId": person.company.group_id,
                "traits": {"team_accounts": True},
            }
        else:
            message |= {
                "context": {
                    "personas": {
                        "computation_class": "audience",
                        "computation_id": "aud_2x",
                        "space_id": SPACE_ID,
                    }
                },
                "type": "identify",
                "traits": {"beta_testers": rng.random() < 0.5},
            }
        yield stamp(rng, message, now_s, 0.0, 0.0)


def _audience(rng: random.Random, person: Person) -> tuple[str, bool]:
    return rng.choice(
        (
            ("first_time_shopper", person.orders == 1),
            ("big_spenders", person.revenue > 400),
            ("cart_abandoners", rng.random() < 0.6),
            ("weekend_campers", True),
        )
    )


def _personas(computation_class: str, key: str) -> Message:
    return {
        "personas": {
            "computation_class": computation_class,
            "computation_id": f"aud_{sum(key.encode()):06d}",
            "computation_key": key,
            "namespace": SPACE_ID,
            "space_id": SPACE_ID,
        }
    }
