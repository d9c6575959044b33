"""What a browser's user agent says of its system, browser and kind of device (SEMANTICS S5)."""

from functools import cache, lru_cache
from itertools import takewhile
from typing import Final, NamedTuple

import ua_parser

CACHED_USER_AGENTS: Final = 16_384
"""User agents remembered. A site sees some thousands; at about 1 kB each with its text they stay below 16 MB, and one
that is not remembered costs about a millisecond."""
_PARSED_CHARACTERS_MAX: Final = 1_024
"""A longer user agent is read by its beginning: real ones have at most a few hundred characters, and the time of the
parser's regular expressions grows with the length."""

_MOBILE_SYSTEMS: Final = frozenset({"iOS", "Android", "Windows Phone", "BlackBerry OS", "Firefox OS", "KaiOS"})


class UserAgent(NamedTuple):
    """What a user agent says; None for what it does not."""

    os: str | None
    browser_family: str | None
    browser_version: str | None
    """Major, minor and patch as far as given, joined by dots."""
    device_type: str | None
    """`mobile`, `tablet` or `desktop`; None for spiders and unknown systems."""


@cache
def _resolver() -> ua_parser.Resolver:
    """The fastest resolver that is installed (`ua-parser-rs`, `google-re2`, else plain Python), without a cache."""
    return ua_parser.BestAvailableResolver(ua_parser.load_lazy_builtins())


def load_parser() -> None:
    """Load all that parsing takes, which the first user agent does else: by then, an upgrade may have replaced it."""
    _resolver()(" ", ua_parser.Domain.ALL)


@lru_cache(maxsize=CACHED_USER_AGENTS)
def read_user_agent(text: str) -> UserAgent:
    """Parse a user agent that is not empty."""
    text = text[:_PARSED_CHARACTERS_MAX]
    result = _resolver()(text, ua_parser.Domain.ALL).complete()
    system = _known(result.os.family) if result.os else None
    browser = result.user_agent
    family = _known(browser.family) if browser else None
    version = None
    if browser and family:
        version = ".".join(takewhile(bool, (browser.major or "", browser.minor or "", browser.patch or ""))) or None
    return UserAgent(system, family, version, _device_type(text, system, result.device))


def _known(family: str) -> str | None:
    return family if family and family != "Other" else None


def _device_type(text: str, system: str | None, device: ua_parser.Device | None) -> str | None:
    if device is not None:
        if device.family == "Spider":
            return None
        named = f"{device.family} {device.model or ''}"
        if "iPad" in named or "Tablet" in named:
            return "tablet"
    if system == "Android" and "Mobile" not in text:
        return "tablet"
    if system in _MOBILE_SYSTEMS:
        return "mobile"
    return None if system is None else "desktop"
