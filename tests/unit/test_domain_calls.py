"""What page, screen, track and group calls record; reasons and messageIds (SEMANTICS S3, S7-S9, S12)."""

import json
from hashlib import sha256

import pytest

from contracts.definitions import AttributeType, Definition, Definitions
from contracts.outcomes import Reason, WarningKind
from domain.calls import missing
from domain.leaf import apply
from domain.names import bounded
from tests.messages import AT, call, defined, message, read, refused


def view(kind="page", **changes):
    return call(kind, **changes).content.row


def test_a_page_is_its_row():
    properties = {
        "url": "https://x.io/a",
        "path": "/a",
        "title": "A",
        "referrer": "r",
        "name": "inner",
        "keywords": ["k"],
    }
    row = view(name="Home", properties=properties)
    assert row[:9] == ("m-1", "user:u1", "page", AT, "https://x.io/a", "/a", "A", "r", "Home")
    assert json.loads(row.properties) == properties


def test_a_screen_is_a_view_of_its_own_kind():
    assert (view("screen", name="Main").kind, view("screen", name="Main").name) == ("screen", "Main")


def test_what_a_view_lacks_comes_from_the_context():
    page = {"url": "u", "path": "p", "title": "t", "referrer": "r", "name": "n"}
    assert view(context={"page": page})[4:9] == ("u", "p", "t", "r", None)
    assert view(properties={"url": "", "path": None}, context={"page": page})[4:9] == ("", "p", "t", "r", None)
    assert view(context={"page": {"url": ""}}).url is None
    assert view(properties={"name": "n"}).name == "n"
    assert view(properties={"name": ""}, name=None).name == ""
    assert view(properties={"name": "n"}, name="").name == ""


def test_odd_parts_of_a_view_count_as_absent():
    found = call("page", name=5, properties={"url": 7, "title": ["t"]}, context={"page": {"url": "u", "title": 3}})
    assert found.content.row[4:9] == ("u", None, None, None, None)
    assert found.warnings == (WarningKind.WRONG_SHAPE,) * 4
    assert json.loads(found.content.row.properties) == {"url": 7, "title": ["t"]}
    assert call("page", context={"page": "x"}).warnings == (WarningKind.WRONG_SHAPE,)


@pytest.mark.parametrize("kind", ["page", "screen", "track"])
def test_properties_of_the_wrong_shape_refuse_the_message(kind):
    for absent in (..., None, []):
        assert call(kind, properties=absent).warnings == ()
    for wrong in ("x", "", 5, False, ["a"], [{}]):
        assert refused(message(kind, properties=wrong)) == Reason.INVALID_FIELD


def test_events_need_a_name():
    for absent in (..., None, "", " \t"):
        assert refused(message("track", event=absent)) == Reason.MISSING_EVENT_NAME
        assert refused(message("track", event=absent, properties="x")) == Reason.MISSING_EVENT_NAME
    for wrong in (5, True, ["e"], {}, 0, []):
        assert refused(message("track", event=wrong)) == Reason.INVALID_FIELD


def test_the_name_of_an_event_is_kept_as_it_is():
    assert call("track", event=" Order  done ").content.event == " Order  done "
    assert call("track", event="x" * 600).content.event == bounded("x" * 600)
    assert call("track", event="a\0b").content.event == "a\ufffdb"


def occurrence(properties, definitions=None):
    found = call("track", properties=properties)
    return apply(None, None, found, definitions or Definitions())


def test_undefined_properties_are_text():
    properties = {"a": "x", "n": 27.5, "i": 5, "b": True, "o": {"k": [1]}}
    row = occurrence(properties).occurrence
    assert row[:4] == ("m-1", "user:u1", "Order Completed", AT)
    assert json.loads(row.properties) == {"a": "x", "n": "27.5", "i": "5", "b": "true", "o": '{"k":[1]}'}
    assert json.loads(row.sent_properties) == properties


@pytest.mark.parametrize("properties", [{}, {"a": "x", "b": ""}])
def test_sent_properties_are_not_kept_twice(properties):
    row = occurrence(properties).occurrence
    assert json.loads(row.properties) == properties
    assert row.sent_properties is None


def test_properties_are_typed_by_their_event():
    types = {
        "n": AttributeType.NUMBER,
        "i": AttributeType.INTEGER,
        "d": AttributeType.DATETIME,
        "b": AttributeType.BOOLEAN,
    }
    definitions = Definitions().extended(
        1, [("event:Order Completed", name, Definition(kind)) for name, kind in types.items()]
    )
    applied = occurrence({"n": "5.5", "i": 6.0, "d": "2026-01-01", "b": 1, "s": "x"}, definitions)
    assert json.loads(applied.occurrence.properties) == {
        "n": 5.5,
        "i": 6,
        "d": "2026-01-01T00:00:00Z",
        "b": True,
        "s": "x",
    }
    assert '"i":6,' in applied.occurrence.properties
    assert applied.occurrence.sent_properties is not None
    applied = occurrence({"n": "many", "i": None, "s": "x"}, definitions)
    assert json.loads(applied.occurrence.properties) == {"s": "x"}
    assert json.loads(applied.occurrence.sent_properties) == {"n": "many", "i": None, "s": "x"}
    assert applied.ignored == (WarningKind.IGNORED_PROPERTY,)
    same = {"n": 5.5, "i": 6, "d": "2026-01-01T00:00:00Z", "b": True, "s": "x"}
    assert occurrence(same, definitions).occurrence.sent_properties is None
    assert occurrence({"i": 6.0}, definitions).occurrence.sent_properties == '{"i":6.0}'


def test_long_property_names_are_cut():
    row = occurrence({"k" * 600: "v"}).occurrence
    assert json.loads(row.properties) == {bounded("k" * 600): "v"}
    assert json.loads(row.sent_properties) == {"k" * 600: "v"}


def test_what_is_missing_from_the_definitions():
    track = call("track", properties={"a": 1, "b": None})
    assert set(missing(track, Definitions())) == {("event", "Order Completed"), ("event:Order Completed", "a")}
    identify = call("identify", traits={"plan": "x", "gone": None, "email": "e"})
    assert missing(identify, Definitions()) == [("user", "plan")]
    group = call("group", traits={"plan": "x", "gone": None, "name": "e"})
    assert missing(group, Definitions()) == [("company", "plan")]
    assert missing(call("page", properties={"a": 1}), Definitions()) == []
    assert missing(call("alias"), Definitions()) == []
    known = defined([track, identify, group])
    assert [missing(each, known) for each in (track, identify, group)] == [[], [], []]


def test_groups_need_an_id():
    for absent in (..., None, "", " ", True, 1.5, {}, ["acme"]):
        assert refused(message("group", groupId=absent)) == Reason.MISSING_GROUP_ID
        assert refused(message("group", groupId=absent, traits="x")) == Reason.MISSING_GROUP_ID
    for sent, company_id in ((" acme ", "acme"), (0, "0"), ("null", "null"), ("x" * 600, bounded("x" * 600))):
        assert call("group", groupId=sent).content.company_id == company_id


def test_traits_of_a_group():
    traits = {
        "name": "Acme",
        "employees": 420,
        "address": {"city": "Rome"},
        "email": None,
        "phone": [1],
        "plan": 5,
        "website": {"a": 1},
    }
    content = call("group", traits=traits).content
    assert content.fields == {
        "name": "Acme",
        "employees": "420",
        "address": '{"city":"Rome"}',
        "email": None,
        "phone": "[1]",
    }
    assert content.attributes == {"plan": 5, "website": ['{"a":1}']}
    for wrong in ("x", 5, ["a"]):
        assert refused(message("group", traits=wrong)) == Reason.INVALID_FIELD
    assert call("group", traits=[]).content.fields == {}


def test_message_ids():
    assert call("page", messageId=" m ").message_id == " m "
    assert call("page", messageId=12).message_id == "12"
    assert call("page", messageId=1.5).message_id == "1.5"
    assert call("page", messageId="x" * 600).message_id == bounded("x" * 600)


@pytest.mark.parametrize("absent", [..., None, "", True, {}, ["m"]])
def test_without_message_id_the_payload_is_hashed(absent):
    sent = message("page", messageId=absent)
    found = read(sent)
    payload = {key: value for key, value in sent.items() if key not in {"sentAt", "receivedAt", "timestamp"}}
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert found.message_id == "sha256:" + sha256(canonical.encode()).hexdigest()
    assert found.warnings == (WarningKind.MISSING_MESSAGE_ID,)
    later = read(sent | {"sentAt": "2026-03-01", "receivedAt": "2026-03-01", "timestamp": "2026-02-28"})
    assert later.message_id == found.message_id
    assert read(dict(reversed(sent.items()))).message_id == found.message_id
    assert read(sent | {"properties": {"a": 1}}).message_id != found.message_id


def test_without_original_timestamp_the_timestamp_counts():
    sent = message("page", messageId=..., originalTimestamp=None)
    assert read(sent).message_id != read(sent | {"timestamp": "2026-02-01"}).message_id


def test_the_first_reason_in_order_is_given():
    bad = {"type": "nothing", "userId": None, "properties": "x"}
    assert refused(bad) == Reason.UNKNOWN_TYPE
    assert refused(bad | {"type": "track"}) == Reason.NO_IDENTITY
    assert refused(bad | {"type": "track", "userId": "u"}) == Reason.MISSING_EVENT_NAME
    assert refused(bad | {"type": "group", "userId": "u", "traits": 5}) == Reason.MISSING_GROUP_ID
    assert refused(bad | {"type": "track", "userId": "u", "event": 5}) == Reason.INVALID_FIELD
    assert refused([]) == Reason.NOT_AN_OBJECT


def test_integrations_are_no_filter():
    assert call("page", integrations={"All": False}).warnings == ()
