"""What an import finds, whatever it finds it in."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ..answers import ContentType

# What no id may hold: the archive's rule. Bytes of a name that is not UTF-8 come as surrogates.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAME = re.compile(r"[^A-Za-z0-9_.-]", re.ASCII)
_BUILT_IN = ("type", "user", "created")
_MOST_NAMES = 32
_MOST_BYTES = 4096


class ImportFailure(Exception):
    """The import cannot begin, or cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Found:
    """One content: `place` tells people where it is, `letter` is the row that `import` can read it from again.

    `mtime_ns` and `size` tell, with what is said of it, whether it is still what it was; `read` gives its bytes.
    """

    id: str
    place: str
    type: ContentType | None  # None: a line of an export
    read: Callable[[], bytes] = field(repr=False)
    user: str | None = None
    metadata: Mapping[str, Any] | None = None
    mtime_ns: int = 0
    size: int = 0
    letter: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def said(self) -> bytes:
        """A digest of all that is said of the content beside its bytes."""
        return hashlib.sha256(msgspec.json.encode([self.id, self.type, self.user, self.metadata])).digest()


@dataclass(frozen=True)
class Bad:
    """What is no content, and should be one: why, and the row to mend."""

    place: str
    reason: str
    letter: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Source(Protocol):
    """Where contents are found. `tally` counts what was passed over; `complete` turns false where not all was seen."""

    tally: Counter[str]
    complete: bool

    def count(self) -> int | None:
        """How many there are, where that is known without reading them."""

    def __iter__(self) -> Iterator[Found | Bad]: ...


def shown(path: str) -> str:
    """A path for people, and for JSON: bytes that are not UTF-8 are written out."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_letter(path: str) -> dict[str, str]:
    """A path in a row that `import` reads again, also where the path is not UTF-8."""
    whole = os.path.abspath(path)
    if shown(whole) == whole:
        return {"path": whole}
    return {"path": shown(whole), "path_base64": base64.b64encode(os.fsencode(whole)).decode()}


def id_of(name: str) -> str:
    r"""A name as an id: what no id may hold is written out, as in caf\xe9.jpg."""
    whole = shown(name)
    return _UNFIT.sub(lambda found: found.group().encode("unicode_escape").decode(), whole)


def composed(names: list[str]) -> dict[str, str]:
    """Each name of one folder -> the same in Unicode's composed form (NFC), unless another one of them is called so.

    A tree that went through a Mac, which takes names apart, has the ids it had before.
    """
    there = set(names)
    forms = {name: unicodedata.normalize("NFC", name) for name in names}
    twice = {form for form, count in Counter(forms.values()).items() if count > 1}
    return {name: name if form in twice or (form != name and form in there) else form for name, form in forms.items()}


def fitting(told: Mapping[str, Any], tally: Counter[str]) -> dict[str, Any] | None:
    """What of it the archive takes as metadata; what is left out, and how often, is counted.

    Nulls and empty values are no values; what is nested becomes JSON; past 4,096 bytes the longest values go.
    """
    kept: dict[str, Any] = {}
    for name, value in told.items():
        if value is None or value == "":
            continue
        name = _NAME.sub("_", str(name))[:64] or "_"
        name = f"{name}_" if name in _BUILT_IN else name
        is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
        if not (isinstance(value, str | bool | int | float) or is_list):
            value = msgspec.json.encode(value).decode()
        kept[name] = value
    shortened = False
    while kept and (len(kept) > _MOST_NAMES or len(msgspec.json.encode(kept)) > _MOST_BYTES - 64):
        del kept[max(kept, key=lambda name: len(msgspec.json.encode(kept[name])))]
        shortened = True
    tally["metadata shortened"] += shortened
    return kept or None
