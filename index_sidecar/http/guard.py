"""Foreign pages stay out: a browser of somebody who may reach this service must not be a way in for others.

What a page of another origin can do without our consent is to send "simple" requests whose answers it cannot read;
they would add, replace and erase. And a name of its own that it points at our address (DNS rebinding) makes it the
same origin. So

- without keys only a `Host` that is ours is served (a rebound page bears its own name); with keys any, for a rebound
  page has no key;
- unsafe methods that a browser says come from another origin are refused: by `Sec-Fetch-Site`, which no script can set,
  else by `Origin`. This is the rule of Go's net/http CrossOriginProtection (https://words.filippo.io/csrf/); requests
  without either are no browser's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from ..archive.errors import Forbidden, Misdirected

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "localhost.localdomain"})
_SERVER = "clip-archive"  # not which libraries of which versions
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_ALLOWED_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_ALLOWED_HEADERS = "Authorization, Content-Type, If-None-Match, If-Range, Range, X-Request-ID"
_EXPOSED_HEADERS = "Accept-Ranges, Content-Range, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
PROBES = frozenset({"/livez", "/ready"})
"""What probes ask, by address and without a key, as often as they like; they learn nothing else."""


class Guard:
    """Which names are ours, and which origins are let in."""

    def __init__(self, hosts: Collection[str] | None, origins: Collection[str]) -> None:
        """`hosts` beside the loopback's names, or None to serve requests for any; `origins` as in CORS_ORIGINS."""
        self._hosts = None if hosts is None else frozenset(host_name(host) for host in hosts)
        self._origins = frozenset(origins)

    def check(self, request: web.Request) -> None:
        """Raises Misdirected for a host that is not ours, Forbidden for a foreign page's request."""
        host = request.headers.get("Host", "")
        if self._hosts is not None and request.path not in PROBES and not _is_ours(host, self._hosts):
            raise Misdirected(
                f"this service does not go by the name {host_name(host)[:100]!a}: ask it by a name of its own, or have"
                " the operator put this one into ALLOWED_HOSTS"
            )
        if _is_foreign(request, self._origins):
            raise Forbidden(
                "a page of another origin may not change anything here, unless the operator puts its origin into"
                " CORS_ORIGINS",
                "foreign_origin",
            )

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin may read answers."""
        return origin is not None and origin in self._origins

    def opens(self) -> bool:
        """Whether any foreign page may."""
        return bool(self._origins)


def secure(response: web.StreamResponse) -> None:
    """Put the headers on an answer that say what browsers may do with it, where it does not say so itself."""
    response.headers["Server"] = _SERVER
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


GUARD = web.AppKey("guard", Guard)


@web.middleware
async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what browsers ask before they send something for a page whose origin is let in (CORS)."""
    asked_for = request.headers.get("Access-Control-Request-Method")
    if request.method != "OPTIONS" or asked_for is None or not request.app[GUARD].allows(request.headers.get("Origin")):
        return await handler(request)
    response = web.Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
    response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
    response.headers["Access-Control-Max-Age"] = "600"
    return response


async def tell_browsers(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer's head what browsers may do with it."""
    guard, origin = request.app[GUARD], request.headers.get("Origin")
    secure(response)
    if guard.opens():
        response.headers.add("Vary", "Origin")
    if origin is not None and guard.allows(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"


@web.middleware
async def keep_foreign_pages_out(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a foreign page has a browser send."""
    request.app[GUARD].check(request)
    return await handler(request)


def host_name(host: str) -> str:
    """The name in a Host header, in small letters and without port, brackets and final dot."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    name = name.rpartition(":")[0] if name.count(":") == 1 else name
    return name.removesuffix(".")


def _is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a request for this Host is meant for us: a loopback name, or one of `names`."""
    name = host_name(host)
    if name in _LOOPBACK or name.endswith(".localhost") or name in names:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_foreign(request: web.Request, origins: Collection[str]) -> bool:
    """Whether a browser sends an unsafe request for a page of another origin that is not one of `origins`."""
    if request.method in SAFE:
        return False
    origin = request.headers.get("Origin")
    if origin is not None and origin in origins:
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    if origin is None:
        return False
    return origin == "null" or urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower()
