"""Applying calls to a leaf, and the rows that a leaf is seen as (SEMANTICS S5-S10). Pure: old values never change."""

from collections.abc import Mapping
from typing import Final

import msgspec

from contracts import rows
from contracts.definitions import COMPANY_SCOPE, USER_SCOPE, Definition, Definitions
from contracts.outcomes import WarningKind
from contracts.records import CompanyUpdate, GivenFields, Kept, LeafCounters, LeafFields
from domain.calls import Call
from domain.conversion import converts, json_text
from domain.groups import Group
from domain.identify import Identify
from domain.identity import USER
from domain.slots import taken_all, typed_all
from domain.tracks import Track, occurrence
from domain.views import View


class Applied(msgspec.Struct, frozen=True):
    """What applying one call leads to."""

    counters: LeafCounters
    fields: LeafFields | None = None
    """None when the large record is as it was."""
    view: rows.PageView | None = None
    occurrence: rows.EventOccurrence | None = None
    memberships: tuple[rows.AudienceMembership, ...] = ()
    """The memberships that hold now, of the audiences that the call speaks of."""
    changes: tuple[rows.AudienceChange, ...] = ()
    """What the call itself says of audiences: their history."""
    company: CompanyUpdate | None = None
    """To be sent to the company."""
    member: rows.CompanyMember | None = None
    ignored: tuple[WarningKind, ...] = ()
    """One for each value that was ignored, by kind."""


_NO_FIELDS: Final = LeafFields()


def needs_fields(call: Call) -> bool:
    """Whether applying the call needs the large record, and changes what the profile's row shows of it."""
    content = call.content
    if type(content) is Track:
        return content.traits is not None
    return type(content) is Identify or type(content) is Group


def apply(
    counters: LeafCounters | None,
    fields: LeafFields | None,
    call: Call,
    definitions: Definitions,
    *,
    source: str = "",
    repeated: bool = False,
) -> Applied:
    """Apply a call to a leaf; `counters` and `fields` are None for what the leaf does not have yet.

    `source` is the call's source record, `topic/partition/offset`, for the lineage of what it sets.

    `repeated` says that the state has the call already: its rows are made again, the counters come back as they are,
    and so do the fields, since no value of the call is newer than what they hold.
    """
    content = call.content
    if counters is None:
        counters = LeafCounters(0, call.at, None)
    if not repeated:
        counters = _counted(counters, call)
    if type(content) is View:
        return Applied(counters, view=content.row)
    if type(content) is Track:
        ignored: list[WarningKind] = []
        row = occurrence(content, definitions, ignored, leaf=call.leaf, message_id=call.message_id, at=call.at)
        if content.traits is None:
            return Applied(counters, occurrence=row, ignored=tuple(ignored))
        return _identified(
            counters, fields, content.traits, call, definitions, source=source, row=row, ignored=tuple(ignored)
        )
    if type(content) is Identify:
        return _identified(counters, fields, content, call, definitions, source=source)
    if type(content) is Group:
        return _grouped(counters, fields, content, call, definitions)
    return Applied(counters)


def _counted(counters: LeafCounters, call: Call) -> LeafCounters:
    first_seen = min(counters.first_seen, call.at)
    if call.type == "page":
        last_seen = call.at if counters.last_seen is None else max(counters.last_seen, call.at)
        return LeafCounters(counters.page_views + 1, first_seen, last_seen)
    if first_seen == counters.first_seen:
        return counters
    return LeafCounters(counters.page_views, first_seen, counters.last_seen)


def _identified(
    counters: LeafCounters,
    fields: LeafFields | None,
    said: Identify,
    call: Call,
    definitions: Definitions,
    *,
    source: str,
    row: rows.EventOccurrence | None = None,
    ignored: tuple[WarningKind, ...] = (),
) -> Applied:
    old = _NO_FIELDS if fields is None else fields
    at, message_id = call.at, call.message_id
    known = definitions.scope(USER_SCOPE)
    ignored += said.ignored + (WarningKind.IGNORED_ATTRIBUTE,) * _unconvertible(said.attributes, known)
    standard = taken_all(old.fields, said.fields, at, message_id, source=source)
    attributes = taken_all(old.attributes, said.attributes, at, message_id, known, source=source)
    memberships = old.memberships
    holding: tuple[rows.AudienceMembership, ...] = ()
    changes: tuple[rows.AudienceChange, ...] = ()
    if said.membership is not None:
        audience, member = said.membership.audience, said.membership.member
        memberships = taken_all(memberships, {audience: member}, at, message_id, source=source)
        slot = memberships[audience]
        holding = (rows.AudienceMembership(call.leaf, audience, bool(slot.value), slot.at),)
        changes = (rows.AudienceChange(call.leaf, audience, member, at, message_id),)
    new = None
    if standard is not old.fields or attributes is not old.attributes or memberships is not old.memberships:
        new = LeafFields(standard, attributes, memberships, old.companies)
    return Applied(counters, new, None, row, holding, changes, ignored=ignored)


def _grouped(
    counters: LeafCounters, fields: LeafFields | None, group: Group, call: Call, definitions: Definitions
) -> Applied:
    old = _NO_FIELDS if fields is None else fields
    company_id = group.company_id
    update = CompanyUpdate(company_id, call.message_id, call.at, group.fields, group.attributes)
    unconvertible = _unconvertible(group.attributes, definitions.scope(COMPANY_SCOPE))
    ignored = (WarningKind.IGNORED_COMPANY_ATTRIBUTE,) * unconvertible
    joined_at = old.companies.get(company_id)
    if joined_at is not None and joined_at <= call.at:
        member = rows.CompanyMember(company_id, call.leaf, joined_at)
        return Applied(counters, company=update, member=member, ignored=ignored)
    companies = {**old.companies, company_id: call.at}
    return Applied(
        counters,
        LeafFields(old.fields, old.attributes, old.memberships, companies),
        company=update,
        member=rows.CompanyMember(company_id, call.leaf, call.at),
        ignored=ignored,
    )


def _unconvertible(attributes: Mapping[str, Kept], known: Mapping[str, Definition]) -> int:
    return sum(name in known and not converts(value, known[name]) for name, value in attributes.items())


def profile(
    leaf: str, counters: LeafCounters, fields: LeafFields | GivenFields | None, definitions: Definitions
) -> rows.Profile:
    """Return the row of a profile, its facts folded already, typed by the definitions; `leaf` is its root."""
    held = _NO_FIELDS if fields is None else fields
    get = held.fields.get
    texts = tuple([None if (slot := get(name)) is None else slot.value for name in rows.PROFILE_FIELDS])
    return rows.Profile(
        leaf,
        leaf[len(USER) :] if leaf.startswith(USER) else None,
        counters.page_views,
        counters.first_seen,
        counters.last_seen,
        texts,  # type: ignore[arg-type]  # standard fields hold text or None
        json_text(typed_all(held.attributes, definitions.scope(USER_SCOPE))),
    )


def counters_row(leaf: str, counters: LeafCounters) -> rows.Counters:
    """Return the part of a profile's row that every call may move."""
    return rows.Counters(leaf, counters.page_views, counters.first_seen, counters.last_seen)
