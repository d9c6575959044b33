"""Memory of a worker's process: when garbage is collected, and what is given back to the system."""

import ctypes
import gc
from typing import Final

GC_THRESHOLDS: Final = (20_000, 5, 5)
"""Python's own (700, 10, 10) would look through the records of a cycle dozens of times while it is decided."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Parameters of glibc's `mallopt(3)`."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Free memory that is not given back, nor mapped anew for a single buffer. glibc's own thresholds begin at 128 KiB: the
buffers of each cycle would be given back, and the pages of the next one's be cleared by the kernel once more."""


def set_up_memory() -> None:
    """Set this process up for cycles that make much, and drop nearly all of it at their end."""
    # Whatever is loaded now stays; a cycle makes tens of thousands of objects, none of them in reference cycles.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, KEPT_BYTES)
