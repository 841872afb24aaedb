"""The contract: an OpenAPI 3.1 document, made from what parses requests and what answers them.

Paths, parameters, roles: routes.py and parameters.py. Answers: the types of shapes.py. Errors: codes.toml. So there is
nothing to keep in step. Its server is where the document lies, so it holds behind every proxy's path, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from .. import __version__
from ..archive.content import ContentType
from .call import Call, Gives
from .codes import Code, Meets
from .examples import EXAMPLES
from .ndjson import NDJSON
from .openapi_bodies import SCHEMAS, Json, request_body
from .parameters import ID, Parameter
from .shapes import AddAnswer, ErrorAnswer

_KEY = "key"
_OF_LINES = "x-itemSchema"  # of each line, as OpenAPI 3.2 will have it in `itemSchema`
_TITLE = "CLIP archive"
_ABOUT = """\
Find the pictures and texts of a media archive by what they show or say.

Parameters go into the query string, the content into the body, JSON comes out; all of it is UTF-8. `HEAD` is answered
wherever `GET` is. Of an answer in lines of JSON (NDJSON), `x-itemSchema` says what each line holds. Every error is
`{"error": {"code", "message", "request_id"}}`. `X-Request-ID` of a request, 1 to 128 visible ASCII characters, is kept;
else the answer has a new one.
"""
_HEADERS: dict[str, tuple[str, Json]] = {
    "X-Request-ID": ("names the request in the logs, too", {"type": "string", "minLength": 1, "maxLength": 128}),
    "Retry-After": ("seconds to wait", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("the scheme to show a key by (RFC 6750)", {"type": "string"}),
    "RateLimit": ("what is left of each limit, with keys (draft-ietf-httpapi-ratelimit-headers)", {"type": "string"}),
    "RateLimit-Policy": ("the limits", {"type": "string"}),
    "ETag": ("changes with the content", {"type": "string"}),
    "Accept-Ranges": ("a part of it may be asked for by Range", {"type": "string", "enum": ["bytes"]}),
    "Content-Range": ("which part it is, and of how many bytes", {"type": "string"}),
    "Content-Disposition": ("attachment: browsers save it", {"type": "string"}),
    "Cache-Control": ("no-cache: keep it, but ask each time, it may be erased", {"type": "string"}),
}
_ALWAYS = ("X-Request-ID",)
_WITH_KEYS = ("RateLimit", "RateLimit-Policy")
_OPTIONAL = (*_WITH_KEYS, "ETag", "Cache-Control", "Accept-Ranges", "Content-Disposition")
_OF_ERRORS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
    507: ("Retry-After",),
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "the ETag of what is at hand",
    "schema": {"type": "string"},
}
_RANGE = {
    "name": "Range",
    "in": "header",
    "description": "one range of bytes, as `bytes=0-1023`; anything else is passed over",
    "schema": {"type": "string"},
}
_IF_RANGE = {
    "name": "If-Range",
    "in": "header",
    "description": "the ETag of what the range is of: another's is answered whole",
    "schema": {"type": "string"},
}
_IF_FREE = {
    "name": "If-None-Match",
    "in": "header",
    "description": "`*`: fail with 412 where the id holds a content already",
    "schema": {"type": "string", "enum": ["*"]},
}


def document(calls: Sequence[Call], limits: Mapping[ContentType, int], needs_key: bool) -> bytes:
    """The contract of these calls, in JSON.

    `limits` are the bytes of the largest contents; `needs_key` tells whether callers have to show one.
    """
    paths: dict[str, Json] = {}
    errors: dict[str, Json] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, limits, needs_key, errors)
    _link(calls, paths)
    types = dict.fromkeys(each for call in calls for gives in call.gives for each in (*gives.json, *gives.lines))
    sent = [call.sends for call in calls if call.sends is not None]
    _, schemas = msgspec.json.schema_components([*types, *sent, ErrorAnswer], ref_template=SCHEMAS)
    headers = {
        name: {"description": means, "required": name not in _OPTIONAL, "schema": schema}
        for name, (means, schema) in _HEADERS.items()
    }
    key = {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, which the operator makes by `python -m index_sidecar keys add`",
    }
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": _TITLE,
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "where this document lies"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": errors,
            "headers": headers,
            "securitySchemes": {_KEY: key},
        },
    }
    return msgspec.json.encode(made)


def _link(calls: Sequence[Call], paths: dict[str, Json]) -> None:
    """Say what can be done with the id of what was added."""
    of_id = [call.operation for call in calls if "{id}" in call.path]
    links = {name: {"operationId": name, "parameters": {ID.name: "$response.body#/id"}} for name in of_id}
    for call in calls:
        for gives in call.gives:
            if AddAnswer in gives.json:
                paths[call.path][call.method.lower()]["responses"][str(gives.status)]["links"] = links


def _operation(call: Call, limits: Mapping[ContentType, int], needs_key: bool, errors: dict[str, Json]) -> Json:
    summary, _, more = (call.answer.__doc__ or "").strip().partition("\n")
    role = "Needs no key." if call.role is None else f"Role: {call.role.word}, where the archive asks for keys."
    parameters = [_parameter(call, each) for each in call.takes]
    if any(gives.status == 304 for gives in call.gives):
        parameters.append(_IF_NONE_MATCH)
    if any(gives.status == 206 for gives in call.gives):
        parameters += [_RANGE, _IF_RANGE]
    if Meets.NEW in call.meets:
        parameters.append(_IF_FREE)
    made: Json = {
        "operationId": call.operation,
        "summary": summary,
        "description": "\n\n".join([line for line in (" ".join(more.split()), role) if line]),
        "tags": ["MediaVerse" if call.lenient else call.path.split("/")[1] if call.takes else "service"],
        "parameters": parameters,
        "responses": _responses(call, errors),
        "security": [],
    }
    if call.role is not None:
        made["x-role"] = call.role.word
        made["security"] = [{_KEY: [call.role.word]}] + ([] if needs_key else [{}])
    if Meets.SENT in call.meets:
        made["requestBody"] = request_body(call, limits)
    return made


def _parameter(call: Call, parameter: Parameter[Any]) -> Json:
    place = "path" if f"{{{parameter.name}}}" in call.path else "query"
    made = {
        "name": parameter.name,
        "in": place,
        "description": parameter.help,
        "required": parameter.required or place == "path",
        "schema": parameter.schema(),
    }
    example = EXAMPLES[call.operation].parameters.get(parameter.name) if call.operation in EXAMPLES else None
    return made if example is None else {**made, "example": example}


def _responses(call: Call, errors: dict[str, Json]) -> Json:
    made = {str(gives.status): _success(call, gives) for gives in call.gives}
    by_status: dict[int, dict[str, Code]] = {}
    for word, code in call.codes().items():
        by_status.setdefault(code.status, {})[word] = code
    for status, codes in sorted(by_status.items()):
        name = f"{status}-" + "-".join(codes) if len(codes) < 4 else f"{status}-{call.operation}"
        errors[name] = _error(status, codes)
        made[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return made


def _success(call: Call, gives: Gives) -> Json:
    made: Json = {"description": gives.means, "headers": _headers((*_ALWAYS, *_WITH_KEYS, *gives.headers))}
    content: Json = {media: {"schema": {}} for media in gives.media}
    if gives.json:
        content["application/json"] = {"schema": _one_of(gives.json)}
    if gives.lines:
        content[NDJSON] = {"schema": {"type": "string"}, _OF_LINES: _one_of(gives.lines)}
    answer = EXAMPLES[call.operation].answer if call.operation in EXAMPLES else None
    for media, each in content.items() if answer is not None else ():
        if (
            isinstance(answer, gives.json)
            if media == "application/json" and gives.json
            else media.startswith(("text/plain", NDJSON))
        ):
            each["example"] = answer
    return {**made, "content": content} if content else made


def _one_of(types: Sequence[type[Struct]]) -> Json:
    refs = [{"$ref": SCHEMAS.format(name=each.__name__)} for each in types]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _error(status: int, codes: Mapping[str, Code]) -> Json:
    one_of = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    schema = {"allOf": [{"$ref": SCHEMAS.format(name=ErrorAnswer.__name__)}, one_of]}
    return {
        "description": f"{HTTPStatus(status).phrase}\n\n"
        + "\n".join(f"- `{word}`: {code.means} {code.do}" for word, code in codes.items()),
        "headers": _headers((*_ALWAYS, *_WITH_KEYS, *_OF_ERRORS.get(status, ()))),
        "content": {"application/json": {"schema": schema}},
    }


def _headers(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
