"""The companies table: one record a company (`contracts.records.CompanyRecord`), keyed by its groupId."""

from __future__ import annotations

from typing import Final

FAMILY: Final = "companies"
"""Column family of the companies table."""


PREFIXES: Final = (b"c", b"d")
"""Where the companies lie: from the first, before the second."""


def company_key(company_id: str) -> bytes:
    """Key of a company's record."""
    return PREFIXES[0] + company_id.encode()


def company_of(key: bytes) -> str:
    """The company that a record's key belongs to."""
    return key[1:].decode()
