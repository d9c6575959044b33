"""The compiled reading of messages against its Python twin: it says the same, or leaves the message to the twin."""

import json
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.definitions import EVENTS, STRING, AttributeType, Definition, Definitions
from contracts.outcomes import Refusal
from contracts.records import Kept
from domain.calls import Call, interpret, missing
from domain.decoding import decode
from domain.groups import Group
from domain.identify import Identify
from domain.identity import Rules
from domain.tracks import Track, occurrence
from domain.views import View
from examples.generate import generate
from tests.fuzz.corpus import mutated, seeds
from tests.messages import KAFKA_MS, RULES, message, raw
from tests.property.strategies import JSON, NUMBERS, SCALARS, messages
from tests.property.test_decoding import damaged
from tests.property.test_typing import CHOICES, NUMBER_TEXTS, TIME_TEXTS

native = pytest.importorskip("tidemark_native", reason="the compiled hot path is not built")

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.jsonl"
TYPES = dict(zip(NUMBERS, [kind for kind in AttributeType if kind is not AttributeType.STRING], strict=True))
EVENT = "Order Completed"
BY_HAND = Definitions().extended(
    1,
    [
        (scope, name, Definition(kind, CHOICES))
        for scope in ("user", "company", f"event:{EVENT}")
        for name, kind in TYPES.items()
    ],
)
ALL_IDS = Rules.of((), max_message_bytes=1024 * 1024, future_tolerance_s=300)
MOST = 0.85
"""Of the sample's messages: a tenth are of kinds that are left to the twin, some are odd on purpose."""


@cache
def reader(rules: Rules):
    return native.Reader(rules.blocked_ids, rules.max_message_bytes, rules.future_tolerance_us)


def parsed(text: str | None):
    """JSON text by what it says: the order of keys, and whether a number is a float, included."""
    return None if text is None else repr(json.loads(text))


def kinds(warnings) -> list[str]:
    return [str(each) for each in warnings]


def by_twin(call: Call, definitions: Definitions):
    """What the compiled reading has to say of this call; None where it has to leave it to the twin."""
    content = call.content
    if isinstance(content, View):
        row = content.row
        assert (row.message_id, row.leaf, row.kind, row.event_time) == (
            *(call.message_id, call.leaf, call.type),
            call.at,
        )
        told = (row.url, row.path, row.title, row.referrer, row.name, parsed(row.properties))
    elif isinstance(content, Track):
        ignored = []
        row = occurrence(content, definitions, ignored, leaf=call.leaf, message_id=call.message_id, at=call.at)
        traits = None if content.traits is None else traits_of(content.traits)
        told = (row.event, parsed(row.properties), parsed(row.sent_properties), kinds(ignored), traits)
    elif isinstance(content, Identify):
        told = traits_of(content)
    elif isinstance(content, Group):
        told = (content.company_id, list(content.fields.items()), list(content.attributes.items()))
    else:
        return None
    assert len(call.claims) <= 1
    return (call.leaf, call.type, call.message_id, call.at, next(iter(call.claims), None), kinds(call.warnings), told)


def traits_of(said: Identify):
    membership = said.membership
    pair = None if membership is None else (membership.audience, membership.member)
    return (list(said.fields.items()), list(said.attributes.items()), pair, kinds(said.ignored))


def by_native(told):
    """What the compiled reading says, its JSON by what that says."""
    leaf, kind, message_id, at, claim, warnings, content = told
    if kind in {"page", "screen"}:
        content = (*content[:-1], parsed(content[-1]))
    elif kind == "track":
        event, properties, sent, *others = content
        content = (event, parsed(properties), parsed(sent), *others)
    return (leaf, kind, message_id, at, claim, warnings, content)


def read_both(value: bytes, definitions: Definitions = BY_HAND, rules: Rules = RULES, timestamp_ms: int = KAFKA_MS):
    """Read with both, define what is missing, and read again. Returns what both say; None if it is left to the twin."""
    read = reader(rules)
    call = interpret(value, timestamp_ms, rules)
    read.define(definitions)
    told = read.read(value, timestamp_ms)
    if told is None:
        return None
    assert not isinstance(call, Refusal), (told, call)
    pairs = missing(call, definitions)
    if pairs:
        assert told == pairs
        scopes = [(scope, name, STRING) for scope, name in pairs if scope != EVENTS]
        definitions = definitions.extended(2, scopes, [name for scope, name in pairs if scope == EVENTS])
        read.define(definitions)
        told = read.read(value, timestamp_ms)
        if told is None:  # a key that comes twice in a value, say, is noticed when it is written
            return None
    assert isinstance(told, tuple)
    expected = by_twin(call, definitions)
    told = by_native(told)
    assert repr(told) == repr(expected)
    return told


@cache
def real() -> tuple[bytes, ...]:
    """Messages as they come: the sample, and some of the load profile."""
    return (*SAMPLE.read_bytes().splitlines(), *generate(7, 2000, profile="load", users=50))


@cache
def readable() -> tuple[bytes, ...]:
    """Those of them that are JSON objects."""
    return tuple(value for value in real() if not isinstance(decode(value, RULES.max_message_bytes), Refusal))


ODD_VALUES = st.one_of(
    JSON,
    SCALARS,
    NUMBER_TEXTS,
    TIME_TEXTS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab \t\x1c\x85\xa0\u2003\u00e9\u0130\U0001f981\"\\\n\x7f'0-", max_size=6),
    st.sampled_from(["null", "'undefined'", "0-0", "x" * 130, "\u00e9" * 300, 253_402_300_799_999, 1.5]),
    st.sampled_from([[], {}, [[]]]).map(deepcopy),  # each its own: messages are varied in place
)


class Repeated(dict):
    """An object with a key that comes twice."""


def encoded(value, ascii_only: bool) -> str:
    """JSON of a value, `Repeated` objects among it."""
    if isinstance(value, dict):
        items = [*value.items(), *(value.twice if isinstance(value, Repeated) else ())]
        return "{" + ",".join(f"{encoded(key, ascii_only)}:{encoded(item, ascii_only)}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(encoded(item, ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def objects_in(value):
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from objects_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects_in(item)


@st.composite
def varied(draw):
    """A real message with fields left out, replaced, added or repeated."""
    content = json.loads(draw(st.sampled_from(readable())))
    for _ in range(draw(st.integers(1, 4))):
        within = draw(st.sampled_from([content, content, *objects_in(content)]))
        names = sorted(within) or ["x"]
        name = draw(st.one_of(st.sampled_from(names), st.sampled_from([*NUMBERS, "name", "address", "page", "traits"])))
        act = draw(st.integers(0, 3))
        if act == 0:
            within.pop(name, None)
        else:
            within[name] = draw(ODD_VALUES)
    text = encoded(content, draw(st.booleans()))
    if draw(st.integers(0, 4)) == 0:
        repeated = Repeated(draw(st.sampled_from(list(objects_in(content)))))
        repeated.twice = [(draw(st.sampled_from(sorted(repeated) or ["x"])), draw(ODD_VALUES))]
        text = text.replace(encoded(dict(repeated), ascii_only=False), encoded(repeated, ascii_only=False), 1)
    return text.encode(errors="replace")


@given(messages(), st.booleans(), st.sampled_from(["m-1", "m-1", "m-1", 5, 1.5, "", None, "\u00e9" * 200, "m" * 600]))
def test_drawn_messages_are_read_alike(content, ascii_only, message_id):
    read_both(json.dumps(content | {"messageId": message_id}, ensure_ascii=ascii_only).encode())


@given(varied())
def test_varied_real_messages_are_read_alike(value):
    read_both(value)


@given(st.one_of(damaged(), st.binary(max_size=60), JSON.map(raw)))
@example(b"")
@example(b'{"type":"page","userId":"u","messageId":"m","properties":{"n":1e999}}')
@example(b'{"type":"page","userId":"u","messageId":"m","integrations":[{"n":-1e999}]}')
@example(b'{"type":"page","userId":"u","messageId":"m","properties":{"a":{"b":1,"b":2}}}')
@example(b'{"type":"page","userId":"u","messageId":"m","properties":{"n":-0,"m":-0.0,"x":1E5}}')
@example(b'{"type":"page","userId":"a\\u0000","messageId":"m"}')
@example(b'\xef\xbb\xbf{"type":"page","userId":"u","messageId":"m"}')
@example(b'{"type":"page","userId":"u","messageId":"m"}{}')
def test_damaged_messages_are_read_alike(value):
    read_both(value)


@given(st.integers(0, 2**32), st.booleans())
def test_mutated_real_messages_are_read_alike(seed, sampled):
    random = Random(seed)
    value = mutated(random.choice(real() if sampled else seeds()), random)
    read_both(value)
    read_both(value[: random.randint(0, len(value))])


VALUES = st.one_of(ODD_VALUES, NUMBER_TEXTS, TIME_TEXTS, st.sampled_from([*CHOICES, list(CHOICES), ["red", 1], []]))


@given(st.dictionaries(st.sampled_from([*NUMBERS, "text", "other"]), VALUES, max_size=6))
def test_properties_are_typed_alike(properties):
    told = read_both(json.dumps(message("track", event=EVENT, properties=properties)).encode())
    if told is None:
        assert any(needs_twin(value) for value in properties.values())


@given(st.dictionaries(st.sampled_from(["name", "firstName", "email", "address", *NUMBERS]), VALUES, max_size=6))
def test_traits_are_read_alike(traits):
    told = read_both(json.dumps(message("identify", traits=traits)).encode())
    if told is None:
        assert any(needs_twin(value) for value in traits.values())


def needs_twin(value) -> bool:
    """Whether a value, or one in it, may be left to the twin: an integer beyond 64 bits, U+0000, an hour 24."""
    if isinstance(value, dict):
        return any(needs_twin(each) for item in value.items() for each in item)
    if isinstance(value, list):
        return any(map(needs_twin, value))
    if isinstance(value, str):
        digits = value.strip().lstrip("-")
        return "\0" in value or "24:" in value or (digits.isdigit() and len(digits) > 18)
    return isinstance(value, int) and not -(2**63) <= value < 2**63


@given(
    st.lists(
        st.one_of(
            TIME_TEXTS,
            st.integers(-5, 253_402_300_800_005),
            st.floats(0, 3e14),
            st.floats(0, 1),
            st.from_regex(
                r"[012][0-9]{3}-[01][0-9]-[0-3][0-9]([Tt ][0-2][0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{0,8})?)?"
                r"([Zz]|[+-][0-2][0-9](:?[0-6][0-9])?)?)?\n?",
                fullmatch=True,
            ),
            st.sampled_from(
                ["0000-01-01", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "1900-02-29", None]
            ),
            ODD_VALUES,
        ),
        min_size=4,
        max_size=4,
    ),
    st.integers(-1, 2**53),
)
def test_times_are_read_alike(times, timestamp_ms):
    names = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
    value = raw(message("page", **dict(zip(names, times, strict=True))))
    read_both(value, timestamp_ms=timestamp_ms)


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-1074, 1023).map(lambda n: 2.0**n)))
def test_floats_are_written_alike(number):
    properties = {"text": number, "i": number, "n": number}
    assert read_both(raw(message("track", event=EVENT, properties=properties))) is not None


@given(st.text(alphabet="0123456789.eE+-", max_size=25))
def test_numbers_are_read_alike(text):
    read_both(b'{"type":"page","userId":"u","messageId":"m","properties":{"n":%s}}' % text.encode())


def test_white_space_is_the_same():
    read = reader(ALL_IDS)
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if "\ud800" <= character <= "\udfff" or (code >= 0x3100 and not character.isspace() and code % 61):
            continue
        told = read.read(json.dumps(message("page", userId=f"{character}x{character}")).encode(), KAFKA_MS)
        assert told is None if code == 0 else told[0] == "user:" + f"{character}x{character}".strip()


def test_properties_defined_before_their_event():
    definitions = Definitions().extended(1, [("event:e", "n", Definition(AttributeType.NUMBER))])
    value = raw(message("track", event="e", properties={"n": "12", "x": 1}))
    assert read_both(value, definitions)[-1][1:3] == (repr({"n": 12, "x": "1"}), repr({"n": "12", "x": 1}))


def test_no_ordinary_message_is_left_to_the_twin():
    for value in generate(11, 4000, profile="load", users=500):
        assert read_both(value) is not None, value


def test_most_messages_of_the_sample_are_not_left_to_the_twin():
    told = [read_both(value) for value in SAMPLE.read_bytes().splitlines()]
    assert sum(each is not None for each in told) > MOST * len(told)


def test_a_kept_container_is_a_list_of_its_text():
    attributes = read_both(raw(message("identify", traits={"a": [1, 2.0], "b": {"c": "\x1f"}})))[-1][1]
    expected: list[tuple[str, Kept]] = [("a", ["[1,2.0]"]), ("b", ['{"c":"\\u001f"}'])]
    assert attributes == expected
