"""What both clients ask of httpx2, and what its failures are called here."""

from __future__ import annotations

import ssl
from typing import Any

import httpx2

from .address import Address
from .errors import ArchiveError, Unreachable
from .retries import Patience
from .version import VERSION
from .wire import Reply

# Before a request was sent as a whole, nothing of it was done.
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_USELESS = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.DecodingError, httpx2.TooManyRedirects)


def client_options(address: Address, patience: Patience, connections: int) -> dict[str, Any]:
    """For httpx2's clients. Time-outs count silence: an answer that goes on may go on."""
    return {
        "headers": {"User-Agent": f"clip-archive/{VERSION}", "Accept-Encoding": "identity", **address.headers},
        "timeout": httpx2.Timeout(patience.silence_s, connect=patience.connect_s),
        "limits": httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
        "follow_redirects": False,  # a key must not be shown to another address
        # To read all certificates takes longer than a call; a context without any trusts nobody.
        "verify": address.url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }


def reply_of(response: httpx2.Response, body: bytes) -> Reply:
    """The answer, whatever it is."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def failed(error: httpx2.HTTPError, address: Address) -> ArchiveError:
    """No answer, or half of one."""
    if isinstance(error, httpx2.TimeoutException):
        why = "did not answer in time"
    elif isinstance(error, _UNSENT):
        why = "cannot be reached"
    else:
        why = "broke the connection off"
    return Unreachable(
        f"{address.url} {why}" + (f": {error}" if str(error) else ""),
        retryable=not isinstance(error, _USELESS),
        surely_undone=isinstance(error, _UNSENT),
    )
