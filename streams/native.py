"""The compiled hot path (`native/`), where it is installed: it does what the Python beside it does, in less time."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Final

from contracts.errors import SettingError

if TYPE_CHECKING:
    from contracts.settings import Settings

NAME: Final = "tidemark_native"


def is_installed() -> bool:
    """Whether the compiled hot path is there."""
    return importlib.util.find_spec(NAME) is not None


def native(settings: Settings) -> Any:  # noqa: ANN401  the module may not be there, nor its types
    """The module `tidemark_native`, or None where Python is to do its work.

    Raises SettingError where the settings insist on it, and it is not there.
    """
    if settings.native == "off":
        return None
    if is_installed():
        return importlib.import_module(NAME)
    if settings.native == "on":
        raise SettingError(
            "native",
            "'on' asks for the compiled hot path, which is not installed. Run `pip install ./native` with a Rust "
            "toolchain at hand, or let it be 'auto'",
        )
    return None
