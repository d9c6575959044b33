"""Generate Segment messages, one Kafka record value a line (the line end is a line feed alone).

    python -m examples.generate --seed 7 --messages 5000 --out examples/sample.jsonl
    python -m examples.generate --profile load --messages 1000000 --users 50000 | tidemark load -

The same arguments give the same bytes, on any day and any machine.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from examples.load import load
from examples.odd_lines import big_lines, odd_lines
from examples.story import arrivals, tell

PROFILES: Final = ("story", "load")
DEFAULT_USERS: Final = 20_000
"""Users of the load profile, unless told."""
_ODD_SHARE: Final = 20
"""At most one line in so many is odd, so that a short story stays a story."""
_DUPLICATE_SHARE: Final = 50
"""One good message in so many comes twice."""
_BUFFER_BYTES: Final = 1 << 20


def generate(
    seed: int,
    messages: int,
    *,
    profile: str = "story",
    users: int | None = None,
    zipf: float = 1.0,
    hot: float = 0.0,
    attributes: int = 0,
    odd: bool = True,
    big: bool = False,
) -> Iterator[bytes]:
    """Yield `messages` record values, without line ends; empty bytes stand for a tombstone.

    `story` is the sample's week in the shop, with duplicates, disorder and, if `odd`, lines that are no message;
    `big` adds those of 300 kB to 2 MiB, beyond `messages`. `load` is sound traffic for throughput, with one user who
    makes a share `hot` of it, and `attributes` more traits in each identify call.
    """
    rng = random.Random(seed)
    if profile == "load":
        yield from load(rng, messages, users or DEFAULT_USERS, zipf, hot=hot, attributes=attributes)
        return
    if profile != "story":
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}; got {profile!r}")
    odd_ones = [line.value for line in odd_lines()][: messages // _ODD_SHARE] if odd else []
    good = messages - len(odd_ones)
    if big:
        odd_ones += [line.value for line in big_lines()]
    duplicates = good // _DUPLICATE_SHARE
    story = arrivals(rng, tell(rng, good - duplicates, users), duplicates)
    lines = [json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() for message in story]
    places = sorted(rng.sample(range(len(lines) + 1), k=min(len(odd_ones), len(lines) + 1)), reverse=True)
    for place, line in zip(places, odd_ones, strict=False):
        lines.insert(place, line)
    yield from lines


def _write(out: BinaryIO, lines: Iterator[bytes]) -> int:
    pending: list[bytes] = []
    count, pending_bytes = 0, 0
    for line in lines:
        pending += (line, b"\n")
        pending_bytes += len(line) + 1
        count += 1
        if pending_bytes >= _BUFFER_BYTES:
            out.write(b"".join(pending))
            pending, pending_bytes = [], 0
    out.write(b"".join(pending))
    out.flush()
    return count


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.generate", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--messages", type=int, default=5000, help="lines to make (default 5000)")
    parser.add_argument("--profile", choices=PROFILES, default="story")
    parser.add_argument("--users", type=int, help=f"people in it (load: {DEFAULT_USERS})")
    parser.add_argument("--zipf", type=float, default=1.0, help="load: exponent of the users' skew (default 1.0)")
    parser.add_argument("--hot", type=float, default=0.0, help="load: share of messages that one user makes, below 1")
    parser.add_argument("--attributes", type=int, default=0, help="load: more traits in each identify call")
    parser.add_argument("--no-odd", action="store_true", help="story: leave the odd lines out")
    parser.add_argument("--big", action="store_true", help="story: add lines of 300 kB to 2 MiB")
    parser.add_argument("--out", type=Path, help="file to write (default: standard output)")
    options = parser.parse_args(arguments)
    lines = generate(
        options.seed,
        options.messages,
        profile=options.profile,
        users=options.users,
        zipf=options.zipf,
        hot=options.hot,
        attributes=options.attributes,
        odd=not options.no_odd,
        big=options.big,
    )
    if options.out is None:
        _write(sys.stdout.buffer, lines)
        return 0
    with options.out.open("wb") as out:
        count = _write(out, lines)
    print(f"{options.out}: {count} lines", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
