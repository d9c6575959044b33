"""The leaves table: keys and records of what is known of each leaf, and of the links between leaves.

A leaf has a small record, which every call moves, and a large one, which identify, group and Engage calls touch: nine
calls in ten neither read, write nor log the large one. What links leaves has records of its own, by who knows it.
"""

from collections.abc import Callable
from typing import Final

from contracts import records

FAMILY: Final = "leaves"
"""Column family of the leaves table."""

FIELDS_PREFIXES: Final = (b"f", b"h")
"""Where the large records lie, a leaf's own (`f`) and those it was given (`g`): from the first, before the second."""

_SEPARATOR: Final = b"\0"
"""Between the two leaves of a key; no leaf has one."""

Record = records.LeafCounters | records.LeafFields | records.LeafClaims | records.LeafLinks | records.GivenFields

_DECODERS: Final[dict[int, Callable[[bytes], Record]]] = {
    ord("c"): records.decode_counters,
    ord("f"): records.decode_fields,
    ord("g"): records.decode_given,
    ord("k"): records.decode_claims,
    ord("l"): records.decode_links,
}


def counters_key(leaf: str) -> bytes:
    """Key of the small record, `LeafCounters`."""
    return b"c" + leaf.encode()


def fields_key(leaf: str) -> bytes:
    """Key of the large record, `LeafFields`."""
    return b"f" + leaf.encode()


def given_key(user: str, giver: str) -> bytes:
    """Key of what an anonymous leaf has contributed to a user leaf, `GivenFields`."""
    return b"g" + user.encode() + _SEPARATOR + giver.encode()


def claims_key(leaf: str) -> bytes:
    """Key of an anonymous leaf's claimants, `LeafClaims`."""
    return b"k" + leaf.encode()


def links_key(leaf: str) -> bytes:
    """Key of a user leaf's anonymous leaves, `LeafLinks`."""
    return b"l" + leaf.encode()


def leaf_of(key: bytes) -> str:
    """The leaf that knows what stands under this key."""
    return key[1:].partition(_SEPARATOR)[0].decode()


def decode(key: bytes, record: bytes) -> Record:
    """Read the record of any of these keys."""
    return _DECODERS[key[0]](record)
