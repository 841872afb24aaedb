"""Who is at the other end of a connection, also behind proxies that may be believed.

The rule for `X-Forwarded-For` is that of https://adam-p.ca/blog/2022/03/x-forwarded-for/: only what a trusted proxy
wrote counts, so the list is read from its right end, trusted proxies are passed over, and the first other address is
the peer's. What stands left of it is anybody's invention.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

from aiohttp import web

from ..values import Network

logger = logging.getLogger(__name__)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_SHARED_PREFIX = 64  # of IPv6: what one customer gets, and can take any address of
_UNKNOWN = "unknown"


class Peers:
    """Tells requests' peers apart, for limits and for the log."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)
        self._told = False

    def of(self, request: web.Request) -> str:
        """The address a request comes from: an IPv4 address, or the /64 an IPv6 address is in."""
        direct = _address(request.remote or "")
        if direct is None:
            return _UNKNOWN
        headers = request.headers.getall("X-Forwarded-For", ())
        if not headers:
            return _shown(direct)
        if not self._trusts(direct):
            if not self._told and not self._trusted:
                logger.warning("X-Forwarded-For arrives, but TRUSTED_PROXIES names nobody: it is ignored")
                self._told = True
            return _shown(direct)
        chain = [_address(part) for line in headers for part in line.split(",")]
        peer = direct
        for address in reversed(chain):
            if address is None:
                break  # nobody we trust writes such a thing
            peer = address
            if not self._trusts(address):
                break
        return _shown(peer)

    def is_proxy(self, request: web.Request) -> bool:
        """Whether the request comes from a trusted proxy itself, as far as can be told."""
        address = _address(self.of(request).removesuffix(f"/{_SHARED_PREFIX}"))
        return address is not None and self._trusts(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address.version == network.version and address in network for network in self._trusted)


def _address(text: str) -> _Address | None:
    """Also with a port, and in brackets, as some proxies write them."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _shown(address: _Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _SHARED_PREFIX), strict=False))
