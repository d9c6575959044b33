"""The compiled hot path (`native/`), where it is built: it does what the Python beside it does, in less time.

`TIDEMARK_NATIVE=0` in the environment leaves it out, `TIDEMARK_NATIVE=1` insists on it.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Final

from contracts.errors import SettingError

if TYPE_CHECKING:
    from types import ModuleType

VARIABLE: Final = "TIDEMARK_NATIVE"


def _load() -> ModuleType | None:
    wish = os.environ.get(VARIABLE, "")
    if wish not in {"", "0", "1"}:
        raise SettingError(VARIABLE, f"expected 0 or 1, or nothing; came {wish[:100]!r}", "the environment")
    if wish == "0":
        return None
    try:
        return importlib.import_module("tidemark_native")
    except ModuleNotFoundError as error:
        if wish == "1":
            raise SettingError(
                VARIABLE,
                "1 asks for the compiled hot path, which is not installed: run `pip install ./native` with a Rust "
                "toolchain at hand, or leave the variable out",
                "the environment",
            ) from error
        return None


NATIVE: Final = _load()
"""The module `tidemark_native`, or None where Python does its work."""
