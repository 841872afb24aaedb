"""Who calls, and whether that caller may make this call: `Authorization: Bearer KEY` (RFC 6750).

Whose key it is, is found out before anything else of a request is read; what the call asks for is checked by `require`,
which each call of routes.py names its role to. So an answer that refuses tells nothing of what is stored.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from ..access.keys import Keys
from ..access.roles import OWNER, Caller, Role
from ..archive.content import ContentType
from ..archive.errors import Forbidden, Unauthorized
from .guard import PROBES
from .peers import Peers
from .rates import PICTURE_COST, Rates

logger = logging.getLogger(__name__)
audit_logger = logging.getLogger("index_sidecar.audit")

CALLER = web.RequestKey("caller", Caller)
_COUNTED = web.RequestKey("counted", str)  # against whom

# The scheme has no case, the key has; some clients send more than one blank.
_BEARER = re.compile(r"bearer +([^\s]{1,512}) *", re.IGNORECASE)
_ASK = "send an API key as `Authorization: Bearer KEY`; the operator of the archive makes keys"


class Access:
    """Decides who may do what. Without `keys` everybody is the owner of the machine, and nothing is counted."""

    def __init__(self, keys: Keys | None, peers: Peers, rates: Rates, audit_ids: bool) -> None:
        self._keys = keys
        self._peers = peers
        self._rates = rates
        self._audit_ids = audit_ids

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return self._keys is None

    def identify(self, request: web.Request) -> Caller | None:
        """Whose key the request bears; None when it bears none. Raises Unauthorized for one that is nobody's."""
        if self._keys is None:
            return OWNER
        given = request.headers.getall("Authorization", ())
        if not given:
            return None
        bearer = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        if bearer is None:
            raise Unauthorized(f"the Authorization header is not of the scheme Bearer: {_ASK}", "invalid_authorization")
        caller = self._keys.caller(bearer.group(1))
        if caller is None:
            self._refuse(request)
        return caller

    def _refuse(self, request: web.Request) -> None:
        peer = self._peers.of(request)
        if not self._peers.is_proxy(request):
            self._rates.take("wrong keys", peer)  # past it no line in the log, which whoever tries keys must not fill
        logger.warning("an API key was refused", extra={"peer": peer})
        raise Unauthorized("this API key is unknown, expired or revoked", "invalid_key")

    def count(self, request: web.Request) -> None:
        """Count a request against its caller. Raises TooManyRequests."""
        if self._keys is not None:
            request[_COUNTED] = self.name(request)
            self._rates.take("requests", request[_COUNTED])

    def count_model(self, request: web.Request, *types: ContentType) -> None:
        """Count contents that the model may be asked for, all or none. Raises TooManyRequests."""
        if self._keys is not None and types:
            work = sum(PICTURE_COST if content_type == "image" else 1 for content_type in types)
            self._rates.take("model", request[_COUNTED], work)

    def count_one_more(self, request: web.Request) -> None:
        """Count a content that came with others as a request of its own. Raises TooManyRequests."""
        if self._keys is not None:
            self._rates.take("requests", request[_COUNTED])

    def quotas(self, request: web.Request) -> Mapping[str, str]:
        """The headers that tell a caller whose request was counted what is left."""
        if not self._rates.policy or _COUNTED not in request:
            return {}
        return {"RateLimit-Policy": self._rates.policy, "RateLimit": self._rates.state(request[_COUNTED])}

    def one_of_many(self, request: web.Request) -> contextlib.AbstractContextManager[None]:
        """As `Rates.one_of_many`, for the request's caller."""
        return self._rates.one_of_many(request[_COUNTED])

    def name(self, request: web.Request) -> str:
        """Whom limits count: the key, else the peer."""
        caller = request.get(CALLER)
        return f"key {caller.name}" if caller is not None else f"peer {self._peers.of(request)}"

    def audit(self, request: web.Request, what: str, count: int, content_id: str | None = None) -> None:
        """One log line about an erasure: who, what, how many; ids only where the operator wants them."""
        caller = request.get(CALLER)
        fields = {"key": caller.name if caller else None, "count": count}
        if self._audit_ids and content_id is not None:
            fields["id"] = content_id
        audit_logger.info(what, extra=fields)


ACCESS = web.AppKey("access", Access)


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out whose request it is, and count it."""
    access = request.app[ACCESS]
    caller = access.identify(request)
    if caller is not None:
        request[CALLER] = caller
    if access.is_open or request.path in PROBES:
        return await handler(request)
    access.count(request)
    with access.one_of_many(request):
        return await handler(request)


async def tell_quotas(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer's head how much its caller has left: now that the head goes out, with what it took itself."""
    response.headers.update(request.app[ACCESS].quotas(request))


def require(request: web.Request, role: Role | None) -> None:
    """Raises Unauthorized or Forbidden unless the caller has this role; None is for everybody."""
    if role is None:
        return
    caller = request.get(CALLER)
    if caller is None:
        raise Unauthorized(f"this call needs an API key: {_ASK}", "missing_key")
    if caller.role < role:
        raise Forbidden(f"this call needs a key of the role {role.word}; this key's is {caller.role.word}")


def acting_user(request: web.Request, user: str | None) -> str | None:
    """The user a call acts as: the one named, else the one its key is bound to. Raises Forbidden for another's."""
    caller: Caller = request.get(CALLER) or OWNER
    if user is None:
        return caller.user
    if caller.only_user not in (None, user):
        raise Forbidden("this key is bound to a user, and adds, changes and erases only as that user")
    return user


def only_user_of(request: web.Request) -> str | None:
    """The one user whose contents the caller may change, if there is such a bound."""
    caller: Caller = request.get(CALLER) or OWNER
    return caller.only_user
