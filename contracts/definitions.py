"""Definitions of attributes and events: the types that values are converted to (SEMANTICS S6)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

USER_SCOPE: Final = "user"
COMPANY_SCOPE: Final = "company"
EVENTS: Final = "event"
"""Stands for the scope of event names themselves: a definition `("event", name)` defines the event `name`."""

_NOTHING: Final[Mapping[str, "Definition"]] = MappingProxyType({})


def event_scope(event: str) -> str:
    """Return the scope that the properties of an event are defined in."""
    return "event:" + event


class AttributeType(StrEnum):
    """The types that a value can be converted to."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    FIXED_CHOICE = "fixed_choice"
    MULTIPLE_CHOICE = "multiple_choice"


class Definition(msgspec.Struct, frozen=True):
    """The type of one attribute or property."""

    type: AttributeType
    choices: frozenset[str] = frozenset()
    """What `fixed_choice` and `multiple_choice` choose from; empty for other types."""


STRING: Final = Definition(AttributeType.STRING)
"""What an undefined attribute becomes."""


class Definitions:
    """A snapshot of every definition, never changed once made; `extended` makes the next one."""

    __slots__ = ("_scopes", "events", "retyped", "version")

    def __init__(
        self,
        version: int = 0,
        scopes: Mapping[str, Mapping[str, Definition]] = MappingProxyType({}),
        events: frozenset[str] = frozenset(),
        retyped: int = 0,
    ) -> None:
        self.version = version
        """Grows with every change of any definition."""
        self.retyped = retyped
        """The version that last changed a type by hand: rows made under an older one may be out of date."""
        self.events = events
        """Names of the defined events."""
        self._scopes = scopes

    def scope(self, scope: str) -> Mapping[str, Definition]:
        """Return the definitions of one scope (`user`, `company`, `event:<name>`) by name; empty if unknown."""
        return self._scopes.get(scope, _NOTHING)

    def extended(
        self,
        version: int,
        definitions: Iterable[tuple[str, str, Definition]],
        events: Iterable[str] = (),
        retyped: int = 0,
    ) -> "Definitions":
        """Return a snapshot with further or changed definitions `(scope, name, definition)` and event names.

        `retyped` is the version of the latest of them that was made by hand; an earlier one than known changes nothing.
        """
        changed: dict[str, dict[str, Definition]] = {}
        for scope, name, definition in definitions:
            if scope not in changed:
                changed[scope] = dict(self.scope(scope))
            changed[scope][name] = definition
        return Definitions(version, {**self._scopes, **changed}, self.events.union(events), max(self.retyped, retyped))
