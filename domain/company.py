"""Companies: every field newest-wins, whoever sent it (SEMANTICS S9)."""

from contracts import rows
from contracts.definitions import COMPANY_SCOPE, Definitions
from contracts.records import CompanyRecord, CompanyUpdate
from domain.conversion import json_text
from domain.slots import taken_all, typed_all


def apply_company(record: CompanyRecord | None, update: CompanyUpdate, definitions: Definitions) -> CompanyRecord:
    """Apply an update; `record` itself comes back when it brings nothing newer. Repetitions and order do not matter."""
    old = CompanyRecord() if record is None else record
    fields = taken_all(old.fields, update.fields, update.at, update.message_id)
    known = definitions.scope(COMPANY_SCOPE)
    attributes = taken_all(old.attributes, update.attributes, update.at, update.message_id, known)
    if fields is old.fields and attributes is old.attributes:
        return old
    return CompanyRecord(fields, attributes)


def company_row(company_id: str, record: CompanyRecord, definitions: Definitions) -> rows.Company:
    """Return the row of a company, typed by the definitions."""
    get = record.fields.get
    texts = tuple([None if (slot := get(name)) is None else slot.value for name in rows.COMPANY_FIELDS])
    attributes = typed_all(record.attributes, definitions.scope(COMPANY_SCOPE))
    return rows.Company(company_id, texts, json_text(attributes))  # type: ignore[arg-type]  # text or None
