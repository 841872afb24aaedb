"""The memory that the bodies of all requests take together, charged as their bytes arrive.

A sender who announces much and sends little holds little. Where memory is out, whoever sends slowest makes room: slow
senders cost nobody else anything.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from ..archive.errors import InvalidInput, Overloaded
from .unpacking import BROKEN, broken

_SLOW_BYTES_A_S = 64 * 1024
_GRACE_S = 1.0


class Memory:
    """At most `max_bytes` of bodies at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._free = max_bytes
        self._receiving: set[Share] = set()

    def take(self, share: Share, size: int) -> None:
        """Charge more bytes to a share. Raises Overloaded where no slower sender can make room for them."""
        while size > self._free:
            slowest = min(self._receiving - {share}, key=Share.rate, default=None)
            if slowest is None or slowest.rate() >= _SLOW_BYTES_A_S:
                raise _overloaded()
            slowest.displace()
        self._free -= size

    def held(self) -> int:
        """Bytes that are charged now."""
        return self._max_bytes - self._free

    def give_back(self, size: int) -> None:
        """Bytes that were charged are free again."""
        self._free += size

    def receiving(self, share: Share, now: bool) -> None:
        """Whether a share belongs to a body that still arrives, and may have to make room."""
        (self._receiving.add if now else self._receiving.discard)(share)


class Share:
    """What one body holds. `async with` it while the body arrives; `release` it when its bytes are needed no more."""

    def __init__(self, memory: Memory, timeout_s: float, idle_s: float) -> None:
        self._memory = memory
        self.held = 0
        self._displaced = False
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timeout = asyncio.timeout_at(None)

    async def __aenter__(self) -> Share:
        await self._timeout.__aenter__()
        self._wait_on()
        self._memory.receiving(self, True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises InvalidInput for bytes that are not what their headers say, or that do not come in time."""
        self._memory.receiving(self, False)
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._displaced:
                raise _overloaded() from None
            waited = self._loop.time() - self._started
            what = f"the body did not arrive within {self._timeout_s:g} s"
            if waited < self._timeout_s:
                what = f"nothing of the body arrived for {self._idle_s:g} s"
            raise InvalidInput(what, "body_timeout") from None
        if isinstance(error, BROKEN):
            raise broken() from error

    def take(self, size: int) -> None:
        """Charge bytes that arrived, and wait anew for more. Raises Overloaded."""
        if self._displaced:
            raise _overloaded()
        self._memory.take(self, size)
        self.held += size
        self._wait_on()

    def rate(self) -> float:
        """Bytes a second since the start; too many to be slow in the first second."""
        age_s = self._loop.time() - self._started
        return self.held / age_s if age_s > _GRACE_S and self.held else float("inf")

    def displace(self) -> None:
        """Make room for others: the body is not read on."""
        self._displaced = True
        self._memory.receiving(self, False)
        self.release()
        self._timeout.reschedule(self._loop.time())

    def release(self) -> None:
        """Give back all that is held."""
        self._memory.give_back(self.held)
        self.held = 0

    def _wait_on(self) -> None:
        self._timeout.reschedule(min(self._started + self._timeout_s, self._loop.time() + self._idle_s))


def _overloaded() -> Overloaded:
    return Overloaded("too many contents are being received at once; try again shortly")
