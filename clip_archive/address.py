"""Where the archive is, and the key that is shown to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

DEFAULT_URL = "http://127.0.0.1:8090"
URL_VARIABLE = "CLIP_ARCHIVE_URL"
KEY_VARIABLE = "CLIP_ARCHIVE_KEY"
_KEY = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True)
class Address:
    """An http or https address, a path below a host included, and an API key, which is never shown."""

    url: str
    key: str | None = field(default=None, repr=False)

    def to(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """The address of a call. Ids are in the query: no proxy keeps every id whole within a path."""
        return self.url + path + ("?" + urlencode(query, quote_via=quote, safe="") if query else "")

    @property
    def headers(self) -> dict[str, str]:
        """What shows the key."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}


def address(url: str | None = None, key: str | None = None) -> Address:
    """The address said, else that of the environment, else this machine's. Raises ValueError, which says why."""
    url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    key = (key or os.environ.get(KEY_VARIABLE) or "").strip() or None
    parts = urlsplit(url.strip())
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the archive's address {url!r} has no valid port: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the archive's address must begin with http:// or https:// and name a host, not {url!r}")
    if "@" in parts.netloc:
        raise ValueError(f"the archive's address must hold no password: put the API key into {KEY_VARIABLE}")
    if parts.query or parts.fragment:
        raise ValueError(f"the archive's address must end with its path, without ? and #: {url!r}")
    if key is not None and not _KEY.fullmatch(key):
        raise ValueError("the API key has characters that no key has: is it whole, and the key alone?")
    return Address(f"{parts.scheme}://{parts.netloc}{quote(parts.path.rstrip('/'), safe='/%:@!$&()*+,;=~')}", key)
