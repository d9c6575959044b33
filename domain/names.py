"""Ids and names, bounded so that they fit a Kafka key and a Postgres index (SEMANTICS S12)."""

from hashlib import sha256
from typing import Final

from domain.decoding import Json

MAX_NAME_BYTES: Final = 512
"""Of UTF-8. Segment's own ids have at most 100 characters; a Postgres index entry fails beyond 2,700 bytes."""
_PREFIX_BYTES: Final = MAX_NAME_BYTES - 65
"""What is left beside `~` and 64 hexadecimal digits."""
SURELY_SHORT: Final = MAX_NAME_BYTES // 4
"""Characters that fit whatever they are: none has more than four bytes."""


def bounded(name: str) -> str:
    """Return a name of at most `MAX_NAME_BYTES`: itself, or a prefix of it, `~` and the SHA-256 of all of it."""
    if len(name) <= SURELY_SHORT:
        return name
    data = name.encode()
    if len(data) <= MAX_NAME_BYTES:
        return name
    return data[:_PREFIX_BYTES].decode(errors="ignore") + "~" + sha256(data).hexdigest()


def id_text(value: Json) -> str | None:
    """Return an id as text: a string without surrounding white space, an integer's digits (SEMANTICS S1).

    The empty text for what is absent (null, only white space), None for what is no id (a boolean, a fraction, an
    array, an object).
    """
    if type(value) is str:
        return value.strip()
    if value is None:
        return ""
    if type(value) is int:
        return str(value)
    return None
