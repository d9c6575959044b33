"""Log lines that come again and again, as a Kafka client's whose brokers are away: one in a while, with a count."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

EVERY_S: Final = 10.0
"""One line of a kind is let through in this time."""


@dataclass(slots=True)
class _Kind:
    last_s: float
    held_back: int = 0


class Repetitions(logging.Filter):
    """Holds back lines below CRITICAL of the same logger and the same text before its arguments are filled in."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the first line through, and then one each `EVERY_S` seconds that tells of those held back."""
        if record.levelno >= logging.CRITICAL:
            return True
        kind = self._kinds.setdefault((record.name, str(record.msg)), _Kind(record.created - EVERY_S))
        if record.created - kind.last_s < EVERY_S:
            kind.held_back += 1
            return False
        if kind.held_back:
            record.msg = (
                f"{record.getMessage()} (and {kind.held_back} times more in {record.created - kind.last_s:.0f} s)"
            )
            record.args = ()
        kind.last_s, kind.held_back = record.created, 0
        return True


def hold_back_repetitions(package: str) -> None:
    """Filter every logger of a package that has been imported: filters of a parent are not asked."""
    repetitions = Repetitions()
    for name in logging.root.manager.loggerDict:
        if name == package or name.startswith(f"{package}."):
            logging.getLogger(name).addFilter(repetitions)
