"""SQL by name: `statement("take")` is the text of sql/take.sql."""

from functools import cache
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "sql"


@cache
def statement(name: str) -> str:
    """Return the text of a named statement."""
    return (DIRECTORY / f"{name}.sql").read_text(encoding="utf-8")
