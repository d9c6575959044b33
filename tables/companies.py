"""The companies table: one record a company (`contracts.records.CompanyRecord`), keyed by its groupId."""

from __future__ import annotations

from typing import Final

FAMILY: Final = "companies"
"""Column family of the companies table."""


PREFIX: Final = b"c"
"""What every company's key begins with."""


def company_key(company_id: str) -> bytes:
    """Key of a company's record."""
    return PREFIX + company_id.encode()


def company_of(key: bytes) -> str:
    """The company that a record's key belongs to."""
    return key[1:].decode()
