"""python -m tests.fuzz [SECONDS]: fuzz what a worker makes of raw bytes; an input that breaks it goes to .fuzz/found-*.

Records of one input are told apart by a zero byte. Needs atheris (`make fuzz` installs it).
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["domain", "streams.agents", "contracts", "tables.leaves"]):
    from tests.poison import Worker

from tests.fuzz.corpus import CORPUS

FOUND = Path(".fuzz")
DEFAULT_S = 180
"""Enough to reach what can be reached from the corpus; more finds more rarely."""
INPUT_BYTES_MAX = 6000


def one_input(data: bytes) -> None:
    """What libFuzzer calls; any exception is a finding."""
    worker = Worker()
    for value in data.split(b"\x00"):
        worker.take([value])


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_S
    FOUND.mkdir(exist_ok=True)
    # libFuzzer adds to the first directory what covers more; the corpus that is kept is the second.
    arguments = [
        *(sys.argv[0], str(FOUND), str(CORPUS)),
        *(f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={FOUND}/found-"),
        *("-print_final_stats=1", "-verbosity=1"),
    ]
    atheris.Setup(arguments, one_input)
    atheris.Fuzz()


main()
