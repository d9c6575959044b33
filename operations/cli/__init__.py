"""The command line: `tidemark`.

run           what a command is told, and how it ends
services      up, down, status, worker, migrate, dsn, topics
data          load, wait, demo
views         stats, profile show, definitions, quarantine
verification  verify
explanation   profile explain
identity      identity contests, unclaim, allow, acts
"""

import os
import signal
import sys

from operations.guard import find_intruder


def main() -> None:
    """Run the command line; ends the process with the command's exit code."""
    if "worker" in sys.argv:
        # It is slow to import, and until it has handlers of its own there is nothing to finish. Before this line, in
        # the interpreter's own start, the signal ends it with -15.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    intruder = find_intruder()
    if intruder is not None:
        sys.stderr.write(f"tidemark: {intruder}\n")
        raise SystemExit(1)
    # Only now: with an intruder in its place, an import below would fail and name neither.
    from operations.cli.root import tidemark  # noqa: PLC0415

    tidemark(prog_name="tidemark")
