"""Machines for tests of outages: network namespaces round a hub, each of which can vanish with its address."""

from __future__ import annotations

import contextlib
import random
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Machine:
    """One namespace; `cable` is the end of its link that is in the hub's namespace."""

    name: str
    address: str
    hub: str
    cable: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command on it; the process is the command's own."""
        return ("ip", "netns", "exec", self.name)

    def vanish(self) -> None:
        """From now on packets to it are lost, in silence, as when its power fails."""
        _ip("-n", self.hub, "link", "set", self.cable, "down")

    def come_back(self) -> None:
        _ip("-n", self.hub, "link", "set", self.cable, "up")


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Skips where this user may not make namespaces."""
    mark, subnet = secrets.token_hex(3), f"10.213.{random.randrange(256)}"
    # The hub has a namespace, too: a firewall of this one, such as Docker's, would drop what its bridges pass on.
    hub, here = f"h{mark}", f"u{mark}"
    found = [Machine(f"m{mark}{number}", f"{subnet}.{number + 2}", hub, f"c{number}") for number in range(count)]
    with contextlib.ExitStack() as stack:
        try:
            _ip("netns", "add", hub)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("network namespaces need root and iproute2")
        stack.callback(_ip, "netns", "del", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        _ip("link", "add", here, "type", "veth", "peer", "name", "host", "netns", hub)
        stack.callback(_ip, "link", "del", here)
        _ip("-n", hub, "link", "set", "host", "master", "bridge", "up")
        _ip("addr", "add", f"{subnet}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        for each in found:
            _ip("netns", "add", each.name)
            stack.callback(_ip, "netns", "del", each.name)
            _ip("-n", hub, "link", "add", each.cable, "type", "veth", "peer", "name", "eth0", "netns", each.name)
            _ip("-n", hub, "link", "set", each.cable, "master", "bridge", "up")
            _ip("-n", each.name, "addr", "add", f"{each.address}/24", "dev", "eth0")
            _ip("-n", each.name, "link", "set", "eth0", "up")
            _ip("-n", each.name, "link", "set", "lo", "up")
        yield found
