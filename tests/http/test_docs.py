"""docs/http.md names every call, parameter and error as the code has them."""

from __future__ import annotations

import re
from typing import Any

from index_sidecar.archive import errors
from index_sidecar.http.parameters import Parameter
from index_sidecar.http.routes import CALLS

from ..support.sidecar import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text()


def _may_be(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
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


def test_every_code_of_the_archive_is_named() -> None:
    codes = {each.code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "code")}
    named = set(re.findall(r"`(\w+)`", PAGE.split("## Errors")[1]))
    assert codes - named == {"error", "invalid_input", "unsupported", "unavailable"}  # these only have kinds
