"""PATCH of a content: a merge patch of its metadata."""

from __future__ import annotations

from aiohttp import web

from ..archive.errors import InvalidInput, TooLarge
from ..archive.strict_json import read_json
from . import answers
from .auth import ACCESS, only_user_of
from .body import go_on, receive
from .handlers import BODIES, SERVICE
from .parameters import ID
from .query import Query
from .unpacking import encoding_of

MOST_BYTES = 8192


async def patch_content(request: web.Request, query: Query) -> web.Response:
    """Change the metadata of a content by a merge patch (RFC 7396), without asking the model."""
    content_id, only_user, service = query[ID], only_user_of(request), request.app[SERVICE]
    service.check_ready()
    encoding_of(request)
    await go_on(request)
    share = request.app[BODIES].share()
    try:
        patch = read_json(await receive(request, share, MOST_BYTES), "metadata")
        content, has_changed = await service.change_metadata(content_id, patch, only_user)
    except TooLarge:
        raise InvalidInput(f"metadata $: a patch has at most {MOST_BYTES} bytes", "invalid_metadata") from None
    finally:
        share.release()
    if has_changed:
        request.app[ACCESS].audit(request, "metadata changed", 1, content_id)
    return answers.json(answers.content(content.entry))
