"""Run many seeds, or tell one: `python -m tests.simulation --help`."""

import argparse
import sys
import time

from tests.simulation.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds from there on (1)")
    parser.add_argument("--events", action="store_true", help="tell what happens in each run")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many failures (10)")
    options = parser.parse_args()
    failed = done = 0
    started = time.monotonic()
    for seed in range(options.seed, options.seed + options.runs):
        outcome = run(seed, is_told=options.events)
        done += 1
        for number, event in enumerate(outcome.events):
            print(f"{number:4} {event}")
        if outcome.failures:
            failed += 1
            print(outcome, flush=True)
            if failed == options.failures:
                break
    elapsed_s = time.monotonic() - started
    print(f"{done} runs from seed {options.seed}: {failed} failed; {done / elapsed_s * 60:,.0f} runs a minute")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
