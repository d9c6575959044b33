"""What a cycle of the leaves topic needs to know: which records of state, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from contracts import records as state
from contracts import rows
from domain import fold, ownership
from domain import leaf as leaves
from domain.identity import USER
from streams.agents.leaf_items import changes_fields
from tables.leaves import Record as StateRecord
from tables.leaves import claims_key, counters_key, fields_key, given_key, links_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contracts.definitions import Definitions
    from streams.agents.leaf_items import Item


@dataclass(slots=True)
class Loaded:
    """The state that a cycle begins with, as far as its records need it."""

    records: dict[bytes, StateRecord] = field(default_factory=dict)
    """By the keys of `tables.leaves`."""
    seen: dict[bytes, int] = field(default_factory=dict)
    """Offset of the first application of each message that was seen."""


Read = Callable[[Collection[bytes]], Mapping[bytes, StateRecord]]
"""Returns the records that stand under these keys of `tables.leaves`, as far as there are any."""


def load(
    items: Iterable[Item],
    read: Read,
    find: Callable[[Sequence[bytes]], Mapping[bytes, int]],
) -> Loaded:
    """Load all state that these items need: of each leaf the small records, of some the large ones.

    `read` returns the records that stand under keys, `find` the offset of each message that was seen.
    """
    leaves_met: set[str] = set()
    whole: set[str] = set()
    """Leaves whose large record is needed."""
    seen: set[bytes] = set()
    for item in items:
        if item.refusal is not None:
            continue
        leaves_met.add(item.leaf)
        if item.call is not None:
            seen.add(item.seen_key)
            if leaves.needs_fields(item.call):
                whole.add(item.leaf)
        elif item.letter is not None and changes_fields(item.letter):
            whole.add(item.leaf)
    known = _load_small(leaves_met, read)
    # An anonymous leaf that is claimed gives its fields to its owner.
    whole.update(leaf for leaf in leaves_met - whole if not leaf.startswith(USER) and claims_key(leaf) in known)
    _load_fields(whole, known, read)
    return Loaded(known, dict(find(list(seen))))


def load_whole(names: Collection[str], read: Read) -> dict[bytes, StateRecord]:
    """Load all that is known of some leaves."""
    known = _load_small(names, read)
    _load_fields(names, known, read)
    return known


def _load_small(names: Iterable[str], read: Read) -> dict[bytes, StateRecord]:
    keys: list[bytes] = []
    for leaf in names:
        keys += (counters_key(leaf), links_key(leaf) if leaf.startswith(USER) else claims_key(leaf))
    return dict(read(keys))


def _load_fields(names: Collection[str], known: dict[bytes, StateRecord], read: Read) -> None:
    keys = [key for leaf in names for key in (fields_key(leaf), *_given_keys(leaf, known))]
    if keys:
        known.update(read(keys))


def _given_keys(leaf: str, known: Mapping[bytes, StateRecord]) -> list[bytes]:
    """Keys of the fields that a user leaf was given."""
    links = cast("state.LeafLinks | None", known.get(links_key(leaf)))
    return [] if links is None else [given_key(leaf, name) for name, giver in links.givers.items() if giver.has_fields]


def profile_row(leaf: str, known: Mapping[bytes, StateRecord], definitions: Definitions) -> rows.Profile | None:
    """The row of the profile that a leaf is the root of, folded from all that is known of it.

    None for an anonymous leaf that somebody owns, and for one that no message has come of.
    """
    counters = root_counters(leaf, known)
    if counters is None:
        return None
    own = cast("state.LeafFields | None", known.get(fields_key(leaf)))
    given = [known[key] for key in _given_keys(leaf, known)]
    return leaves.profile(
        leaf, counters, fold.folded(own, cast("list[state.GivenFields]", given), definitions), definitions
    )


def root_counters(leaf: str, known: Mapping[bytes, StateRecord]) -> state.LeafCounters | None:
    """The counters of the profile that a leaf is the root of; None as for `profile_row`."""
    own = cast("state.LeafCounters | None", known.get(counters_key(leaf)))
    if leaf.startswith(USER):
        return fold.total(own, cast("state.LeafLinks | None", known.get(links_key(leaf))))
    return None if owner_of(leaf, known) is not None else own


def owner_of(leaf: str, known: Mapping[bytes, StateRecord]) -> str | None:
    """The user leaf that owns a leaf; None for one of its own."""
    if leaf.startswith(USER):
        return None
    return ownership.owner(cast("state.LeafClaims | None", known.get(claims_key(leaf))))
