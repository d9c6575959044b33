"""Rows of the public tables, as the agents hand them to a sink.

Each row is a tuple in the order in which the sink stages its columns, so that most are written without being taken
apart. Times are integers: microseconds since 1970-01-01 UTC. Columns named `properties`, `sent_properties` and
`attributes` hold JSON text.
"""

from typing import Final, NamedTuple

PROFILE_FIELDS: Final = (
    "email",
    "first_name",
    "last_name",
    "phone",
    "gender",
    "country",
    "region",
    "city",
    "user_agent",
    "os",
    "device_name",
    "device_type",
    "language",
    "resolution",
    "ip_address",
    "browser_family",
    "browser_version",
    "timezone",
    "current_url",
)
"""Text columns of a profile that identify calls set (SEMANTICS S5)."""

COMPANY_FIELDS: Final = ("name", "email", "phone", "address", "description", "employees")
"""Text columns of a company that group calls set (SEMANTICS S9)."""


class PageView(NamedTuple):
    """One `page` or `screen` call (SEMANTICS S7)."""

    message_id: str
    leaf: str
    kind: str
    """`page` or `screen`."""
    event_time: int
    url: str | None
    path: str | None
    title: str | None
    referrer: str | None
    name: str | None
    properties: str
    """JSON text, as sent."""


class EventOccurrence(NamedTuple):
    """One `track` call (SEMANTICS S8)."""

    message_id: str
    leaf: str
    event: str
    event_time: int
    properties: str
    """JSON text, typed by the definitions."""
    sent_properties: str | None
    """JSON text, as sent; None where equal to `properties`."""


class Counters(NamedTuple):
    """What every call of a leaf may move, without its fields."""

    profile_id: str
    page_views: int
    first_seen: int
    last_seen: int | None


class Profile(NamedTuple):
    """A whole profile: its counters, its fields and its typed attributes."""

    profile_id: str
    user_id: str | None
    page_views: int
    first_seen: int
    last_seen: int | None
    fields: tuple[str | None, ...]
    """In the order of `PROFILE_FIELDS`."""
    attributes: str
    """JSON text of the typed attributes."""


class Identity(NamedTuple):
    """The profile that a leaf belongs to (SEMANTICS S1)."""

    leaf: str
    profile_id: str


class Claimant(NamedTuple):
    """One user's claim in a contest."""

    user: str
    """User leaf."""
    at: int
    message_id: str


class Contest(NamedTuple):
    """An anonymous leaf that more than one user claims (SEMANTICS S1)."""

    leaf: str
    owner: str
    """User leaf of the earliest claim."""
    since: int
    """Event time of that claim."""
    claimants: tuple[Claimant, ...]
    """All of them, the earliest first; claims that an operator has set aside are left out."""


class IdentityAct(NamedTuple):
    """What an operator did to a pair of leaves, for the record."""

    act_id: str
    leaf: str
    """Anonymous leaf."""
    user: str
    """User leaf."""
    act: str
    """`unclaim` or `allow`."""
    at: int
    reason: str


class Company(NamedTuple):
    """A company's fields and typed attributes (SEMANTICS S9)."""

    company_id: str
    fields: tuple[str | None, ...]
    """In the order of `COMPANY_FIELDS`."""
    attributes: str
    """JSON text of the typed attributes."""


class CompanyMember(NamedTuple):
    """A leaf's membership of a company; `joined_at` is the earliest group call."""

    company_id: str
    leaf: str
    joined_at: int


class AudienceMembership(NamedTuple):
    """The membership that holds (SEMANTICS S10)."""

    leaf: str
    audience: str
    member: bool
    changed_at: int


class AudienceChange(NamedTuple):
    """One message's word on a membership, kept as history."""

    leaf: str
    audience: str
    member: bool
    event_time: int
    message_id: str


class Quarantined(NamedTuple):
    """A record that could not be applied (SEMANTICS S12)."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    raw: bytes
    timestamp_ms: int
    """Kafka's time of the source record, milliseconds since 1970-01-01 UTC."""
    lacks_rows: bool = False
    """Whether the state has the message, so that only rows of it are missing."""
    is_again: bool = False
    """Whether it was redriven and refused once more: reason and detail take the place of the older ones."""


class Redriven(NamedTuple):
    """A message that came out of the quarantine: its row there goes, and it is counted, once."""

    topic: str
    partition: int
    offset: int
    """Of the source record."""
    outcome: str
    """`applied` or `duplicate`."""
    leaves_topic: str
    leaves_partition: int
    """The partition in whose progress it is counted."""
