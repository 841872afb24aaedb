"""Multipart forms (RFC 7578)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from urllib.parse import quote


def write_form(parts: Iterable[tuple[dict[str, str], bytes]]) -> tuple[str, bytes]:
    """(Content-Type, body) of a form whose parts are (headers, data)."""
    boundary = secrets.token_hex(16)
    pieces = []
    for headers, data in parts:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        pieces += [f"--{boundary}\r\n{head}\r\n".encode(), data, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def named(name: str, file_name: str | None = None) -> str:
    """The Content-Disposition of a part."""
    file = f'; filename="{quote(file_name)}"' if file_name is not None else ""
    return f'form-data; name="{name}"{file}'
