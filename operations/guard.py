"""A check that the packages at the top are ours: names such as `tables` (PyTables) are in use elsewhere too.

Runs before anything else is imported, and imports nothing of ours itself.
"""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Final

PACKAGES: Final = ("contracts", "domain", "tables", "sinks", "streams", "operations")


ROOT: Final = Path(__file__).resolve().parents[1]
"""Where our packages lie, side by side."""


def find_intruder(root: Path = ROOT) -> str | None:
    """A sentence on the first top-level package that is not the one below `root`; None when all are."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None:
            return (
                f"expected the package {package!r} in {root}; there is none. "
                "The installation is damaged: install Tidemark again, in a virtual environment of its own."
            )
        places = [Path(place).resolve() for place in spec.submodule_search_locations or ()]
        if root / package not in places:
            place = spec.origin or ", ".join(map(str, places))
            return (
                f"expected the package {package!r} of Tidemark in {root / package}; {_owner(package)} has put another "
                f"one before it: {place}. Install Tidemark in a virtual environment of its own."
            )
    return None


def _owner(package: str) -> str:
    distributions = importlib.metadata.packages_distributions().get(package, [])
    others = [name for name in dict.fromkeys(distributions) if name != "tidemark"]
    return " and ".join(others) or "something on the Python path"
