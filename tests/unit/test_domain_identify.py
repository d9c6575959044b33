"""What an identify call sets (SEMANTICS S5)."""

import subprocess
import sys

import pytest

from contracts.outcomes import Reason, WarningKind
from domain.user_agent import read_user_agent
from tests.messages import CHROME, call, message, refused

LOADS_NOTHING = """
import sys
from domain.user_agent import load_parser, read_user_agent
load_parser()
loaded = set(sys.modules)
assert read_user_agent(sys.argv[1]).browser_family == "Chrome"
assert set(sys.modules) == loaded, set(sys.modules) - loaded
"""


def test_a_user_agent_is_read_by_what_was_loaded_before():
    subprocess.run([sys.executable, "-c", LOADS_NOTHING, CHROME], check=True)


def fields(traits, /, **context):
    return call("identify", traits=traits, context=context).content.fields


def attributes(traits):
    return call("identify", traits=traits).content.attributes


def test_standard_fields_from_traits():
    content = call(
        "identify",
        traits={"email": "a@b.co", "firstName": "Ann", "lastName": "Lee", "phone": "+1", "gender": "f"},
    ).content
    assert content.fields == {"email": "a@b.co", "first_name": "Ann", "last_name": "Lee", "phone": "+1", "gender": "f"}
    assert content.attributes == {}


def test_scalars_are_text_and_null_removes():
    assert fields({"phone": 123, "gender": True, "email": None, "first_name": 1.5, "last_name": ""}) == {
        "phone": "123",
        "gender": "true",
        "email": None,
        "first_name": "1.5",
        "last_name": "",
    }


def test_lists_and_objects_are_ignored_and_counted():
    content = call("identify", traits={"email": ["a@b.co"], "phone": {"home": 1}, "address": {"city": []}}).content
    assert content.fields == {}
    assert content.ignored == (WarningKind.IGNORED_FIELD,) * 3


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ({"first_name": "A", "firstName": "B"}, {"first_name": "A"}),
        ({"firstName": "B", "first_name": None}, {"first_name": None}),
        ({"lastName": "B", "last_name": "A"}, {"last_name": "A"}),
        ({"first_name": [], "firstName": "B"}, {}),
        ({"name": "Ann Mary Lee"}, {"first_name": "Ann", "last_name": "Mary Lee"}),
        ({"name": "  Ann  "}, {"first_name": "Ann"}),
        ({"name": ""}, {"first_name": ""}),
        ({"name": 12}, {"first_name": "12"}),
        ({"name": None}, {"first_name": None, "last_name": None}),
        ({"name": "Ann Lee", "firstName": "Bea"}, {"first_name": "Bea", "last_name": "Lee"}),
        ({"name": "Ann", "firstName": "Bea"}, {"first_name": "Bea"}),
        ({"name": "Ann Lee", "last_name": None}, {"first_name": "Ann", "last_name": None}),
        ({"name": None, "first_name": "A"}, {"first_name": "A", "last_name": None}),
        ({"name": "Ann Lee", "firstName": "B", "last_name": "C"}, {"first_name": "B", "last_name": "C"}),
        ({"name": ["Ann"]}, {}),
    ],
)
def test_names(traits, expected):
    content = call("identify", traits=traits).content
    assert content.fields == expected
    assert content.attributes == {}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            {"city": "Rome", "country": "IT", "state": "RM", "street": "x", "postalCode": "1"},
            {"city": "Rome", "country": "IT", "region": "RM"},
        ),
        ({"region": "A", "state": "B"}, {"region": "A"}),
        ({"region": None, "state": "B"}, {"region": None}),
        ({"city": None}, {"city": None}),
        ({"city": 5, "country": True}, {"city": "5", "country": "true"}),
        ({}, {}),
        (None, {"country": None, "region": None, "city": None}),
    ],
)
def test_address_objects(address, expected):
    content = call("identify", traits={"address": address}).content
    assert content.fields == expected
    assert content.attributes == {}


@pytest.mark.parametrize(
    ("address", "kept"), [("Main St 1", "Main St 1"), (5, 5), (True, True), (["x"], ['["x"]']), ("", "")]
)
def test_any_other_address_is_an_attribute(address, kept):
    content = call("identify", traits={"address": address}).content
    assert content.fields == {}
    assert content.attributes == {"address": kept}


def test_every_other_trait_is_an_attribute():
    traits = {
        "page_views": 5,
        "id": "x",
        "city": "Rome",
        "os": None,
        "": 1,
        "a.b": 1.0,
        "a b": True,
        "$c": {"d": [1]},
        "big": 2**70,
        "état": "",
    }
    assert attributes(traits) == {**traits, "$c": ['{"d":[1]}'], "big": [str(2**70)]}


def test_long_names_are_cut():
    (name,) = attributes({"k" * 600: 1})
    assert len(name) == 512


def test_traits_of_the_context_fill_in():
    content = call(
        "identify",
        traits={"email": None, "plan": "pro"},
        context={"traits": {"email": "c@d.co", "plan": "free", "phone": "1", "level": 2}},
    ).content
    assert content.fields == {"email": None, "phone": "1"}
    assert content.attributes == {"plan": "pro", "level": 2}


def test_spellings_are_compared_after_merging():
    assert fields({"firstName": "A"}, traits={"first_name": "B", "name": "C D"}) == {
        "first_name": "B",
        "last_name": "D",
    }


@pytest.mark.parametrize("absent", [..., None, []])
def test_absent_traits(absent):
    content = call("identify", traits=absent).content
    assert (content.fields, content.attributes) == ({}, {})


@pytest.mark.parametrize("wrong", ["x", "", 5, True, ["a"], [[]]])
def test_traits_of_the_wrong_shape_refuse_the_message(wrong):
    assert refused(message("identify", traits=wrong)) == Reason.INVALID_FIELD


def test_context_fields():
    found = fields(
        {},
        ip="1.2.3.4",
        timezone="Europe/Rome",
        locale="it-IT",
        page={"url": "https://x.io/a"},
        os={"name": "iPadOS"},
        device={"name": "Ann's", "model": "iPad7,3", "type": "ios"},
        screen={"width": 1440, "height": 900},
    )
    assert found == {
        "ip_address": "1.2.3.4",
        "timezone": "Europe/Rome",
        "language": "it-IT",
        "current_url": "https://x.io/a",
        "os": "iPadOS",
        "device_name": "Ann's",
        "device_type": "ios",
        "resolution": "1440x900",
    }


def test_empty_and_null_context_counts_as_absent():
    empty = {
        "ip": "",
        "locale": None,
        "os": {"name": ""},
        "device": {"name": "", "model": "M"},
        "page": {"url": ""},
        "userAgent": "",
    }
    found = call("identify", context=empty)
    assert found.content.fields == {"device_name": "M"}
    assert found.warnings == ()


@pytest.mark.parametrize("context", ["x", 5, True, [], ["y"]])
def test_context_of_the_wrong_shape_is_absent_with_a_warning(context):
    for kind in ("identify", "page", "screen", "track", "group", "alias"):
        assert call(kind, context=context).warnings == (WarningKind.WRONG_SHAPE,)
    assert call("identify", context=None).warnings == ()


def test_parts_of_context_of_the_wrong_shape():
    wrong = {
        "ip": 5,
        "page": "x",
        "os": [],
        "device": 1,
        "screen": "big",
        "traits": [],
        "userAgent": {},
        "personas": "p",
    }
    found = call("identify", traits={"plan": "pro"}, context=wrong)
    assert found.content.fields == {}
    assert found.content.attributes == {"plan": "pro"}
    assert found.warnings == (WarningKind.WRONG_SHAPE,) * 8


@pytest.mark.parametrize(
    ("width", "height", "resolution"),
    [
        (1440, 900, "1440x900"), ("1440", "0900", "1440x900"), (1440.0, 900, "1440x900"), (1440, None, None),
        (1440.5, 900, None),
        ("1440px", 900, None), (True, 900, None), ("", 900, None), ("²", 900, None), ("9" * 20, 0, "9" * 20 + "x0"),
    ],
)  # fmt: skip
def test_resolution(width, height, resolution):
    assert fields({}, screen={"width": width, "height": height}).get("resolution") == resolution


def test_user_agent_fills_what_the_context_does_not_say():
    assert fields({}, userAgent=CHROME) == {
        "user_agent": CHROME,
        "os": "Mac OS X",
        "browser_family": "Chrome",
        "browser_version": "120.0.6099",
        "device_type": "desktop",
    }
    found = fields({}, userAgent=CHROME, os={"name": "macOS"}, device={"type": "laptop"})
    assert (found["os"], found["device_type"]) == ("macOS", "laptop")


ANDROID = "Mozilla/5.0 (Linux; Android 13; {}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/116.0.0.0 {}Safari/537.36"
APPLE = (
    "Mozilla/5.0 ({}; CPU {} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.1 Mobile/15E148 Safari/604.1"
)
CHROME_OS = (
    "Mozilla/5.0 (X11; CrOS x86_64 8172.45.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0.2704.64 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
NOTHING = (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (APPLE.format("iPhone", "iPhone OS 17_1"), ("iOS", "Mobile Safari", "17.1", "mobile")),
        (APPLE.format("iPad", "OS 17_1"), ("iOS", "Mobile Safari", "17.1", "tablet")),
        (ANDROID.format("Pixel 7", "Mobile "), ("Android", "Chrome Mobile", "116.0.0", "mobile")),
        (ANDROID.format("SM-X906C", ""), ("Android", "Chrome", "116.0.0", "tablet")),
        (FIREFOX, ("Windows", "Firefox", "121.0", "desktop")),
        (CHROME_OS, ("Chrome OS", "Chrome", "51.0.2704", "desktop")),
        (GOOGLEBOT, (None, "Googlebot", "2.1", None)),
        (ANDROID.format("Pixel", "Mobile ") + " " + GOOGLEBOT, ("Android", "Googlebot", "2.1", None)),
        ("curl/8.1.2", (None, "curl", "8.1.2", None)),
        ("analytics-ios/4.1", NOTHING),
        ("\ufffd", NOTHING),
        ("(" * 300_000, NOTHING),
    ],
)
def test_user_agents(text, expected):
    assert tuple(read_user_agent(text)) == expected
