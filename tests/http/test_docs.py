"""docs/http.md and docs/errors.md name every call, parameter and error as the code has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from index_sidecar.archive import errors
from index_sidecar.http import errors_page
from index_sidecar.http.codes import CODES
from index_sidecar.http.parameters import Parameter
from index_sidecar.http.routes import CALLS

from ..support.sidecar import ROOT

SOURCES = [*(ROOT / "index_sidecar").rglob("*.py"), *(ROOT / "handler").glob("*.py")]
PAGE = (ROOT / "docs" / "http.md").read_text()


def _may_be(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each)
    if schema["type"] in ("integer", "number"):
        kind = {"integer": "whole number", "number": "number"}[schema["type"]]
        return f"{kind}, {schema['minimum']} to {schema['maximum']}"
    return f"{schema['minLength']} to {schema['maxLength']} characters" if "maxLength" in schema else "text"


def _row(parameter: Parameter[Any]) -> str:
    calls = [call.path for call in CALLS if parameter in call.takes and not call.lenient]
    names = ", ".join(f"`{path}`" for path in dict.fromkeys(calls))
    schema = dict(parameter.schema())
    unsaid = f"`{schema['default']}`" if "default" in schema else "an error" if parameter.required else ""
    return f"| `{parameter.name}` | {names} | {_may_be(schema)} | {unsaid} | {parameter.help} |"


def test_the_table_of_parameters_is_the_one_in_the_code() -> None:
    parameters = dict.fromkeys(parameter for call in CALLS for parameter in call.takes)
    rows = "\n".join(_row(parameter) for parameter in parameters)
    assert rows in PAGE, f"docs/http.md should say:\n{rows}"


def test_every_call_is_named() -> None:
    calls = PAGE.split("## Calls")[1].split("###")[0]
    for call in CALLS:
        name = "..." + call.path.removeprefix("/mv_retrieval/v0.1") if call.lenient else f"{call.method} {call.path}"
        assert name in calls or f"{call.method} {call.path}" in calls, call


def test_the_page_of_errors_is_the_one_the_table_gives() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == errors_page.page()


def test_every_code_is_in_the_table_and_every_one_in_it_is_given() -> None:
    kinds = {each.code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "code")}
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    given = set(_codes_given(nodes))
    assert {"no_preview", "foreign_origin", "empty_text", "head_too_large"} <= given
    only_kinds = {"error", "unauthorized", "unavailable"}
    told_as_unavailable = {"decoding_failed", "still_decoding"}  # what the handler says with 5xx
    others = (given | kinds) - CODES.keys()
    of_names = {code for code in others if code.startswith("invalid_")}  # of a parameter, or a part of one
    assert others - of_names == only_kinds | told_as_unavailable
    words = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert CODES.keys() - words - {"tls_required"} == set()  # which stands amid bytes


def _codes_given(nodes: list[ast.AST]) -> Iterator[str]:
    """The code of every error that is made by its name, as it stands there."""
    places = {"error": 0, "UnreadableInput": 1, "Refusal": 1}
    for node in nodes:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = places.get(name, 1 if hasattr(errors, name) else len(node.args))
            code = node.args[place] if place < len(node.args) else None
            if isinstance(code, ast.Constant) and isinstance(code.value, str) and code.value.isidentifier():
                yield code.value
