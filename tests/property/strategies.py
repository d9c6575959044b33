"""Messages as they come and as they should not: what Hypothesis draws from."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.messages import CHROME

TIMES = st.sampled_from(
    [
        "2026-02-23T22:28:55.387Z",
        "2026-02-23T22:28:55.388Z",
        "2026-02-24",
        "2026-02-23 23:28:55+01:00",
        1_771_885_735_387,
    ]
)
ODD_TIMES = st.sampled_from(
    [None, "soon", "2026-02-23T22:28:55", "1960-01-01", -1, True, 1.5, "2031-01-01T00:00:00Z", []]
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2**63, -(2**63) - 1, 2**64, 10**40, 1.0, -0.0, 1e22, 0.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", " 12 ", "12.0", "1e3", "true", "FALSE", "1", "0", "2026-01-01", "red", "a\0b", "x" * 600]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)

NUMBERS = ("n", "i", "b", "d", "f", "m")
"""Names that the tests define with a type of their own, one for each."""
NAMES = st.sampled_from([*NUMBERS, "plan", "vip", "id", "", "a.b", "$x", "k" * 600, "z\0"])
STANDARD = st.sampled_from(
    ["email", "phone", "gender", "first_name", "firstName", "last_name", "lastName", "name", "address", "employees"]
)
ADDRESSES = st.dictionaries(st.sampled_from(["country", "region", "state", "city", "street"]), SCALARS, max_size=4)


def objects(names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[dict[str, Any]]:
    """Traits or properties."""
    values = st.one_of(SCALARS, JSON, ADDRESSES, st.sampled_from(["Ann", "Ann Lee", " Ann  Lee "]))
    return st.dictionaries(names, values, min_size=1, max_size=5)


PARTS = st.one_of(objects(), objects(STANDARD), objects(NAMES | STANDARD), st.sampled_from([None, [], {}]))
USER_AGENTS = st.sampled_from([CHROME, "curl/8.1.2", "", None, 5, "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X)"])
TEXTS = st.sampled_from(["x", "y", "", None, 5, ["x"]])
ODD = st.sampled_from([None, "x", 5, [], True])


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A part of the context, of the wrong shape now and then."""
    return st.one_of(st.fixed_dictionaries({}, optional=fields), ODD)


PIXELS = st.sampled_from([1440, "0900", 900.0, 1.5, "wide", None, True])
PERSONAS = part(
    computation_class=st.sampled_from(["audience", "journey_step", "trait", "computed_trait", "", None, 5]),
    computation_key=st.sampled_from(["vip", "plan", "email", "k" * 600, "", None, 5]),
)
CONTEXTS = part(
    ip=TEXTS,
    locale=TEXTS,
    timezone=TEXTS,
    userAgent=USER_AGENTS,
    os=part(name=TEXTS),
    device=part(name=TEXTS, model=TEXTS, type=TEXTS),
    screen=part(width=PIXELS, height=PIXELS),
    page=part(url=TEXTS, path=TEXTS, title=TEXTS, referrer=TEXTS),
    traits=PARTS,
    personas=PERSONAS,
)
USER_IDS = st.one_of(
    st.sampled_from(["u1", " u1 ", "u2", 7]), st.sampled_from(["u1", None, "null", "0", 1.5, "u" * 600, "u\0"])
)
ANONYMOUS_IDS = st.sampled_from(["a1", "a2", 9, None, "", "'null'", {}])


@st.composite
def engaged(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """The context and the traits or properties of a message of Engage, which mostly bring a membership or a value."""
    key = draw(st.sampled_from(["vip", "vip", "plan", "email", "n", "k" * 600]))
    personas = {"computation_class": draw(st.sampled_from(["audience", "journey_step", "trait", "new"]))}
    values = draw(objects())
    if draw(st.booleans()):
        personas["computation_key"] = key
    else:
        values |= {"audience_key": key, "trait_key": key}
    values[key] = draw(st.one_of(st.booleans(), st.sampled_from(["true", "False", 1, 0.0, None, "maybe"]), SCALARS))
    return {"personas": personas}, values


def without(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was drawn as absent."""
    return {key: value for key, value in message.items() if value is not ...}


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """One message that mostly can be applied; without a messageId."""
    kind = draw(st.sampled_from(["identify", "page", "screen", "track", "group", "alias"]))
    message: dict[str, Any] = {
        "type": kind,
        "userId": draw(USER_IDS),
        "anonymousId": draw(ANONYMOUS_IDS),
        "timestamp": draw(st.one_of(TIMES, TIMES, ODD_TIMES, st.just(...))),
        "originalTimestamp": draw(st.one_of(TIMES, ODD_TIMES, st.just(...))),
        "sentAt": draw(st.one_of(TIMES, st.just(...))),
        "receivedAt": draw(st.one_of(TIMES, ODD_TIMES, st.just(...))),
        "context": draw(st.one_of(CONTEXTS, st.just(...))),
    }
    odd_part = st.sampled_from(["x", 5, ["x"]])
    if kind in {"identify", "group"}:
        message["traits"] = draw(st.one_of(PARTS, PARTS, PARTS, st.just(...), odd_part))
        message["groupId"] = draw(st.sampled_from(["acme", " acme", 5, "globex", "null", "g" * 600, "", 1.5]))
    else:
        pages = st.sampled_from(["url", "path", "title", "referrer", "name", "n"])
        audiences = st.fixed_dictionaries(
            {"audience_key": TEXTS, "trait_key": st.sampled_from(["vip", "n"]), "vip": SCALARS}
        )
        message["properties"] = draw(st.one_of(PARTS, objects(pages), audiences, st.just(...), odd_part))
        message["name"] = draw(st.one_of(TEXTS, st.just(...)))
    if kind == "track":
        message["event"] = draw(st.sampled_from(["Order Completed", "Order Completed", " x ", "e" * 600, "", None, 5]))
    if kind == "alias":
        message["previousId"] = draw(ANONYMOUS_IDS)
    if kind in {"identify", "track", "group"} and draw(st.integers(0, 2)) == 0:
        message["context"], message["properties" if kind == "track" else "traits"] = draw(engaged())
    return without(message)


def encoded(message: Any) -> bytes:
    """A record's value: NUL and what is not ASCII escaped half of the time is left to json."""
    return json.dumps(message, ensure_ascii=False).encode()
