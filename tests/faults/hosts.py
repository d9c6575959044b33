"""Hosts of a test's own: network namespaces with an address each, and a bridge in one more of them that joins them."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
IP_S_MAX = 30


class NotPermittedError(Exception):
    """Here are no network namespaces to be had."""


class Network:
    """Hosts on one bridge, which this process reaches too; all of it is gone with `close`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        # Of 198.18.0.0/15, which is set apart for trying networks out (RFC 2544): nobody else routes it.
        self._subnet = f"198.18.{self._pid % 256}"
        self._own = f"tidemark{self._pid % 10**7}"
        """This process' end of its way to the bridge; the kernel takes 15 letters."""
        self._hosts: list[str] = []

    def open(self) -> None:
        """Make the bridge, and a way from this process to it. Raises NotPermittedError."""
        if shutil.which("ip") is None:
            raise NotPermittedError("expected the command `ip`, from iproute2")
        if os.geteuid() != 0:
            raise NotPermittedError("expected to be root, as network namespaces are made")
        _remove_of_the_dead()
        try:
            _ip("netns", "add", self._namespace("bridge"))
            self._at_bridge("link", "add", "name", "bridge", "type", "bridge")
            self._at_bridge("link", "set", "dev", "bridge", "up")
            peer = ("peer", "name", "test", "netns", self._namespace("bridge"))
            _ip("link", "add", "name", self._own, "type", "veth", *peer)
            _ip("address", "add", f"{self._subnet}.254/24", "dev", self._own)
            _ip("link", "set", "dev", self._own, "up")
            self._plug("test")
        except NotPermittedError:
            self.close()
            raise

    def close(self) -> None:
        """Remove every namespace, and the links with them."""
        with contextlib.suppress(NotPermittedError):
            _ip("link", "delete", "dev", self._own)
        for name in (*self._hosts, "bridge"):
            with contextlib.suppress(NotPermittedError):
                _ip("netns", "delete", self._namespace(name))

    def add(self, name: str) -> str:
        """A host on the bridge; returns its address."""
        namespace = self._namespace(name)
        _ip("netns", "add", namespace)
        self._hosts.append(name)
        self._at_bridge("link", "add", "name", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        address = f"{self._subnet}.{len(self._hosts)}"
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", "dev", device, "up")
        self._plug(name)
        return address

    def at(self, name: str) -> tuple[str, ...]:
        """What starts a command on a host; it becomes that command, under the same pid."""
        return "ip", "netns", "exec", self._namespace(name)

    def cut(self, name: str) -> None:
        """Take a host's link away: what is sent is lost, and nobody is told."""
        self._at_bridge("link", "set", "dev", name, "down")

    def mend(self, name: str) -> None:
        """Bring a host's link back."""
        self._at_bridge("link", "set", "dev", name, "up")

    def _plug(self, link: str) -> None:
        self._at_bridge("link", "set", "dev", link, "master", "bridge")
        self._at_bridge("link", "set", "dev", link, "up")

    def _at_bridge(self, *arguments: str) -> None:
        _ip("-n", self._namespace("bridge"), *arguments)

    def _namespace(self, name: str) -> str:
        return f"tidemark-{self._pid}-{name}"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=IP_S_MAX)
    if done.returncode:
        raise NotPermittedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _remove_of_the_dead() -> None:
    """Remove namespaces that a killed process has left behind."""
    with contextlib.suppress(NotPermittedError):
        for line in _ip("netns", "list").splitlines():
            name = line.split()[0]
            head, _, rest = name.partition("-")
            pid = rest.partition("-")[0]
            if head == "tidemark" and pid.isdecimal() and not psutil.pid_exists(int(pid)):
                _ip("netns", "delete", name)


@contextlib.contextmanager
def hosted(network: Network, service: str, address: str, home: Path) -> Iterator[str]:
    """An embedded service on a host of its own; yields its address for clients."""
    command = [*network.at(service), sys.executable, "-m", "tests.faults.hosted", service, address, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            told = process.stdout.readline().strip()
            assert told, f"{service} ended with {process.wait()}"
            yield told
        finally:
            process.stdin.close()
            process.wait()
