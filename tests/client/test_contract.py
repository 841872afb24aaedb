"""The client is what the contract says: a call, parameter or field that one has and the other lacks fails here."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import clip_archive
from clip_archive import Archive, ArchiveError, AsyncArchive, answers, calls, errors, lines, questions
from clip_archive.version import VERSION
from index_sidecar import __version__
from index_sidecar.http.codes import CODES
from index_sidecar.http.routes import CALLS

from ..support.contract import CONTRACT
from ..support.sidecar import ROOT

CLIENT = ROOT / "clip_archive"
# What is called by its parameters alone, here and there; a part of a question is a class of its own.
OPERATIONS = {
    operation["operationId"].removesuffix("_by_parameter"): (method.upper(), path, operation)
    for path, methods in CONTRACT["paths"].items()
    for method, operation in methods.items()
    if "{" not in path
    and "MediaVerse" not in operation["tags"]
    and not path.startswith(("/docs", "/page"))
    and path not in ("/", "/metrics")  # a page, and what Prometheus reads
}
OPERATIONS["get_content"] = OPERATIONS["get_contents"]  # with an id it is that
DESCRIBED = (calls.__name__, questions.__name__)
STREAMED = {"add_contents", "export"}
BESIDE = {"content", "only_new", "query"}  # a body, a header


def _described() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, each in (vars(calls) | vars(questions)).items():
        if inspect.isfunction(each) and each.__module__ in DESCRIBED and not name.startswith("_"):
            yield name, each


DESCRIPTIONS = dict(_described())


def test_every_call_of_the_contract_is_a_method_and_no_other_is() -> None:
    ours = {name.removesuffix("_each") for name, _ in _described()} - {"add_content_by_form"}
    assert ours | STREAMED == set(OPERATIONS)
    for name in ours | STREAMED:
        assert callable(getattr(Archive, name)), name
        assert inspect.getdoc(getattr(AsyncArchive, name)) == inspect.getdoc(getattr(Archive, name)), name


@pytest.mark.parametrize("name", [name for name, _ in _described() if name != "add_content_by_form"])
def test_its_parameters_are_those_of_the_contract(name: str) -> None:
    method, path, operation = OPERATIONS[name.removesuffix("_each")]
    parameters = set(inspect.signature(DESCRIPTIONS[name]).parameters) - BESIDE
    named = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    if name.startswith("search"):
        named = set(CONTRACT["components"]["schemas"]["SearchBody"]["properties"]) - {"query"}
    if name == "get_contents":
        named -= {"id"}  # which makes it get_content
    if name == "get_content":
        named &= {"id"}
    if name == "patch_content":
        parameters -= {"patch"}
    if name.endswith("_each"):
        named -= {"target"}
    assert parameters == named
    arguments: list[Any] = [[clip_archive.Part(text="a")]] if name.startswith("search") else []
    for each in list(inspect.signature(DESCRIPTIONS[name]).parameters.values())[len(arguments) :]:
        arguments += [{} if each.name == "patch" else "a"] if each.default is inspect.Parameter.empty else []
    made = DESCRIPTIONS[name](*arguments)
    assert (made.method, made.path) == (method, path)


def _plain(schema: Any) -> Any:
    """What a schema says of its values: without words for people, defaults, and what only narrows."""
    if isinstance(schema, list):
        return sorted((_plain(each) for each in schema), key=repr)
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema and all(isinstance(each, str) for each in schema["enum"]):
        return {"type": "string"}
    left_out = ("description", "default", "title", "minimum", "maximum", "examples")
    kept = {key: _plain(each) for key, each in schema.items() if key not in left_out}
    if "anyOf" in kept:  # what may be left out may be null here, and is not there
        kept["anyOf"] = [{"type": "string"} if "enum" in each else each for each in kept["anyOf"]]
    return kept


def _types() -> dict[str, type[msgspec.Struct]]:
    found = {name: each for module in (answers, lines) for name, each in vars(module).items() if inspect.isclass(each)}
    return {
        name: each for name, each in found.items() if issubclass(each, msgspec.Struct) and each is not msgspec.Struct
    }


def _schemas(types: list[type[msgspec.Struct]]) -> dict[str, Any]:
    return msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")[1]


OURS = _schemas(list(_types().values()))
THEIRS = CONTRACT["components"]["schemas"]


def test_every_type_of_an_answer_is_here_and_no_other_is() -> None:
    sent = {"SearchBody", "QueryPart"}
    historical = {"RecommendByHistoryAnswer", "ColumnsOfEach"}
    assert set(OURS) == set(THEIRS) - sent - historical


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_fields_are_those_of_the_contract(name: str) -> None:
    ours, theirs = OURS[name], THEIRS[name]
    assert ours["properties"].keys() == theirs["properties"].keys()
    assert ours.get("required", []) == theirs.get("required", [])
    for field, schema in theirs["properties"].items():
        here = _plain(ours["properties"][field])
        if field not in theirs.get("required", []) and "anyOf" in here:
            here = next(each for each in here["anyOf"] if each != {"type": "null"}) if "anyOf" not in schema else here
        assert here == _plain(schema), field


def test_every_code_has_a_kind() -> None:
    for word, code in CODES.items():
        made = errors.error_of(code.status, word, "message", "id")
        assert type(made) is not ArchiveError
        assert made.retryable <= (code.status in (429, 503))


def test_a_line_has_the_kind_that_an_answer_has() -> None:
    (many,) = [call for call in CALLS if call.operation == "add_contents"]
    for word, code in many.codes().items():
        line = errors.error_of_line(word, "message", "id")
        whole = errors.error_of(code.status, word, "message", "id")
        head = code.status in (401, 404, 405, 421, 431) or "foreign" in word  # what no part of a form meets
        assert head or (type(line), line.retryable) == (type(whole), whole.retryable), word


def test_versions_are_one() -> None:
    assert __version__ == VERSION


@pytest.mark.parametrize("path", sorted(CLIENT.rglob("*.py")), ids=lambda path: str(path.relative_to(CLIENT)))
def test_it_imports_nothing_of_the_server(path: Path) -> None:
    tops = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            tops.add((node.module or "").split(".")[0])
    assert not tops & {"index_sidecar", "handler", "deploy", "bench", "tests", "aiohttp", "faiss", "numpy"}
