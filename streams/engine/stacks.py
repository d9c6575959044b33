"""Where everything in the process stands: what a worker logs before it ends itself because it hangs."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_INSIDE: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
"""Where coroutines, generators and asynchronous generators keep their frame, and what they wait for."""


def stacks(loops: Iterable[asyncio.AbstractEventLoop]) -> str:
    """Every task of these loops with what it waits for, and the stack of every thread."""
    lines: list[str] = []
    for number, loop in enumerate(loops):
        for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
            lines.append(f"task {task.get_name()} of loop {number}:")
            lines += (f"  {line}" for line in waiting(task.get_coro()))
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  there is no public way; faulthandler knows no names
        lines.append(f"thread {names.get(ident, ident)}:")
        lines += (f"  {line}" for entry in traceback.format_stack(frame) for line in entry.rstrip().splitlines())
    return "\n".join(lines)


def waiting(awaited: Any) -> Iterator[str]:  # noqa: ANN401  a coroutine, or whatever it awaits
    """Each frame from a coroutine to what it waits for. `Task.get_stack` has the outermost one alone."""
    while awaited is not None:
        for frame_name, next_name in _INSIDE:
            frame = getattr(awaited, frame_name, None)
            if frame is not None:
                yield f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}'
                awaited = getattr(awaited, next_name)
                break
        else:
            yield f"waits for {awaited!r}"
            return
