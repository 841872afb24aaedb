"""Every call of the archive, described once: `Archive` and `AsyncArchive` send what is made here.

Methods bear the names that the contract, /openapi.json, has for its calls, and their parameters the names of its
parameters; what is not said is as the archive has it by default. Each raises a kind of ArchiveError, whose `code`
docs/errors.md explains. Scores are cosines; times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec

from .answers import (
    AddAnswer,
    CallerAnswer,
    ContentAnswer,
    ContentType,
    EraseAnswer,
    EraseUserAnswer,
    HealthAnswer,
    IndexAnswer,
    PageAnswer,
    StatusAnswer,
)
from .contents import Data, data_of, type_of
from .contract import Contract
from .form import named, write_form
from .questions import Filter
from .wire import Call, json_of, queried

_BYTES = {"Content-Type": "application/octet-stream"}  # a text that is JSON stays a text
_PATCH = {"Content-Type": "application/merge-patch+json"}
LONGEST_PARAMETERS = 4000
"""Characters of an address's query: the archive's limit is 8,190 bytes a line."""


def add_content(
    id: str,
    content: Data,
    *,
    type: ContentType | None = None,
    user: str | None = None,
    near: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    only_new: bool = False,
) -> Call[AddAnswer]:
    """Store a content under an id: durable, and found, when this returns.

    A string is the text itself; a path is read, and bytes are taken, as a picture unless `type` says otherwise. The
    same bytes again change nothing. From the cosine `near` on, others of the type are named as near duplicates. With
    `only_new`, an id that is taken raises Conflict.
    """
    query = queried(id=id, type=type_of(content, type), user=user, near=near, metadata=metadata)
    if len(urlencode(query)) > LONGEST_PARAMETERS:
        return add_content_by_form(query, data_of(content), only_new)
    headers = _BYTES | ({"If-None-Match": "*"} if only_new else {})
    # Nobody may tell an add that was done, and whose answer was lost, from one that somebody else did.
    return Call("POST", "/add_content", json_of(AddAnswer), query, data_of(content), headers, repeatable=not only_new)


def add_content_by_form(said: Mapping[str, str], data: bytes, only_new: bool) -> Call[AddAnswer]:
    """As `add_content`, for parameters that no address has room for."""
    fields = [({"Content-Disposition": named(name)}, value.encode()) for name, value in said.items()]
    media, body = write_form([*fields, ({"Content-Disposition": named("file", "file")}, data)])
    headers = {"Content-Type": media} | ({"If-None-Match": "*"} if only_new else {})
    return Call("POST", "/add_content", json_of(AddAnswer), {}, body, headers, repeatable=not only_new)


def get_content(id: str) -> Call[ContentAnswer]:
    """What is stored under an id, without its vector. Raises NotFound."""
    return Call("GET", "/contents", json_of(ContentAnswer), queried(id=id))


def get_contents(
    *,
    user: str | None = None,
    type: ContentType | None = None,
    limit: int | None = None,
    after: str | None = None,
    filter: Filter | None = None,
    order: Literal["oldest", "newest"] | None = None,
) -> Call[PageAnswer]:
    """A page of what is stored, in the order it was first added, or the reverse; `next` is the next page's `after`."""
    return Call("GET", "/contents", json_of(PageAnswer), queried(**locals()))


def get_preview(id: str) -> Call[bytes]:
    """A WebP of a picture, at most 256 pixels wide and high; the first 500 characters of a text, in UTF-8."""
    return Call("GET", "/contents/preview", bytes, queried(id=id), media="")


def get_original(id: str) -> Call[bytes]:
    """The bytes of a content as they came. Raises NotFound with the code `no_original` where they are not kept."""
    return Call("GET", "/contents/original", bytes, queried(id=id), media="")


def patch_content(id: str, patch: Mapping[str, Any]) -> Call[ContentAnswer]:
    """Change a content's metadata by a merge patch (RFC 7396): None takes a name away. Raises NotFound."""
    body = msgspec.json.encode(patch)
    return Call("PATCH", "/contents", json_of(ContentAnswer), queried(id=id), body, _PATCH)


def delete_content(id: str) -> Call[EraseAnswer]:
    """Erase a content: it is in no answer when this returns. Raises NotFound."""
    # Made again after an answer that was lost, it would find nothing, and say so.
    return Call("DELETE", "/contents", _erased, queried(id=id), repeatable=False)


def delete_user(user: str) -> Call[EraseUserAnswer]:
    """Erase all that a user added, and say how many contents that were."""
    return Call("DELETE", "/users/contents", json_of(EraseUserAnswer), queried(user=user), repeatable=False)


def caller() -> Call[CallerAnswer]:
    """The role of the key that is shown, and the user it is bound to."""
    return Call("GET", "/caller", json_of(CallerAnswer))


def index() -> Call[IndexAnswer]:
    """How each type is searched at the moment."""
    return Call("GET", "/index", json_of(IndexAnswer))


def health() -> Call[HealthAnswer | StatusAnswer]:
    """How the archive is; without a key, where it asks for keys, only that it lives."""
    return Call("GET", "/health", _healthy)


def livez() -> Call[StatusAnswer]:
    """The process lives; nothing else is asked."""
    return Call("GET", "/livez", json_of(StatusAnswer))


def ready() -> Call[StatusAnswer]:
    """Returns when every call is served, the model's too. Raises Unavailable, after some tries, when not."""
    return Call("GET", "/ready", json_of(StatusAnswer))


def contract() -> Call[Contract]:
    """Which version the archive is of, and which calls it has."""
    return Call("GET", "/openapi.json", Contract.read)


def _erased(body: bytes) -> EraseAnswer:
    """No body is the promise that no file holds anything of it."""
    return msgspec.json.decode(body, type=EraseAnswer) if body else EraseAnswer(overwritten=True)


def _healthy(body: bytes) -> HealthAnswer | StatusAnswer:
    told = msgspec.json.decode(body)
    return msgspec.convert(told, HealthAnswer) if "version" in told else msgspec.convert(told, StatusAnswer)
