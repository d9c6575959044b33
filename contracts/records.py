"""What is kept in state (leaves, links between them, companies), and the messages that leaves and companies are sent.

Every record is encoded in MessagePack as an array that begins with `SCHEMA_VERSION`; a record of another version
is refused on decoding (`msgspec.ValidationError`). Times are microseconds since 1970-01-01 UTC.
"""

from typing import Final

import msgspec

SCHEMA_VERSION: Final = 1
"""Raised when a record's layout changes; a new layout is a new app version, rebuilt from the source topics."""

Kept = None | bool | int | float | str | list[str]
"""A raw JSON value in the form that state keeps.

Scalars are themselves. What MessagePack cannot hold as it came (an integer beyond 64 bits) or need not hold as a tree
(an array, an object) is a list of one text: its compact JSON. A raw array is never kept as a list, so the
two cannot be confused, and a record is never nested deeper than its own layout.
"""


class Fallback(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The newest value that converts under the current type, where the newest of all does not."""

    value: Kept
    at: int
    """Event time of the message that brought it."""
    message_id: str
    source: str = ""
    """The source record of that message, `topic/partition/offset`: lineage, which decides nothing."""


class Slot(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The newest raw value of one field by `(at, message_id)`; `None` removes the field as of then."""

    value: Kept
    at: int
    """Event time of the message that brought it."""
    message_id: str
    source: str = ""
    """The source record of that message, `topic/partition/offset`: lineage, which decides nothing."""
    fallback: Fallback | None = None


class LeafCounters(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=SCHEMA_VERSION):
    """The small record of a leaf that every call moves."""

    page_views: int
    first_seen: int
    """Least event time of any applied message."""
    last_seen: int | None
    """Greatest event time of a page call."""


class LeafFields(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """The large record of a leaf: touched by identify, group and Engage calls alone."""

    fields: dict[str, Slot] = {}
    """Standard fields (`rows.PROFILE_FIELDS`), their values text or None."""
    attributes: dict[str, Slot] = {}
    """Custom attributes, raw."""
    memberships: dict[str, Slot] = {}
    """Audience to membership, its value a boolean."""
    companies: dict[str, int] = {}
    """groupId to the least event time of this leaf's group calls for it."""


class Claimed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One user's claim of an anonymous leaf: the earliest by `(at, message_id)`."""

    at: int
    """Event time of the message that claims."""
    message_id: str
    source: str
    """Its source record, `topic/partition/offset`."""


class Act(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An operator's word on a pair of leaves: the newest by `(at, act_id)`."""

    is_allowed: bool
    """False takes the pair apart; True lets its claims count again."""
    at: int
    """When the operator acted."""
    act_id: str
    reason: str


class LeafClaims(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """What an anonymous leaf knows of its claimants (SEMANTICS S1), which decides its owner."""

    claims: dict[str, Claimed] = {}
    """User leaf to its claim; every claimant's is kept."""
    acts: dict[str, Act] = {}
    """User leaf to what an operator said of the pair."""


class Giver(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The small part of a contribution that a user leaf holds."""

    version: int
    """Of two contributions of a giver, the greater version holds."""
    counters: LeafCounters | None
    """None: withdrawn. The version stays, so that an older contribution cannot come back."""
    has_fields: bool
    """Whether there is a `GivenFields` record besides."""


class LeafLinks(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """What a user leaf knows of anonymous leaves."""

    claimed: dict[str, tuple[int, str]] = {}
    """Anonymous leaf to event time and messageId of the earliest claim that was sent to it."""
    givers: dict[str, Giver] = {}
    """Anonymous leaf to what it has contributed."""


class GivenFields(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """The large part of a contribution: the giver's raw values, never typed ones."""

    fields: dict[str, Slot] = {}
    attributes: dict[str, Slot] = {}


class Claim(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """A user leaf's claim, as a message to the anonymous leaf that is its record's key."""

    user: str
    """User leaf."""
    claimed: Claimed


class Contribution(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """An anonymous leaf's own facts, as a message to the user leaf that is its record's key and owns it."""

    giver: str
    """Anonymous leaf."""
    version: int
    """Offset of the giver's partition up to which its facts are applied."""
    counters: LeafCounters | None
    """None withdraws what was contributed."""
    given: GivenFields | None = None
    """None where the giver has neither fields nor attributes."""


class PairAct(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """An operator's act, as a message to the anonymous leaf that is its record's key."""

    user: str
    """User leaf."""
    act: Act


class CompanyRecord(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """Everything known of a company."""

    fields: dict[str, Slot] = {}
    """Standard fields (`rows.COMPANY_FIELDS`), their values text or None."""
    attributes: dict[str, Slot] = {}
    """Custom attributes, raw."""


class CompanyUpdate(msgspec.Struct, array_like=True, frozen=True, tag=SCHEMA_VERSION):
    """What one group call says of a company: a message of the companies topic, keyed by `company_id`."""

    company_id: str
    message_id: str
    at: int
    """Event time of the group call."""
    fields: dict[str, str | None]
    """Standard fields that the call sets, or removes with None."""
    attributes: dict[str, Kept]
    """Custom attributes that the call sets, raw, or removes with None."""


_encoder: Final = msgspec.msgpack.Encoder()

encode: Final = _encoder.encode
"""Bytes of any of these records or messages."""
decode_counters = msgspec.msgpack.Decoder(LeafCounters).decode
decode_fields = msgspec.msgpack.Decoder(LeafFields).decode
decode_claims = msgspec.msgpack.Decoder(LeafClaims).decode
decode_links = msgspec.msgpack.Decoder(LeafLinks).decode
decode_given = msgspec.msgpack.Decoder(GivenFields).decode
decode_claim = msgspec.msgpack.Decoder(Claim).decode
decode_contribution = msgspec.msgpack.Decoder(Contribution).decode
decode_act = msgspec.msgpack.Decoder(PairAct).decode
decode_company = msgspec.msgpack.Decoder(CompanyRecord).decode
decode_update = msgspec.msgpack.Decoder(CompanyUpdate).decode
