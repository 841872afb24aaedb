"""The contract as a document, and as a page to read and try it."""

from __future__ import annotations

from aiohttp import web

from .query import Query

CONTRACT = web.AppKey("contract", bytes)


async def contract(request: web.Request, query: Query) -> web.Response:
    """This document: every call, parameter, answer and error."""
    return web.Response(body=request.app[CONTRACT], content_type="application/json", charset="utf-8")
