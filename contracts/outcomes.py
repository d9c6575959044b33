"""What becomes of a message: values, not exceptions (SEMANTICS S12)."""

from enum import StrEnum
from typing import final

import msgspec


class Reason(StrEnum):
    """Why a message is quarantined. The first that applies, in this order, is the one that is given."""

    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_TYPE = "unknown_type"
    NO_IDENTITY = "no_identity"
    MISSING_EVENT_NAME = "missing_event_name"
    MISSING_GROUP_ID = "missing_group_id"
    INVALID_FIELD = "invalid_field"
    INTERNAL_ERROR = "internal_error"


@final
class Refusal(msgspec.Struct, frozen=True):
    """A message that cannot be applied; it goes to the quarantine with its raw bytes."""

    reason: Reason
    detail: str
    """What was expected and what came, for a person to read; never longer than a few hundred characters."""


class WarningKind(StrEnum):
    """What was odd about a message that is applied all the same. Counted by kind, never changes the outcome."""

    BLOCKED_USER_ID = "blocked_user_id"
    BLOCKED_ANONYMOUS_ID = "blocked_anonymous_id"
    INVALID_USER_ID = "invalid_user_id"
    INVALID_ANONYMOUS_ID = "invalid_anonymous_id"
    ALIAS_WITHOUT_USER_ID = "alias_without_user_id"
    CLAIM_LIMIT = "claim_limit"
    """A claim beyond the anonymous leaves that one profile may have: it is not made (SEMANTICS S1)."""
    MISSING_MESSAGE_ID = "missing_message_id"
    UNREADABLE_TIME = "unreadable_time"
    FUTURE_TIME = "future_time"
    WRONG_SHAPE = "wrong_shape"
    """A part that is not what the call is read from, of the wrong shape: it counts as absent."""
    IGNORED_FIELD = "ignored_field"
    """A list or an object where a standard field takes text (SEMANTICS S5)."""
    IGNORED_ATTRIBUTE = "ignored_attribute"
    """A user's attribute that does not convert to the defined type (SEMANTICS S6)."""
    IGNORED_PROPERTY = "ignored_property"
    """A property of an event that does not convert to the defined type (SEMANTICS S6)."""
    IGNORED_COMPANY_ATTRIBUTE = "ignored_company_attribute"
    """A company's attribute that does not convert to the defined type (SEMANTICS S6)."""
