"""The parameters of a request, from its query string, its path and its form: strict, so that no mistake is missed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ..archive.errors import InvalidInput
from .parameters import Parameter, T

_SHOWN_CHARACTERS = 64


class Query:
    """The values of those parameters of a call that were given, read.

    A `lenient` call passes over parameters that it does not know, and takes the first of several values.
    """

    def __init__(self, takes: Sequence[Parameter[Any]], lenient: bool = False) -> None:
        self.lenient = lenient
        self._known = {parameter.name: parameter for parameter in takes}
        self._values: dict[str, Any] = {}

    def known(self, name: str | None) -> Parameter[Any] | None:
        """The parameter of this name, where the call takes one."""
        return self._known.get(name or "")

    def add(self, name: str, raw: bytes) -> None:
        """Take a value. Raises InvalidInput for one that is unknown, given twice, not UTF-8 or not in order."""
        if name not in self._known:
            if not self.lenient:
                raise _unknown(name, self._known)
        elif name not in self._values:
            self._values[name] = self._known[name].read(_decoded(name, raw))
        elif not self.lenient:
            raise InvalidInput(f"{name} is given twice", "repeated_parameter")

    def check_complete(self) -> None:
        """Raises InvalidInput where a parameter has to be there and is not."""
        for parameter in self._known.values():
            if parameter.required and parameter not in self:
                raise parameter.missing()

    def __getitem__(self, parameter: Parameter[T]) -> T:
        """The value, or what it is when not said. Raises InvalidInput where it has to be there and is not."""
        value = self.get(parameter)
        if value is None:
            value = parameter.default
        if value is None:
            raise parameter.missing()
        return value

    def get(self, parameter: Parameter[T]) -> T | None:
        """The value, where one is given."""
        value: T | None = self._values.get(parameter.name)
        return value

    def __contains__(self, parameter: Parameter[Any]) -> bool:
        return parameter.name in self._values

    def __len__(self) -> int:
        return len(self._values)


def read_query(request: web.Request, template: str, takes: Sequence[Parameter[Any]], lenient: bool) -> Query:
    """What a request to a call gives of the parameters it `takes`; `template` is the call's path. Raises InvalidInput.

    What aiohttp decodes has other characters in the place of what is no UTF-8; then two ids are one.
    """
    query = Query(takes, lenient)
    for name, raw in _path_values(template, request.rel_url.raw_path) + pairs(request.rel_url.raw_query_string):
        query.add(name, raw)
    return query


def pairs(query: str) -> list[tuple[str, bytes]]:
    """(name, value as bytes) of each parameter in a query string."""
    pieces = (piece.replace("+", " ").partition("=") for piece in query.split("&") if piece)
    return [(_bytes(name).decode("utf-8", "replace"), _bytes(value)) for name, _, value in pieces]


def _path_values(template: str, path: str) -> list[tuple[str, bytes]]:
    """(name, value as bytes) of each {name} of a template, from a path that matches it."""
    places = zip(template.split("/"), path.split("/"), strict=True)
    return [(place[1:-1], _bytes(value)) for place, value in places if place.startswith("{")]


def _bytes(quoted: str) -> bytes:
    """What percent-encoding stands for. What is no percent-encoding stands for itself."""
    return unquote_to_bytes(quoted.encode("utf-8", "surrogateescape"))


def _decoded(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} must be UTF-8, percent-encoded", f"invalid_{name}") from None


def _unknown(name: str, known: Iterable[str]) -> InvalidInput:
    near = difflib.get_close_matches(name.lower()[:_SHOWN_CHARACTERS], known, 1)
    hint = f"did you mean {near[0]}?" if near else f"this call takes {', '.join(known) or 'no parameters'}"
    return InvalidInput(f"there is no parameter {name[:_SHOWN_CHARACTERS]!a} here: {hint}", "unknown_parameter")
