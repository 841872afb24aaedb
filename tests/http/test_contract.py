"""The contract is valid, complete, and true; `support/contract.py` holds every answer of every other test to it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from index_sidecar.app import create_app
from index_sidecar.http.call import Call
from index_sidecar.http.examples import EXAMPLES, Example
from index_sidecar.http.openapi import document
from index_sidecar.http.routes import CALLS
from index_sidecar.settings import Settings

from ..support.contract import CONTRACT
from ..support.sidecar import ROOT, Sidecar, running

VENDOR = ROOT / "index_sidecar" / "http" / "web" / "vendor"
OPERATIONS = [
    (path, method, operation) for path, methods in CONTRACT["paths"].items() for method, operation in methods.items()
]


def test_it_is_valid() -> None:
    import openapi_spec_validator  # which takes 1.5 s to import

    openapi_spec_validator.OpenAPIV31SpecValidator(CONTRACT).validate()


async def test_it_is_served_to_everybody_with_the_limits_as_they_are_set(settings: Settings) -> None:
    settings = replace(settings, access="keys", max_text_bytes=12345)
    async with running(settings) as sidecar, sidecar.client.session.get(f"{sidecar.url}/openapi.json") as response:
        served = await response.read()
        assert response.content_type == "application/json"
    assert served == document(CALLS, {"text": 12345, "image": settings.max_image_bytes}, needs_key=True)
    assert b"12345 bytes of text" in served


def test_an_open_archive_takes_a_key_and_asks_for_none() -> None:
    opened = msgspec.json.decode(document(CALLS, {}, needs_key=False))
    assert opened["paths"]["/retrieve"]["post"]["security"] == [{"key": ["reader"]}, {}]
    assert CONTRACT["paths"]["/retrieve"]["post"]["security"] == [{"key": ["reader"]}]


def test_every_route_is_in_it_and_it_names_no_other(settings: Settings) -> None:
    app = create_app(settings)
    routes = {(route.method, _template(route)) for route in app.router.routes() if route.method != "HEAD"}
    assert routes == {(method.upper(), path) for path, method, _ in OPERATIONS}


def _template(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


def test_every_operation_has_a_name_of_its_own_and_says_what_may_go_wrong() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for path, method, operation in OPERATIONS:
        assert operation["summary"].endswith("."), path
        assert ("x-role" in operation) == bool(operation["security"]), path
        assert {"401", "429", "500"} <= operation["responses"].keys()
        has_body = method == "patch" or (method == "post" and not path.endswith(("recommend", "d_contents")))
        assert ("requestBody" in operation) == has_body


def test_it_works_below_any_path() -> None:
    assert [each["url"] for each in CONTRACT["servers"]] == ["."]


def test_every_call_of_the_archive_has_an_example() -> None:
    assert {call.operation for call in CALLS if call.takes} <= EXAMPLES.keys()


def _shape(value: Any) -> Any:
    """A JSON value without what differs from one archive to the next."""
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items() if key not in ("version", "time", "created")}
    return [_shape(each) for each in value] if isinstance(value, list) else float if type(value) is float else value


async def _ask(sidecar: Sidecar, call: Call, example: Example) -> tuple[int, Any]:
    path = call.path
    params = {}
    for name, value in example.parameters.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", str(value))
        else:
            params[name] = str(value)
    data = example.body.encode() if example.body else None
    url = sidecar.client.make_url(path)
    headers = {"Content-Type": "application/json"} if call.sends else {}
    async with sidecar.client.session.request(call.method, url, params=params, data=data, headers=headers) as response:
        if response.content_type == "application/json":
            return response.status, await response.json()
        return response.status, await response.text() or None


async def test_the_examples_are_answered_so(sidecar: Sidecar) -> None:
    calls = {call.operation: call for call in CALLS}
    for name, example in EXAMPLES.items():
        if name not in calls:
            continue
        status, answer = await _ask(sidecar, calls[name], example)
        expected = msgspec.to_builtins(example.answer)
        assert _shape(answer) == _shape(expected), name
        (told,) = [gives for gives in calls[name].gives if gives.status == status]
        assert isinstance(example.answer, told.json) or bool(told.media or told.lines) == isinstance(
            example.answer, str
        ), name


def test_what_is_vendored_is_as_its_package_had_it() -> None:
    sums = [line.split("  ") for line in (VENDOR / "SHA256SUMS").read_text().splitlines()]
    assert {"swagger-ui-bundle.js", "swagger-ui.css", "LICENSE"} <= {name for _, name in sums}
    for digest, name in sums:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert "Apache License" in (VENDOR / "LICENSE").read_text()


async def test_a_file_of_the_page_is_sent_once(sidecar: Sidecar) -> None:
    session = sidecar.client.session
    for path in ("/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        async with session.get(sidecar.url + path) as response:
            assert response.status == 200
            assert "'unsafe" not in response.headers["Content-Security-Policy"]
            etag = response.headers["ETag"]
        async with session.get(sidecar.url + path, headers={"If-None-Match": etag}) as response:
            assert (response.status, await response.read()) == (304, b"")
