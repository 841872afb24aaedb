"""The one table of parameters: what each is called, what it may be, what it is when not said, and what it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import Meta

from ..archive.content import (
    CONTENT_TYPES,
    MAX_ID_LENGTH,
    MAX_K,
    RANKS,
    TARGETS,
    ContentType,
    Rank,
    Target,
    check_id,
)
from ..archive.errors import InvalidInput
from ..archive.search import DEPTH, ORDERS, Order
from .json_kinds import FilterKind, MetadataKind

MOST_RECOMMENDED = 100
LISTED: tuple[Literal["oldest", "newest"], ...] = ("oldest", "newest")
MOST_A_PAGE = 1000
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"-?(\d{1,3}(\.\d{0,17})?|\.\d{1,17})", re.ASCII)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Kind(Protocol[T_co]):
    """What values a parameter may have."""

    def read(self, name: str, value: str) -> T_co:
        """The value in its own type. Raises InvalidInput, which says what `name` must be."""

    def schema(self) -> dict[str, Any]:
        """The same for machines, in JSON Schema."""


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    minimum: int
    maximum: int

    def read(self, name: str, value: str) -> int:
        """Digits only."""
        if not (_WHOLE.fullmatch(value) and self.minimum <= int(value) <= self.maximum):
            raise _wrong(name, f"must be a whole number from {self.minimum} to {self.maximum}")
        return int(value)

    def schema(self) -> dict[str, Any]:
        """As Kind says."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Decimal:
    """A number within bounds, in decimal notation with a point."""

    minimum: int
    maximum: int

    def read(self, name: str, value: str) -> float:
        """At most 17 digits after the point; no exponent, no sign but a minus."""
        if not (_DECIMAL.fullmatch(value) and self.minimum <= float(value) <= self.maximum):
            raise _wrong(name, f"must be a number from {self.minimum} to {self.maximum}")
        return float(value)

    def schema(self) -> dict[str, Any]:
        """As Kind says."""
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One of some words; `empty` is what an empty value stands for, where it stands for something."""

    choices: tuple[T, ...]
    empty: T | None = None

    def read(self, name: str, value: str) -> T:
        """The word, spelt exactly so."""
        for choice in self.choices:
            if value == choice:
                return choice
        if self.empty is None or value:
            raise _wrong(name, f"must be one of {', '.join(str(choice) for choice in self.choices)}")
        return self.empty

    def schema(self) -> dict[str, Any]:
        """As Kind says."""
        return {"type": "string", "enum": [*self.choices, *([] if self.empty is None else [""])]}


@dataclass(frozen=True)
class Name:
    """An id or a user, as the archive's rule has it."""

    def read(self, name: str, value: str) -> str:
        """The name as it is."""
        return check_id(value, name)

    def schema(self) -> dict[str, Any]:
        """As Kind says; which characters are refused, no schema can say for all its readers."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}


@dataclass(frozen=True)
class Cursor:
    """What an answer gave to ask on with; whoever made it checks it."""

    def read(self, name: str, value: str) -> str:
        """The cursor as it is."""
        return value

    def schema(self) -> dict[str, Any]:
        """As Kind says."""
        return {"type": "string"}


@dataclass(frozen=True)
class Parameter(Generic[T]):
    """One parameter of a call, in its query string or, where the path names it, in its path."""

    name: str
    help: str
    kind: Kind[T]
    default: T | None = None
    required: bool = False
    most_bytes: int = 1 << 12  # as the field of a form

    def read(self, value: str) -> T:
        """The value in its own type. Raises InvalidInput with the code invalid_NAME."""
        return self.kind.read(self.name, value)

    @property
    def unsaid(self) -> T:
        """What it is when not said, where it is something."""
        assert self.default is not None
        return self.default

    def schema(self) -> Mapping[str, Any]:
        """What it may be and what it is when not said, in JSON Schema."""
        return self.kind.schema() | ({} if self.default is None else {"default": self.default})

    def in_json(self) -> Meta:
        """The same for a member of a JSON object that has its name."""
        schema = self.kind.schema()
        bounds = {"ge": "minimum", "le": "maximum", "min_length": "minLength", "max_length": "maxLength"}
        return Meta(description=self.help, **{bound: schema.get(name) for bound, name in bounds.items()})

    def missing(self) -> InvalidInput:
        """The error where it has to be there and is not."""
        return _wrong(self.name, f"is missing: it says {self.help}")


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name} {what}", f"invalid_{name}")


_TYPES: Choice[ContentType] = Choice(CONTENT_TYPES)
_TARGETS: Choice[Target] = Choice(TARGETS, empty="any")
_RANKS: Choice[Rank] = Choice(RANKS)
_ORDERS: Choice[Order] = Choice(ORDERS)

ID = Parameter("id", "the caller's own name of the content", Name(), required=True)
TYPE = Parameter("type", "what the body is", _TYPES, required=True)
OWNER = Parameter("user", "who added the content", Name())
NEAR = Parameter("near", "the cosine from which others of the type are named as near duplicates", Decimal(0, 1))

K = Parameter("k", "how many contents to answer with", Whole(1, MAX_K), 10)
TARGET = Parameter("target", "which types to answer with, in one list or (each) in one a type", _TARGETS, "any")
ASKER = Parameter("user", "whose own contents are left out", Name())
MIN_SCORE = Parameter("min_score", "the lowest score to answer with", Decimal(-1, 1))
MIN_RELEVANCE = Parameter("min_relevance", "the lowest relevance to answer with", Decimal(0, 1))
RANK = Parameter("rank", "what the best are the best by", _RANKS, "score")

OFFSET = Parameter("offset", "how many of the best to pass over: with k, 10,000 at most", Whole(0, DEPTH), 0)
FOLD = Parameter("fold", "whether copies of a better hit go under it", Choice(("true", "false")), "false")
ORDER = Parameter("order", "newest: by age, among what passes min_relevance or min_score", _ORDERS, "best")
FILTER = Parameter(
    "filter", "which contents may be answered with, in JSON (filters.md)", FilterKind(), most_bytes=1 << 15
)
FIELDS = Parameter("fields", "what else is told of each", Choice(("metadata",)))
METADATA = Parameter(
    "metadata", "what is to be known of the content, a flat JSON object", MetadataKind(), most_bytes=1 << 13
)

READER = Parameter("user", "whose contents the recommendations follow from", Name(), required=True)
K_RECOMMENDED = replace(K, kind=Whole(1, MOST_RECOMMENDED))
DIVERSITY = Parameter("diversity", "how much novelty counts against relevance", Decimal(0, 1), 0.3)
SEED = Parameter("seed", "the same seed gives the same answer", Whole(0, 999_999_999), 0)

OF_USER = Parameter("user", "only what this user added", Name())
OF_TYPE = Parameter("type", "only contents of this type", _TYPES)
LIMIT = Parameter("limit", "how many contents a page has", Whole(1, MOST_A_PAGE), 100)
AFTER = Parameter("after", "the `next` of the page before", Cursor())
LISTED_FIRST = Parameter("order", "which contents come first: those added first or last", Choice(LISTED), "oldest")
ONE_ID = replace(ID, help="only the content with this id, as its own path answers", required=False)
VECTORS = Parameter("vectors", "whether each comes with its vector", Choice(("true", "false")), "false")
PREVIEWS = Parameter("previews", "whether each comes with its preview", Choice(("true", "false")), "false")
ORIGINALS = Parameter("originals", "whether each text comes with its bytes", Choice(("true", "false")), "false")

ERASED_USER = Parameter("user", "whose contents are erased", Name(), required=True)

# By call, as the contract tells them.
TAKEN_BY_ADD = (ID, TYPE, OWNER, NEAR, METADATA)
TAKEN_BY_OLD_RETRIEVE = (TYPE, K, ASKER, MIN_SCORE, MIN_RELEVANCE, RANK)
_FOUND = (OFFSET, FOLD, ORDER, FILTER, FIELDS)
TAKEN_BY_RETRIEVE = (*TAKEN_BY_OLD_RETRIEVE, TARGET, *_FOUND)
TAKEN_BY_SIMILAR = (ID, K, ASKER, TARGET, MIN_SCORE, MIN_RELEVANCE, RANK, *_FOUND)
TAKEN_BY_OLD_RECOMMEND = (READER, K_RECOMMENDED, DIVERSITY, SEED)
TAKEN_BY_RECOMMEND = (*TAKEN_BY_OLD_RECOMMEND, TARGET, FILTER, FIELDS)
TAKEN_BY_LIST = (OF_USER, OF_TYPE, LIMIT, AFTER, ONE_ID, FILTER, LISTED_FIRST)
TAKEN_BY_EXPORT = (OF_USER, OF_TYPE, FILTER, AFTER, VECTORS, PREVIEWS, ORIGINALS)
