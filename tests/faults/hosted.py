"""Runs one embedded service at an address of the host it is started on, until its standard input is closed.

python -m tests.faults.hosted kafka|postgres ADDRESS HOME
"""

import sys
from pathlib import Path

import msgspec

from contracts.settings import Settings
from operations.embedded.state import read_state, write_state
from operations.services import RunningServices, open_services

ELSEWHERE = {"kafka": Settings(dsn="postgresql://elsewhere"), "postgres": Settings(bootstrap_servers="elsewhere:1")}
"""What makes the other service none of ours."""


def main(service: str, address: str, home: Path) -> None:
    running = open_services(ELSEWHERE[service], home)
    try:
        move(running, service, address, home)
        print(running.addresses.bootstrap_servers if service == "kafka" else running.addresses.dsn, flush=True)
        sys.stdin.read()
    finally:
        running.stop_now()


def move(running: RunningServices, service: str, address: str, home: Path) -> None:
    """Start the service again, at the address instead of loopback."""
    getattr(running, service).stop(60)
    if service == "postgres":
        with (home / "postgres" / "data" / "pg_hba.conf").open("a") as admitted:
            admitted.write("host all all samenet scram-sha-256\n")
    state = read_state(home)
    moved = msgspec.structs.replace(getattr(state, service), host=address)
    write_state(home, msgspec.structs.replace(state, **{service: moved}))
    running.start_missing()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
