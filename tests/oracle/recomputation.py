"""From all records to the public tables: S1, S3, S4 and the list of tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from tests.oracle.calls import COMPANY_FIELDS, Said, said_by
from tests.oracle.reading import Refused, cut, decode, event_time, moment
from tests.oracle.shapes import BLOCKED_IDS, Definition, Record, Row, Tables
from tests.oracle.typing_rules import LOST, convert

FIELDS = (
    *("email", "first_name", "last_name", "phone", "gender", "country", "region", "city"),
    *("user_agent", "os", "device_name", "device_type", "language", "resolution", "ip_address"),
    *("browser_family", "browser_version", "timezone", "current_url"),
)
KEYS: dict[str, tuple[str, ...]] = {
    "profiles": ("profile_id",),
    "identities": ("leaf",),
    "identity_contests": ("leaf",),
    "page_views": ("event_time", "message_id", "leaf"),
    "event_occurrences": ("event_time", "message_id", "leaf"),
    "companies": ("company_id",),
    "company_members": ("company_id", "leaf"),
    "audience_memberships": ("leaf", "audience"),
    "audience_history": ("leaf", "audience", "event_time", "message_id"),
    "attribute_definitions": ("scope", "name"),
    "event_definitions": ("name",),
    "quarantine": ("topic", "partition", "offset"),
    "profile_page_views": ("event_time", "message_id", "leaf"),
    "profile_events": ("event_time", "message_id", "leaf"),
    "profile_companies": ("profile_id", "company_id"),
    "profile_audiences": ("profile_id", "audience"),
}
"""The key of each public table and view; rows are sorted by it."""
MOST_LEAVES = 1_000
STRING = Definition("string")

Position = tuple[int, str]
"""Event time in microseconds and messageId: what newest wins by."""


class Applied(NamedTuple):
    """A message that counts, and when it happened."""

    time: int
    said: Said

    @property
    def position(self) -> Position:
        return self.time, self.said.message_id


def recompute(
    records: Iterable[Record],
    *,
    definitions: Mapping[tuple[str, str], Definition] | None = None,
    claims: bool,
    blocked_ids: Collection[str] = BLOCKED_IDS,
    max_message_bytes: int = 1_048_576,
    future_tolerance_s: int = 300,
    unclaimed: Collection[tuple[str, str]] = (),
    is_forbidden: Callable[[Record], bool] = lambda _: False,
) -> Tables:
    """Return the final public tables for all `records`.

    `definitions` are those made by hand beforehand, by `(scope, name)`. Without `claims` each leaf is its own
    profile. `unclaimed` holds pairs `(anonymous leaf, user leaf)` that an operator has taken apart.
    """
    tables = Tables()
    applied, quarantine = _apply(
        tables,
        records,
        blocked_ids=blocked_ids,
        max_message_bytes=max_message_bytes,
        future_tolerance_s=future_tolerance_s,
        is_forbidden=is_forbidden,
    )
    types = _definitions(applied, definitions or {})
    claimed = [
        (one.position, anonymous, one.said.leaf)
        for one in applied
        for anonymous in one.said.claims
        if claims and (anonymous, one.said.leaf) not in unclaimed
    ]
    leaves = {one.said.leaf for one in applied} | {anonymous for _, anonymous, _ in claimed}
    owners = _owners(claimed)
    profile_of = {leaf: owners.get(leaf, leaf) for leaf in leaves}

    rows: dict[str, list[Row]] = {
        "profiles": _profiles(applied, profile_of, types),
        "identities": [{"leaf": leaf, "profile_id": profile} for leaf, profile in profile_of.items()],
        "identity_contests": _contests(claimed),
        "page_views": [_page_view(one) for one in applied if one.said.view is not None],
        "event_occurrences": [_occurrence(one, types) for one in applied if one.said.event is not None],
        "companies": _companies(applied, types),
        "company_members": _members(applied),
        "audience_memberships": _memberships(applied),
        "audience_history": _history(applied),
        "attribute_definitions": [
            {"scope": scope, "name": name, "type": definition.type, "source": definition.source}
            for (scope, name), definition in types.items()
        ],
        "event_definitions": [{"name": name} for name in {one.said.event for one in applied} if name is not None],
        "quarantine": quarantine,
        "profile_audiences": _profile_audiences(applied, profile_of),
    }
    for view, table in (("profile_page_views", "page_views"), ("profile_events", "event_occurrences")):
        rows[view] = [{"profile_id": profile_of[row["leaf"]], **row} for row in rows[table]]
    pairs = {(profile_of[row["leaf"]], row["company_id"]) for row in rows["company_members"]}
    rows["profile_companies"] = [{"profile_id": profile, "company_id": company} for profile, company in pairs]
    for table, key in KEYS.items():
        tables.rows[table] = sorted(rows[table], key=lambda row, key=key: tuple(row[column] for column in key))  # type: ignore[misc]  # mypy cannot see the default
    return tables


def _apply(
    tables: Tables,
    records: Iterable[Record],
    *,
    blocked_ids: Collection[str],
    max_message_bytes: int,
    future_tolerance_s: int,
    is_forbidden: Callable[[Record], bool],
) -> tuple[list[Applied], list[Row]]:
    """Count every record as exactly one of three (S12), and return what is applied and what is quarantined."""
    applied: list[Applied] = []
    quarantine: list[Row] = []
    seen: set[tuple[str, str]] = set()
    reasons: Counter[str] = Counter()
    for record in records:
        tables.read += 1
        try:
            _admit(record, is_forbidden)
            message = decode(record.value, max_message_bytes)
            said = said_by(message, blocked_ids)
        except Refused as refused:
            reason = str(refused)
            reasons[reason] += 1
            quarantine.append(
                {
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "reason": reason,
                    "raw": record.value or b"",
                }
            )
            continue
        if (said.leaf, said.message_id) in seen:
            tables.duplicate += 1
            continue
        seen.add((said.leaf, said.message_id))
        tables.applied += 1
        applied.append(Applied(event_time(message, record.kafka_time_ms, future_tolerance_s), said))
    tables.quarantined = dict(sorted(reasons.items()))
    return applied, quarantine


def _admit(record: Record, is_forbidden: Callable[[Record], bool]) -> None:
    if is_forbidden(record):
        raise Refused("forbidden")


def _definitions(
    applied: list[Applied], by_hand: Mapping[tuple[str, str], Definition]
) -> dict[tuple[str, str], Definition]:
    types = dict(by_hand)

    def define(scope: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value is not None:
                types.setdefault((scope, cut(name)), Definition("string", source="auto"))

    for one in applied:
        define("user", one.said.attributes)
        define("company", one.said.company_attributes)
        if one.said.event is not None:
            define(f"event:{one.said.event}", one.said.properties)
    return types


def _owners(claimed: list[tuple[Position, str, str]]) -> dict[str, str]:
    """Return the owner of each anonymous leaf: the earliest claim, less those beyond an owner's limit."""
    owners: dict[str, str] = {}
    owned: Counter[str] = Counter()
    for _, anonymous, user in sorted(claimed):
        if anonymous not in owners and owned[user] < MOST_LEAVES:
            owners[anonymous] = user
            owned[user] += 1
    return owners


def _contests(claimed: list[tuple[Position, str, str]]) -> list[Row]:
    """Return the anonymous leaves that several users claim, each with every user's earliest claim."""
    earliest: dict[str, dict[str, Position]] = defaultdict(dict)
    for position, anonymous, user in claimed:
        earliest[anonymous][user] = min(position, earliest[anonymous].get(user, position))
    rows = []
    for anonymous, of_users in earliest.items():
        claimants = sorted((position, user) for user, position in of_users.items())
        if len(claimants) > 1:
            rows.append(
                {
                    "leaf": anonymous,
                    "owner": claimants[0][1],
                    "since": moment(claimants[0][0][0]),
                    "claimants": [
                        {"user": user, "at": f"{moment(time):%Y-%m-%dT%H:%M:%S.%f}Z", "message_id": message_id}
                        for (time, message_id), user in claimants
                    ],
                }
            )
    return rows


class _Newest:
    """The values that one field was given."""

    def __init__(self) -> None:
        self.values: list[tuple[Position, Any]] = []

    def add(self, position: Position, value: Any) -> None:
        self.values.append((position, value))

    def under(self, definition: Definition) -> Any:
        """Return the newest value that converts, converted; None where there is none or it was removed."""
        for _, value in sorted(self.values, key=lambda pair: pair[0], reverse=True):
            converted = convert(value, definition)
            if converted is not LOST:
                return converted
        return None


def _typed(values: Mapping[str, _Newest], scope: str, types: Mapping[tuple[str, str], Definition]) -> Row:
    """Return the typed attributes that are held, by name."""
    held = {name: value.under(types.get((scope, name), STRING)) for name, value in values.items()}
    return {name: value for name, value in held.items() if value is not None}


def _profiles(
    applied: list[Applied], profile_of: Mapping[str, str], types: Mapping[tuple[str, str], Definition]
) -> list[Row]:
    by_profile: dict[str, list[Applied]] = defaultdict(list)
    for one in applied:
        by_profile[profile_of[one.said.leaf]].append(one)
    rows = []
    for profile, messages in by_profile.items():
        fields: dict[str, _Newest] = defaultdict(_Newest)
        attributes: dict[str, _Newest] = defaultdict(_Newest)
        for one in messages:
            for column, value in one.said.fields.items():
                fields[column].add(one.position, value)
            for name, value in one.said.attributes.items():
                attributes[name].add(one.position, value)
        pages = [one.time for one in messages if one.said.view is not None and one.said.view["kind"] == "page"]
        rows.append(
            {
                "profile_id": profile,
                "user_id": profile.removeprefix("user:") if profile.startswith("user:") else None,
                **{column: fields[column].under(STRING) for column in FIELDS},
                "page_views": len(pages),
                "first_seen": moment(min(one.time for one in messages)),
                "last_seen": moment(max(pages)) if pages else None,
                "attributes": _typed(attributes, "user", types),
            }
        )
    return rows


def _page_view(one: Applied) -> Row:
    assert one.said.view is not None
    where = {"message_id": one.said.message_id, "leaf": one.said.leaf, "event_time": moment(one.time)}
    return where | one.said.view


def _occurrence(one: Applied, types: Mapping[tuple[str, str], Definition]) -> Row:
    sent = one.said.properties
    scope = f"event:{one.said.event}"
    typed = {cut(name): convert(value, types.get((scope, cut(name)), STRING)) for name, value in sent.items()}
    typed = {name: value for name, value in typed.items() if value is not LOST and value is not None}
    return {
        "message_id": one.said.message_id,
        "leaf": one.said.leaf,
        "event": one.said.event,
        "event_time": moment(one.time),
        "properties": typed,
        "sent_properties": None if _is_same(typed, sent) else sent,
    }


def _is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, booleans and kinds of numbers told apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)


def _companies(applied: list[Applied], types: Mapping[tuple[str, str], Definition]) -> list[Row]:
    fields: dict[str, dict[str, _Newest]] = {}
    attributes: dict[str, dict[str, _Newest]] = {}
    for one in applied:
        if one.said.company is None:
            continue
        for values, told in ((fields, one.said.company_fields), (attributes, one.said.company_attributes)):
            slots = values.setdefault(one.said.company, defaultdict(_Newest))
            for name, value in told.items():
                slots[name].add(one.position, value)
    return [
        {
            "company_id": company,
            **{column: slots[column].under(STRING) for column in COMPANY_FIELDS},
            "attributes": _typed(attributes[company], "company", types),
        }
        for company, slots in fields.items()
    ]


def _members(applied: list[Applied]) -> list[Row]:
    joined: dict[tuple[str, str], int] = {}
    for one in applied:
        if one.said.company is not None:
            pair = (one.said.company, one.said.leaf)
            joined[pair] = min(one.time, joined.get(pair, one.time))
    return [
        {"company_id": company, "leaf": leaf, "joined_at": moment(time)} for (company, leaf), time in joined.items()
    ]


def _newest_memberships(
    applied: list[Applied], whose: Callable[[str], str]
) -> dict[tuple[str, str], tuple[Position, bool]]:
    newest: dict[tuple[str, str], tuple[Position, bool]] = {}
    for one in applied:
        if one.said.audience is not None:
            audience, member = one.said.audience
            key = (whose(one.said.leaf), audience)
            newest[key] = max(newest.get(key, (one.position, member)), (one.position, member))
    return newest


def _memberships(applied: list[Applied]) -> list[Row]:
    return [
        {"leaf": leaf, "audience": audience, "member": member, "changed_at": moment(position[0])}
        for (leaf, audience), (position, member) in _newest_memberships(applied, lambda leaf: leaf).items()
    ]


def _profile_audiences(applied: list[Applied], profile_of: Mapping[str, str]) -> list[Row]:
    return [
        {"profile_id": profile, "audience": audience, "member": member}
        for (profile, audience), (_, member) in _newest_memberships(applied, profile_of.__getitem__).items()
    ]


def _history(applied: list[Applied]) -> list[Row]:
    return [
        {
            "leaf": one.said.leaf,
            "audience": one.said.audience[0],
            "member": one.said.audience[1],
            "event_time": moment(one.time),
            "message_id": one.said.message_id,
        }
        for one in applied
        if one.said.audience is not None
    ]
