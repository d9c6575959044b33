"""An independent recomputation of the public tables in plain, slow, obvious Python.

It shares no code with the product: only the text of the semantics (S1-S12) and, for user agents, the same
library. Tests compare every public table with it.
"""

from tests.oracle.comparison import differences
from tests.oracle.recomputation import recompute
from tests.oracle.shapes import BLOCKED_IDS, Definition, Record, Tables

__all__ = ["BLOCKED_IDS", "Definition", "Record", "Tables", "differences", "recompute"]
