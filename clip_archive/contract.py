"""Whether client and archive are of versions that fit together, and how it is said when they are not."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from .errors import ArchiveError, InvalidRequest, NotFound, VersionMismatch
from .version import VERSION
from .wire import Call

_CALLS_AND_FIELDS = {"unknown_parameter", "method_not_allowed", "invalid_search"}


class _Info(Struct):
    version: str


class _Document(Struct):
    info: _Info
    paths: dict[str, dict[str, msgspec.Raw]]


class Contract(Struct, frozen=True):
    """What of the archive's /openapi.json a client has to know."""

    version: str
    calls: frozenset[tuple[str, str]]

    @classmethod
    def read(cls, body: bytes) -> Contract:
        """Out of the document. Raises msgspec.MsgspecError."""
        document = msgspec.json.decode(body, type=_Document)
        calls = {(method.upper(), path) for path, methods in document.paths.items() for method in methods}
        return cls(document.info.version, frozenset(calls))

    @property
    def fits(self) -> bool:
        """Versions fit where their first two numbers are the same."""
        return _line(self.version) == _line(VERSION)


def may_be_versions(error: ArchiveError) -> bool:
    """Whether an error can come from an archive of another version than the client's."""
    if isinstance(error, VersionMismatch | NotFound):
        return True
    return isinstance(error, InvalidRequest) and error.code in _CALLS_AND_FIELDS


def explained(error: ArchiveError, call: Call[Any], contract: Contract) -> ArchiveError:
    """The same error; or one that names both versions, where these are why."""
    has_call = (call.method, call.path) in contract.calls
    if isinstance(error, NotFound) and has_call:
        return error
    if contract.fits and has_call:
        return error
    what = "" if has_call else f" It has no call {call.method} {call.path}."
    return VersionMismatch(
        f"{_versions(contract)}{what} {_advice(contract)} It said: {error}",
        status=error.status,
        code=error.code,
        request_id=error.request_id,
    )


def mismatch(contract: Contract) -> VersionMismatch | None:
    """What to say before anything is asked, where the versions do not fit."""
    return None if contract.fits else VersionMismatch(f"{_versions(contract)} {_advice(contract)}")


def _versions(contract: Contract) -> str:
    return f"this client is of version {VERSION}, the archive of version {contract.version}."


def _advice(contract: Contract) -> str:
    newer = "client" if _numbers(contract.version) > _numbers(VERSION) else "archive"
    return f"Update the {newer}, or install clip-archive in version {contract.version} here."


def _line(version: str) -> list[str]:
    return version.split(".")[:2]


def _numbers(version: str) -> list[int]:
    return [int(each) if each.isdecimal() else 0 for each in version.split(".")]
