"""What schemathesis is told of this service: real pictures to send, and one more check. It loads this by its name."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from hypothesis import strategies
from PIL import Image

from tests.support import contract


def _picture(shade: int, form: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 255 - shade, 7)).save(file, form)
    return file.getvalue()


_PICTURES = strategies.builds(_picture, strategies.integers(0, 255), strategies.sampled_from(["PNG", "JPEG", "WEBP"]))
schemathesis.openapi.media_type("image/*", _PICTURES)
schemathesis.openapi.media_type("application/octet-stream", strategies.one_of(_PICTURES, strategies.binary()))


@schemathesis.check
def nothing_but_the_contract(ctx: Any, response: Any, case: Any) -> None:
    """No status, header, code or field that the contract does not name."""
    headers = [(name, value) for name, values in response.headers.items() for value in values]
    path = urlsplit(response.request.url).path
    contract.check(response.request.method, path, response.status_code, headers, response.content)
