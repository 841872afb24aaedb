"""The sidecar without the middleware that counts and times requests: the other side of `python -m bench.metrics`."""

from __future__ import annotations

from aiohttp import web

from index_sidecar import __main__, app
from index_sidecar.http.metrics import measure
from index_sidecar.settings import Settings

_measured = app.create_app


def _unmeasured(settings: Settings) -> web.Application:
    sidecar = _measured(settings)
    sidecar.middlewares.remove(measure)
    return sidecar


if __name__ == "__main__":
    app.create_app = _unmeasured
    __main__.main()
