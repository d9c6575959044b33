"""Why a profile is what it is: which message set each field, which joined each leaf, and what was ignored and why.

Pure: it is told what the leaves' records hold (`tables.leaves`) and what the definitions are.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from contracts.definitions import STRING, USER_SCOPE, Definition, Definitions
from contracts.records import Claimed, GivenFields, Kept, LeafClaims, LeafCounters, LeafFields, LeafLinks, Slot
from contracts.rows import PROFILE_FIELDS
from domain import ownership
from domain.conversion import UNCONVERTIBLE, convert_kept, json_text
from domain.identity import ANONYMOUS, USER
from domain.timing import iso_text
from tables.leaves import Record, claims_key, counters_key, fields_key, given_key, links_key

State = Mapping[bytes, Record]
"""Records by the keys of `tables.leaves`."""


class Said(msgspec.Struct, frozen=True):
    """A value of a field as one message brought it."""

    value: Kept
    """Raw; None removes the field."""
    at: int
    """Event time, in microseconds since 1970-01-01 UTC."""
    message_id: str
    source: str
    """The source record, `topic/partition/offset`; empty where state does not know it."""
    leaf: str
    """The leaf that the message belongs to."""

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"sent": raw_json(self.value), **_message(self), "leaf": self.leaf}


class Ignored(msgspec.Struct, frozen=True):
    """A value that does not hold, and why."""

    said: Said
    why: str

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.said.to_builtins(), "why": self.why}


class Field(msgspec.Struct, frozen=True):
    """One standard field or attribute of a profile."""

    name: str
    is_attribute: bool
    type: str
    """The defined type; standard fields are text."""
    value: Any
    """As typed; None where it is removed, or nothing converts."""
    set_by: Said | None
    """What set, or removed, it; None where nothing converts."""
    ignored: tuple[Ignored, ...]
    """The newest first. Of what is older than what holds, state keeps the newest of each leaf."""

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "kind": "attribute" if self.is_attribute else "field",
            "type": self.type,
            "value": self.value,
            "set_by": None if self.set_by is None else self.set_by.to_builtins(),
            "ignored": [each.to_builtins() for each in self.ignored],
        }


class Member(msgspec.Struct, frozen=True):
    """A leaf of the profile."""

    leaf: str
    counters: LeafCounters | None
    """What it adds to the profile; None where no message has come of it."""
    joined_by: Claimed | None
    """The claim by which the profile owns it; None for the profile's root."""

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counters = self.counters
        return {
            "leaf": self.leaf,
            "page_views": 0 if counters is None else counters.page_views,
            "first_seen": None if counters is None else iso_text(counters.first_seen),
            "last_seen": None if counters is None or counters.last_seen is None else iso_text(counters.last_seen),
            "joined_by": None if self.joined_by is None else _message(self.joined_by),
        }


class Lost(msgspec.Struct, frozen=True):
    """A claim that does not make its claimant the owner."""

    leaf: str
    """Anonymous leaf."""
    user: str
    """User leaf."""
    claimed: Claimed
    why: str

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"leaf": self.leaf, "user": self.user, **_message(self.claimed), "why": self.why}


class Explanation(msgspec.Struct, frozen=True):
    """A whole profile, explained."""

    profile_id: str
    leaves: tuple[Member, ...]
    fields: tuple[Field, ...]
    """Standard fields in their order, then attributes by name; those alone that some message spoke of."""
    lost_claims: tuple[Lost, ...]
    """Of others on the profile's leaves, and of the profile's user on other leaves."""

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "profile_id": self.profile_id,
            "leaves": [each.to_builtins() for each in self.leaves],
            "fields": [each.to_builtins() for each in self.fields],
            "lost_claims": [each.to_builtins() for each in self.lost_claims],
        }


def _message(stamped: Said | Claimed) -> dict[str, Any]:
    source = None
    if stamped.source:
        topic, partition, offset = stamped.source.rsplit("/", 2)
        source = {"topic": topic, "partition": int(partition), "offset": int(offset)}
    return {"event_time": iso_text(stamped.at), "message_id": stamped.message_id, "source": source}


def raw_json(value: Kept) -> Any:  # noqa: ANN401  JSON
    """Return a raw value so that msgspec encodes it as the JSON it came as."""
    return msgspec.Raw(value[0].encode()) if isinstance(value, list) else value


def needed_keys(root: str, leaves: Iterable[str], others: Iterable[str]) -> set[bytes]:
    """Return the keys of all records that an explanation needs.

    `leaves` are those of the profile, `others` anonymous leaves that its user claims and does not own.
    """
    keys = {counters_key(root), fields_key(root), links_key(root)}
    for leaf in {*leaves, *others, root}:
        if leaf.startswith(ANONYMOUS):
            keys.update((claims_key(leaf), given_key(root, leaf)))
    return keys


def explain(
    root: str, leaves: Iterable[str], others: Iterable[str], state: State, definitions: Definitions
) -> Explanation:
    """Explain the profile of a root leaf from its leaves' records."""
    members = sorted({*leaves, root}, key=lambda leaf: (leaf != root, leaf))
    links = cast("LeafLinks | None", state.get(links_key(root)))
    held: dict[str, LeafFields | GivenFields] = {}
    for leaf in members:
        key = fields_key(root) if leaf == root else given_key(root, leaf)
        if key in state:
            held[leaf] = cast("LeafFields | GivenFields", state[key])
    return Explanation(
        root,
        tuple(_member(root, leaf, state, links) for leaf in members),
        tuple(_fields(held, definitions)),
        tuple(_lost(root, members, others, state)),
    )


def _member(root: str, leaf: str, state: State, links: LeafLinks | None) -> Member:
    if leaf == root:
        return Member(leaf, cast("LeafCounters | None", state.get(counters_key(root))), None)
    giver = None if links is None else links.givers.get(leaf)
    claims = cast("LeafClaims | None", state.get(claims_key(leaf)))
    return Member(leaf, None if giver is None else giver.counters, None if claims is None else claims.claims.get(root))


def _fields(held: Mapping[str, LeafFields | GivenFields], definitions: Definitions) -> Iterator[Field]:
    said = {name for each in held.values() for name in each.fields}
    for name in sorted(said, key=PROFILE_FIELDS.index):
        yield _field(name, STRING, {leaf: each.fields[name] for leaf, each in held.items() if name in each.fields})
    known = definitions.scope(USER_SCOPE)
    for name in sorted({name for each in held.values() for name in each.attributes}):
        slots = {leaf: each.attributes[name] for leaf, each in held.items() if name in each.attributes}
        yield _field(name, known.get(name, STRING), slots, is_attribute=True)


def _field(name: str, definition: Definition, slots: Mapping[str, Slot], *, is_attribute: bool = False) -> Field:
    """Of all values that leaves keep of a field, the newest that converts holds (SEMANTICS S5, S6)."""
    newest_first = sorted(
        (said for leaf, slot in slots.items() for said in _said(leaf, slot)),
        key=lambda said: (said.at, said.message_id, json_text(said.value)),
        reverse=True,
    )
    holds = next((said for said in newest_first if _converted(said, definition) is not UNCONVERTIBLE), None)
    value = None if holds is None else _converted(holds, definition)
    ignored = tuple(Ignored(said, _why(said, definition)) for said in newest_first if said is not holds)
    return Field(name, is_attribute, definition.type.value, value, holds, ignored)


def _said(leaf: str, slot: Slot) -> Iterator[Said]:
    yield Said(slot.value, slot.at, slot.message_id, slot.source, leaf)
    if slot.fallback is not None:
        yield Said(slot.fallback.value, slot.fallback.at, slot.fallback.message_id, slot.fallback.source, leaf)


def _converted(said: Said, definition: Definition) -> object:
    return convert_kept(said.value, definition)


def _why(said: Said, definition: Definition) -> str:
    """Why a value does not hold: it does not convert, or else one that converts is newer."""
    if _converted(said, definition) is not UNCONVERTIBLE:
        return "older"
    choices = f" of {', '.join(sorted(definition.choices))}" if definition.choices else ""
    return f"does not convert to {definition.type.value}{choices}"


def _lost(root: str, members: Iterable[str], others: Iterable[str], state: State) -> Iterator[Lost]:
    for leaf in sorted({*members, *others}):
        claims = cast("LeafClaims | None", state.get(claims_key(leaf))) if leaf.startswith(ANONYMOUS) else None
        if claims is None:
            continue
        owner = ownership.owner(claims)
        is_ours = root in {owner, leaf}
        for user, claimed in sorted(claims.claims.items(), key=lambda each: (each[1].at, each[1].message_id, each[0])):
            if user != owner and (is_ours or user == root):
                yield Lost(leaf, user, claimed, _why_lost(user, owner, claims))


def _why_lost(user: str, owner: str | None, claims: LeafClaims) -> str:
    act = claims.acts.get(user)
    if act is not None and not act.is_allowed:
        return f"set aside by an operator at {iso_text(act.at)}: {act.reason}"
    earlier = "" if owner is None else f", at {iso_text(claims.claims[owner].at)}"
    return f"{(owner or '').removeprefix(USER)} claimed it earlier{earlier}"
