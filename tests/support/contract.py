"""Checks answers against the contract: nothing goes out that the document does not say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema_rs
from multidict import CIMultiDict

from index_sidecar.http.openapi import document
from index_sidecar.http.routes import CALLS

CONTRACT = json.loads(document(CALLS, {"text": 1 << 16, "image": 1 << 25}, needs_key=True))
# What every HTTP answer may have, what tells browsers what to do with it, and what CORS adds.
_COMMON = {
    "connection", "content-length", "content-security-policy", "content-type", "cross-origin-resource-policy", "date",
    "referrer-policy", "server", "transfer-encoding", "vary", "x-content-type-options", "x-frame-options",
    "access-control-allow-origin", "access-control-expose-headers", "x-accel-buffering",
}  # fmt: skip


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Fixed paths before those that take any segment, as they are routed."""
    templates = sorted(CONTRACT["paths"], key=lambda path: ("{" in path, path))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(each))), each) for each in templates]


def operation(method: str, path: str) -> dict[str, Any] | None:
    """What the contract says of a call, `path` as it was sent without its query."""
    template = next((each for pattern, each in _paths() if pattern.fullmatch(path)), None)
    if template is None:
        return None
    found: dict[str, Any] | None = CONTRACT["paths"][template].get("get" if method == "HEAD" else method.lower())
    return found


def _resolved(thing: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in thing:
        place: Any = CONTRACT
        for part in thing["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        thing = place
    return thing


@cache
def _validator(schema: str) -> Any:
    """For a schema of the contract; closed: what no schema names may not be there."""
    closed = json.loads(json.dumps(CONTRACT["components"]["schemas"]))
    for each in closed.values():
        each["additionalProperties"] = False
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": {"schemas": closed}})


def _check_json(schema: dict[str, Any], body: bytes, where: str) -> None:
    for failure in _validator(json.dumps(schema)).iter_errors(json.loads(body)):
        raise AssertionError(f"{where}: {failure}")


def check(
    method: str, path: str, status: int, headers: Iterable[tuple[str, str]] | Mapping[str, str], body: bytes
) -> None:
    """Raises AssertionError where an answer is not what the contract says of its call."""
    told = operation(method, path)
    headers = CIMultiDict(headers)
    where = f"{method} {path} -> {status}"
    assert headers.get("X-Request-ID"), where
    if told is None:
        if status >= 400 and method != "HEAD":
            _check_json({"$ref": "#/components/schemas/ErrorAnswer"}, body, where)
        return
    assert str(status) in told["responses"], f"{where} is not in the contract: {body[:200]!r}"
    answer = _resolved(told["responses"][str(status)])
    for name, header in answer.get("headers", {}).items():
        assert name in headers or not _resolved(header)["required"], f"{where}: no {name}"
    unknown = {name.lower() for name in headers} - _COMMON - {name.lower() for name in answer.get("headers", {})}
    assert not unknown, f"{where}: {unknown}"
    if "content" not in answer or method == "HEAD":
        assert not body, where
        return
    media = headers["Content-Type"]
    known = {each.partition(";")[0]: each for each in answer["content"]}
    assert media.partition(";")[0] in known, f"{where}: {media}"
    told = answer["content"][known[media.partition(";")[0]]]
    if media.startswith("application/json"):
        _check_json(told["schema"], body, where)
    if "x-itemSchema" in told:
        assert body.endswith(b"\n"), f"{where}: a line is cut off"
        for line in body.splitlines():
            _check_json(told["x-itemSchema"], line, where)
