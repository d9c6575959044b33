"""Visits of people: on the website through analytics.js, and in the mobile app."""

import random
from collections.abc import Iterator

from examples.people import END, WEEK_S, Device, Message, Person, Sent, stamp, uuid
from examples.trade import company_traits, order, product_properties, traits
from examples.vocabulary import ARTICLES, CAMPAIGNS, PRODUCTS, REFERRERS, SITE


def sessions(rng: random.Random, people: list[Person]) -> Iterator[Sent]:
    """Yield visits without end: the first people come more often than the last."""
    weights = [1 / (rank + 3) for rank in range(len(people))]
    while True:
        person = rng.choices(people, weights)[0]
        device = rng.choice(person.devices)
        start_s = END.timestamp() - rng.random() * WEEK_S
        signs_in = device.known or rng.random() < 0.7
        visit = _web_visit if device.browser else _app_visit
        yield from visit(rng, person, device, start_s, signs_in=signs_in)


def _web_visit(rng: random.Random, person: Person, device: Device, start_s: float, *, signs_in: bool) -> Iterator[Sent]:
    assert device.browser is not None
    clock_off_s = rng.choice((0, 0, 0, 2, -40, 5400))
    now_s = start_s
    known = device.known and rng.random() < 0.8
    referrer = rng.choice(REFERRERS)
    campaign = rng.choice(CAMPAIGNS) if referrer and rng.random() < 0.3 else None

    def call(kind: str, path: str, title: str, **fields: object) -> Sent:
        url = SITE + path
        context: Message = {
            "ip": device.ip,
            "library": {"name": "analytics.js", "version": "next-1.81.0"},
            "locale": person.locale,
            "page": {"path": path, "referrer": referrer, "search": "", "title": title, "url": url},
            "timezone": person.timezone,
            "userAgent": device.browser.user_agent if device.browser else "",
        }
        if device.browser and device.browser.screen:
            width, height = device.browser.screen
            context["screen"] = {"width": width, "height": height, "density": 2}
        if device.browser and device.browser.hints[0] != "Safari":
            brand, mobile, platform = device.browser.hints
            context["userAgentData"] = {
                "brands": [{"brand": brand, "version": "141"}],
                "mobile": mobile,
                "platform": platform,
            }
        if campaign:
            context["campaign"] = dict(campaign)
        message: Message = {
            "anonymousId": device.anonymous_id,
            "context": context,
            "integrations": {},
            "messageId": f"ajs-next-{int(now_s * 1000)}-{uuid(rng)}",
            "type": kind,
            "userId": person.user_id if known else None,
            **fields,
        }
        return stamp(rng, message, now_s, clock_off_s, 0.2 + rng.random())

    def page(path: str, title: str, name: str | None = None) -> Sent:
        properties = {"path": path, "referrer": referrer, "search": "", "title": title, "url": SITE + path}
        fields: Message = {"properties": properties}
        if name:
            fields |= {"name": name}
            properties["name"] = name
        return call("page", path, title, **fields)

    yield page("/", "Fernway · Gear for outside", "Home")
    now_s += rng.uniform(5, 60)
    if rng.random() < 0.25:
        slug, title = rng.choice(ARTICLES)
        yield page(f"/journal/{slug}", title)
        now_s += rng.uniform(30, 240)
    product = rng.choice(PRODUCTS)
    category = f"/{product.category.lower()}"
    yield page(category, product.category)
    yield call(
        "track",
        category,
        product.category,
        event="Product List Viewed",
        properties={"category": product.category},
    )
    now_s += rng.uniform(5, 60)
    path = f"{category}/{product.sku.lower()}"
    yield page(path, product.name)
    yield call("track", path, product.name, event="Product Viewed", properties=product_properties(rng, product))
    if signs_in and not known:
        now_s += rng.uniform(10, 60)
        known = True
        yield page("/sign-in", "Sign in")
        now_s += rng.uniform(3, 20)
        yield call("identify", "/sign-in", "Sign in", traits=traits(rng, person))
        device.known = True
        yield call(
            "track",
            "/sign-in",
            "Sign in",
            event="Signed In",
            properties={"method": rng.choice(("password", "google"))},
        )
        if person.company:
            yield call(
                "group",
                "/account",
                "Your account",
                groupId=person.company.group_id,
                traits=company_traits(rng, person.company),
            )
    now_s += rng.uniform(10, 90)
    if rng.random() < 0.5:
        yield call("track", path, product.name, event="Product Added", properties=product_properties(rng, product))
        yield page("/cart", "Your cart", "Cart")
        if known and rng.random() < 0.55:
            now_s += rng.uniform(20, 120)
            yield page("/checkout", "Checkout", "Checkout")
            yield call(
                "track",
                "/checkout",
                "Checkout",
                event="Order Completed",
                properties=order(rng, person, product),
            )


def _app_visit(rng: random.Random, person: Person, device: Device, start_s: float, *, signs_in: bool) -> Iterator[Sent]:
    assert device.phone is not None
    maker, model, kind_of_device, os_name, os_version, width, height = device.phone
    queue_s = rng.choice((1.0, 4.0, 4.0, 30.0, 3 * 3600.0))
    now_s = start_s
    known = device.known and rng.random() < 0.9
    is_apple = kind_of_device == "ios"

    def call(kind: str, **fields: object) -> Sent:
        message: Message = {
            "anonymousId": device.anonymous_id,
            "channel": "mobile",
            "context": {
                "app": {
                    "name": "Fernway",
                    "version": "5.12.0",
                    "build": "5120",
                    "namespace": "example.fernway",
                },
                "device": {
                    "id": device.anonymous_id,
                    "manufacturer": maker,
                    "model": model,
                    "name": f"{person.first}'s {maker} phone" if is_apple else model,
                    "type": kind_of_device,
                    "token": device.push_token,
                    "adTrackingEnabled": False,
                },
                "library": {
                    "name": "analytics-swift" if is_apple else "analytics-kotlin",
                    "version": "1.9.2",
                },
                "locale": person.locale,
                "network": {"bluetooth": False, "carrier": "Fernmobile", "cellular": True, "wifi": False},
                "os": {"name": os_name, "version": os_version},
                "screen": {"width": width, "height": height, "density": 3},
                "timezone": person.timezone,
                "ip": device.ip,
            },
            "integrations": {},
            "messageId": uuid(rng).upper() if is_apple else uuid(rng),
            "type": kind,
            **fields,
        }
        if known:
            message["userId"] = person.user_id
        if not is_apple:
            message["context"]["userAgent"] = f"Dalvik/2.1.0 (Linux; U; Android {os_version}; {model} Build/AP3A)"
        return stamp(rng, message, now_s, 0.0, queue_s)

    yield call(
        "track",
        event="Application Opened",
        properties={"from_background": rng.random() < 0.5, "version": "5.12.0"},
    )
    yield call("screen", name="Home", properties={})
    now_s += rng.uniform(3, 40)
    if signs_in and not known:
        known = True
        device.known = True
        yield call("identify", traits=traits(rng, person))
    product = rng.choice(PRODUCTS)
    yield call("screen", name="Product", properties={"sku": product.sku, "name": product.name})
    yield call("track", event="Product Viewed", properties=product_properties(rng, product))
    now_s += rng.uniform(3, 40)
    if known and rng.random() < 0.25:
        yield call("track", event="Order Completed", properties=order(rng, person, product))
