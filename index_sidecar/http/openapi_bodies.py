"""What the contract says of the bodies of requests: contents, forms of them, questions and patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ..archive.content import ContentType
from .call import Call
from .codes import Meets
from .examples import EXAMPLES
from .many import MOST_AT_ONCE, PARAMETERS
from .patch import MOST_BYTES

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/{name}"
_PATCH = {
    "required": True,
    "description": f"A merge patch (RFC 7396) of the metadata: null takes a name away. At most {MOST_BYTES} bytes.",
    "content": {"application/merge-patch+json": {"schema": {"type": "object"}, "example": {"title": "Cat"}}},
}


def request_body(call: Call, limits: Mapping[ContentType, int]) -> Json:
    """What a call that takes a body says of it; `limits` are the bytes of the largest contents."""
    if call.takes_patch:
        return _PATCH
    if Meets.MANY in call.meets:
        return _many(call, limits)
    if call.sends is not None:
        return _json(call, call.sends)
    return _content(call, limits)


def _content(call: Call, limits: Mapping[ContentType, int]) -> Json:
    """Its bytes, whatever media type they are said to have, or a form with one file."""
    example = EXAMPLES[call.operation].body
    fields = {each.name: {**each.schema(), "description": each.help} for each in call.takes}
    file = {"type": "string", "contentMediaType": "application/octet-stream", "description": "the content"}
    form = {"type": "object", "properties": {"file": file, **fields}, "required": ["file"]}
    return {
        "required": True,
        "description": f"At most {_sizes(limits)}. In a form, parameters may be fields in place of the query string.",
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": example},
            "image/*": {"schema": {}},
            "application/octet-stream": {"schema": {}},
            "multipart/form-data": {"schema": form},
        },
    }


def _json(call: Call, sends: type[Struct]) -> Json:
    example = msgspec.json.decode(EXAMPLES[call.operation].body or "")
    schema = {"$ref": SCHEMAS.format(name=sends.__name__)}
    form = {
        "type": "object",
        "properties": {"search": schema},
        "required": ["search"],
        "additionalProperties": {"type": "string", "contentMediaType": "image/*"},
    }
    return {
        "required": True,
        "description": "JSON; with pictures a form, whose field `search` holds it.",
        "content": {
            "application/json": {"schema": schema, "example": example},
            "multipart/form-data": {"schema": form},
        },
    }


def _many(call: Call, limits: Mapping[ContentType, int]) -> Json:
    fields = {each.name: {**each.schema(), "description": each.help} for each in call.fields}
    names = " or ".join(f"`{name}`" for name in fields)
    return {
        "required": True,
        "description": f"A part for each content, {MOST_AT_ONCE} at most. Each says what it is in a header "
        f"`{PARAMETERS}: id=cat-1&type=text&user=ada`, percent-encoded as a query string; or by a name that is its type"
        f" and a file name that is its id. A field {names} holds for the contents behind it, until the next of its"
        f" name. A part has at most {_sizes(limits)}. From an admin, a part named `exported` is a line of an export"
        " with its vector, which is stored as it is.",
        "content": {"multipart/form-data": {"schema": {"type": "object", "properties": fields}}},
    }


def _sizes(limits: Mapping[ContentType, int]) -> str:
    return ", ".join(f"{limit} bytes of {content_type}" for content_type, limit in limits.items())
