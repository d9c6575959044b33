"""Whose a message is: leaf keys, blocked ids, claims, and the router's fast path to a leaf (SEMANTICS S1)."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, Generic, Literal, TypeVar, final, get_args

import msgspec

from contracts.outcomes import Reason, Refusal, WarningKind
from domain.decoding import Json, decode, has_nul_escape, json_type
from domain.names import SURELY_SHORT, bounded

CallType = Literal["identify", "page", "screen", "track", "group", "alias"]

CALL_TYPES: Final = frozenset(get_args(CallType))

USER: Final = "user:"
ANONYMOUS: Final = "anon:"

CACHED_IDS: Final = 16_384
"""Short ids that are remembered as usable or not, below 4 MB: a person's messages come close together."""


PLACED_IDS: Final = 65_536
"""Ids whose leaf's place the router remembers, below 20 MB: beyond that it begins anew, at a few microseconds an id."""

Place = TypeVar("Place")


class Rules(msgspec.Struct, frozen=True):
    """What an operator decides about the reading of messages."""

    blocked_ids: frozenset[str]
    """Ids that are nobody's, in lower case. Empty: no id is blocked, not even zeros and dashes."""
    max_message_bytes: int
    """Greater messages are refused as `too_large`."""
    future_tolerance_us: int
    """How far after its receipt an event may lie, in microseconds."""

    @classmethod
    def of(cls, blocked_ids: Iterable[str], max_message_bytes: int, future_tolerance_s: int) -> "Rules":
        """Make rules of settings as people write them."""
        return cls(frozenset(map(str.lower, blocked_ids)), max_message_bytes, future_tolerance_s * 1_000_000)

    def is_blocked(self, text: str) -> bool:
        """Whether a stripped id is nobody's: only zeros and dashes, or in the list, plain or in quotes."""
        return _is_blocked(text, self.blocked_ids)


def _is_blocked(text: str, blocked_ids: frozenset[str]) -> bool:
    if not blocked_ids:
        return False
    if text[0] in "'\"" and text[0] == text[-1] and len(text) > 2 and _is_listed(text[1:-1], blocked_ids):
        return True
    return _is_listed(text, blocked_ids)


def _is_listed(text: str, blocked_ids: frozenset[str]) -> bool:
    return text.lower() in blocked_ids or (text[0] in "0-" and not text.strip("0-"))


@final
class Routed(msgspec.Struct, frozen=True, gc=False):
    """A message whose leaf is known; whether it can be applied is found out there."""

    leaf: str


class _Head(msgspec.Struct, rename={"user_id": "userId", "anonymous_id": "anonymousId"}):
    """The part of a message that routing needs."""

    type: CallType
    user_id: Any = None
    anonymous_id: Any = None


_decode_head: Final = msgspec.json.Decoder(_Head).decode


def read_identity(
    user_id: Json, anonymous_id: Json, rules: Rules, warnings: list[WarningKind]
) -> tuple[str | None, str | None]:
    """Return the leaf of a message with these raw ids, and the anonymous leaf that it claims for its user leaf.

    The leaf is None when neither id is usable. What is odd about the ids is added to `warnings`.
    """
    user = usable_id(user_id, rules)
    anonymous = usable_id(anonymous_id, rules)
    if type(user) is WarningKind:
        warnings.append(user)
        user = None
    if type(anonymous) is WarningKind:
        warnings.append(_OF_ANONYMOUS[anonymous])
        anonymous = None
    anonymous_leaf = None if anonymous is None else ANONYMOUS + anonymous
    if user is None:
        return anonymous_leaf, None
    return USER + user, anonymous_leaf


_OF_ANONYMOUS: Final = {
    WarningKind.BLOCKED_USER_ID: WarningKind.BLOCKED_ANONYMOUS_ID,
    WarningKind.INVALID_USER_ID: WarningKind.INVALID_ANONYMOUS_ID,
}


def usable_id(value: Json, rules: Rules) -> str | WarningKind | None:
    """Return an id's bounded text, None when it is absent, the kind of warning (as of a userId) when it is no good."""
    if type(value) is str:
        if len(value) <= SURELY_SHORT:
            return _usable_short(value, rules.blocked_ids)
        text = value
    elif value is None:
        return None
    elif type(value) is int:
        text = str(value)
    else:
        return WarningKind.INVALID_USER_ID
    return _usable_text(text, rules.blocked_ids)


def _usable_text(text: str, blocked_ids: frozenset[str]) -> str | WarningKind | None:
    text = text.strip()
    if not text:
        return None
    return WarningKind.BLOCKED_USER_ID if _is_blocked(text, blocked_ids) else bounded(text)


_usable_short: Final = lru_cache(maxsize=CACHED_IDS)(_usable_text)


def read_type(payload: dict[str, Any]) -> str | Refusal:
    """Return the type of a decoded message, or refuse it with `unknown_type`."""
    kind = payload.get("type")
    if type(kind) is str and kind in CALL_TYPES:
        return kind
    came = repr(kind[:100]) if type(kind) is str else json_type(kind)
    return Refusal(Reason.UNKNOWN_TYPE, f"expected `type` to be one of {', '.join(sorted(CALL_TYPES))}, came {came}")


def no_identity() -> Refusal:
    """Refuse a message that is nobody's."""
    return Refusal(Reason.NO_IDENTITY, "expected a usable `userId` or `anonymousId`, came neither")


def route(value: bytes | None, rules: Rules) -> Routed | Refusal:
    """Return the leaf that a record belongs to, or why it has none.

    Decodes no more than type and ids where these suffice; whatever else is wrong with the message is found out when
    it is interpreted. Where they do not, the whole message is decoded, so that the reason is the first of SEMANTICS
    S12's order. The leaf is always the one that `interpret` finds.
    """
    if value and len(value) <= rules.max_message_bytes and not has_nul_escape(value):
        try:
            head = _decode_head(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            leaf, _ = read_identity(head.user_id, head.anonymous_id, rules, [])
            if leaf is not None:
                return Routed(leaf)
    payload = decode(value, rules.max_message_bytes)
    if type(payload) is Refusal:
        return payload
    kind = read_type(payload)
    if type(kind) is Refusal:
        return kind
    leaf, _ = read_identity(payload.get("userId"), payload.get("anonymousId"), rules, [])
    return no_identity() if leaf is None else Routed(leaf)


@final
class Places(Generic[Place]):
    """Where messages go, by the leaf that `route` finds; in a quarter of its time, for ids that are plain text.

    What a leaf's place is, `place_of` tells; it is asked once for an id, and again when the id was forgotten.
    """

    def __init__(self, rules: Rules, place_of: Callable[[str], Place]) -> None:
        self._rules = rules
        self._place_of = place_of
        self._users: dict[str, Place] = {}
        """By userId as it comes. Usable ids alone: whatever else comes with them, the leaf is the user's."""
        self._anonymous: dict[str, Place] = {}
        """By anonymousId as it comes: for messages whose userId is absent or null."""

    def find(self, values: Iterable[bytes | None]) -> list[Place | None]:
        """Return the place of each message; None where `route` is to be asked, which may refuse it."""
        users, anonymous, bytes_max = self._users, self._anonymous, self._rules.max_message_bytes
        places: list[Place | None] = []
        add = places.append
        for value in values:
            try:
                head = _decode_head(value)  # type: ignore[arg-type]  # None is a TypeError
                user = head.user_id
                # A key that is not text equals none of those that are known, or is no key at all, a TypeError.
                place = anonymous.get(head.anonymous_id) if user is None else users.get(user)
                if place is None:
                    place = self._learn(head)
                if len(value) > bytes_max or has_nul_escape(value):  # type: ignore[arg-type]
                    place = None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
                place = None
            add(place)
        return places

    def _learn(self, head: _Head) -> Place | None:
        known, raw, prefix = self._users, head.user_id, USER
        if raw is None:
            known, raw, prefix = self._anonymous, head.anonymous_id, ANONYMOUS
        # U+0000 is replaced before an id is read, which `route` sees to.
        if type(raw) is not str or len(raw) > SURELY_SHORT or "\0" in raw:
            return None
        usable = usable_id(raw, self._rules)
        if type(usable) is not str:
            return None
        if len(self._users) + len(self._anonymous) >= PLACED_IDS:
            self._users.clear()
            self._anonymous.clear()
        place = known[raw] = self._place_of(prefix + usable)
        return place
