"""What is kept in state: one leaf's facts and one company's, and the message that updates a company.

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


class Slot(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The newest raw value of one field by `(at, message_id)`; `None` removes the field as of then."""

    value: Kept
    at: int
    """Event time of the message that brought it."""
    message_id: str
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

encode_counters = _encoder.encode
encode_fields = _encoder.encode
encode_company = _encoder.encode
encode_update = _encoder.encode
decode_counters = msgspec.msgpack.Decoder(LeafCounters).decode
decode_fields = msgspec.msgpack.Decoder(LeafFields).decode
decode_company = msgspec.msgpack.Decoder(CompanyRecord).decode
decode_update = msgspec.msgpack.Decoder(CompanyUpdate).decode
