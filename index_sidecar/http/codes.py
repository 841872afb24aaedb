"""Every code that an error can have. The table is codes.toml, the one place that a code's status and meaning stand."""

from __future__ import annotations

import tomllib
from enum import Enum
from importlib import resources

import msgspec

from ..archive.errors import ContentError

_INVALID = "invalid_"


class Meets(Enum):
    """What a call meets on its way to an answer, and errors come from."""

    HTTP = "http"  # every call does
    NAMES = "names"  # its Host has to be one of ours
    STRICT = "strict"  # it takes no parameter that it does not know
    PATH = "path"  # a part of its path is the caller's
    KEY = "key"  # it needs one
    CHANGES = "changes"  # it needs one that may change things
    UNSAFE = "unsafe"  # its method is one that browsers are kept from sending for foreign pages
    SENT = "sent"  # it has a body
    BODY = "body"  # which holds contents
    PARTS = "parts"  # it asks by several parts
    MANY = "many"  # its body holds many contents
    MODEL = "model"
    INDEX = "index"
    STORE = "store"
    WRITE = "write"
    NEW = "new"  # it may ask for an id that is free
    ID = "id"  # it names a content
    PREVIEW = "preview"
    ORIGINAL = "original"
    NO_CALL = "no_call"  # there is none at this path, or not with this method


class Code(msgspec.Struct, frozen=True):
    """What a code stands for; a call gives it when it meets all of `where`."""

    status: int
    means: str
    do: str
    where: tuple[Meets, ...] = ()


CODES = msgspec.convert(tomllib.loads((resources.files(__package__) / "codes.toml").read_text()), dict[str, Code])


def invalid(name: str) -> tuple[str, Code]:
    """The code for a parameter that is missing or not in order, which bears its name."""
    means = f"The parameter `{name}` is missing, not UTF-8, or not what the call takes; the message says what would be."
    return _INVALID + name, Code(400, means, "Correct it.")


def code_of(failure: ContentError) -> tuple[str, int]:
    """What a failure is called outside, and its status.

    A handler of another release may refuse with a code that is not in the table: then it is called by its kind.
    """
    word = failure.code
    if word not in CODES and word.startswith(_INVALID):
        return word, invalid(word.removeprefix(_INVALID))[1].status
    if word not in CODES:
        kinds = (kind for kind in type(failure).__mro__ if issubclass(kind, ContentError))
        word = next(kind.code for kind in kinds if kind.code in CODES)
    return word, CODES[word].status
