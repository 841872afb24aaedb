"""What `POST /search` is sent: JSON, or a form with the JSON in its field `search` and pictures in others.

What is wrong with the JSON is said with its place, as in `$.query[0].weight`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ..archive.content import MAX_ID_LENGTH, ContentType, Original, Rank, Target, check_id
from ..archive.errors import InvalidInput, Unsupported
from ..archive.filters import Filter, read_filter
from ..archive.questions import MOST_PARTS, Part
from ..archive.search import Order, Search
from .body import Arriving, Bodies, go_on, receive, too_large
from .form import FRAME_BYTES, check_part, copy, form_of, next_part
from .memory import Share
from .parameters import ASKER, FIELDS, FILTER, FOLD, MIN_RELEVANCE, MIN_SCORE, OFFSET, ORDER, RANK, TARGET, K
from .unpacking import encoding_of

FIELD = "search"
_FORM = f"the form holds {FIELD} once and at most {MOST_PARTS} pictures, each under a name of its own"
_MOST_WEIGHT = 1000
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]


class QueryPart(Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a question: a text, a stored content or an uploaded picture, and how much it counts."""

    text: str | UnsetType = UNSET
    id: Annotated[_Name | UnsetType, Meta(description="of a stored content")] = UNSET
    part: Annotated[_Name | UnsetType, Meta(description="the form's field that holds a picture")] = UNSET
    weight: Annotated[float, Meta(ge=-_MOST_WEIGHT, le=_MOST_WEIGHT, description="negative: away from it")] = 1.0


class SearchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A question of several parts, at least one of them with a positive weight."""

    query: Annotated[list[QueryPart], Meta(min_length=1, max_length=MOST_PARTS)]
    k: Annotated[int, K.in_json()] = K.unsaid
    offset: Annotated[int, OFFSET.in_json()] = OFFSET.unsaid
    target: Annotated[Target, TARGET.in_json()] = TARGET.unsaid
    fold: Annotated[bool, FOLD.in_json()] = False
    rank: Annotated[Rank, RANK.in_json()] = RANK.unsaid
    order: Annotated[Order, ORDER.in_json()] = ORDER.unsaid
    min_score: Annotated[float, MIN_SCORE.in_json()] | None = None
    min_relevance: Annotated[float, MIN_RELEVANCE.in_json()] | None = None
    without_user: Annotated[str, ASKER.in_json()] | None = None
    filter: Annotated[Raw, Meta(description=FILTER.help, extra_json_schema={"type": "object"})] | UnsetType = UNSET
    fields: Annotated[Literal["metadata"], FIELDS.in_json()] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    parts: list[Part]
    search: Search


@contextlib.asynccontextmanager
async def read_search(request: web.Request, bodies: Bodies) -> AsyncIterator[Question]:
    """The question of a request. Its memory counts until the block ends.

    Raises InvalidInput or a kind of it, Unsupported, Overloaded.
    """
    is_form = request.content_type == "multipart/form-data"
    if not is_form and request.content_type != "application/json":
        raise Unsupported("send JSON as application/json, or a form with it", "not_a_search")
    shares: list[Share] = []
    try:
        pictures: dict[str, Original] = {}
        if is_form:
            written = await _read_form(request, bodies, pictures, shares)
        else:
            shares.append(bodies.share())
            written = await receive(request, shares[0], _json_limit(bodies))
        yield _question(written, pictures, bodies.limits)
    finally:
        for share in shares:
            share.release()


async def _read_form(request: web.Request, bodies: Bodies, pictures: dict[str, Original], shares: list[Share]) -> bytes:
    encoding_of(request)
    await go_on(request)
    form = form_of(request)
    written: Arriving | None = None
    while True:
        shares.append(bodies.share())
        async with shares[-1]:
            part = await next_part(form)
            if part is None:
                break
            check_part(part)
            if not part.name:
                raise InvalidInput("each part of the form needs a name", "invalid_body")
            if part.name == FIELD and written is None:
                written = Arriving(shares[-1], _json_limit(bodies))
                await copy(part, written.write)
            elif part.name == FIELD or part.name in pictures or len(pictures) == MOST_PARTS:
                raise InvalidInput(_FORM, "invalid_body")
            else:
                arriving = Arriving(shares[-1], bodies.limits["image"])
                await copy(part, arriving.write)
                pictures[part.name] = Original(arriving.buffer.getvalue(), arriving.sha256.digest())
    if written is None:
        raise InvalidInput(f"the form has no field {FIELD} that holds the JSON", "invalid_body")
    return written.buffer.getvalue()


def _json_limit(bodies: Bodies) -> int:
    return MOST_PARTS * bodies.limits["text"] + FRAME_BYTES


def _question(data: bytes, pictures: Mapping[str, Original], limits: Mapping[ContentType, int]) -> Question:
    try:
        body = msgspec.json.decode(data, type=SearchBody)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _wrong(str(error)) from None
    parts = [_part(each, f"$.query[{number}]", pictures, limits) for number, each in enumerate(body.query)]
    if not any(part.weight > 0 for part in parts):
        raise _wrong("at least one weight has to be positive - at `$.query`")
    if unused := pictures.keys() - {each.part for each in body.query}:
        raise _wrong(f"no part names the uploaded field {min(unused)!a} - at `$.query`")
    passing = _filter(body.filter)
    try:
        if body.without_user is not None:
            check_id(body.without_user, "without_user")
        search = Search(
            k=body.k,
            target=body.target,
            without_user=body.without_user,
            min_score=body.min_score,
            min_relevance=body.min_relevance,
            rank=body.rank,
            offset=body.offset,
            fold=body.fold,
            order=body.order,
            filter=passing,
            with_metadata=body.fields is not None,
        )
    except InvalidInput as error:
        raise _wrong(f"{error} - at `$.{error.code.removeprefix('invalid_')}`") from None
    return Question(parts, search)


def _filter(written: Raw | UnsetType) -> Filter | None:
    if isinstance(written, UnsetType) or bytes(written) == b"null":
        return None
    try:
        return read_filter(bytes(written), "$.filter")
    except InvalidInput as error:
        raise _wrong(str(error)) from None


def _part(given: QueryPart, place: str, pictures: Mapping[str, Original], limits: Mapping[ContentType, int]) -> Part:
    if sum(each is not UNSET for each in (given.text, given.id, given.part)) != 1:
        raise _wrong(f"a part has exactly one of `text`, `id` and `part` - at `{place}`")
    if isinstance(given.text, str):
        try:
            data = given.text.encode()
        except UnicodeEncodeError:
            raise _wrong(f"half of a character - at `{place}.text`") from None
        if len(data) > limits["text"]:
            raise too_large(limits["text"])
        return Part(Original(data), "text", given.weight)
    if isinstance(given.id, str):
        try:
            return Part(check_id(given.id), None, given.weight)
        except InvalidInput as error:
            raise _wrong(f"{error} - at `{place}.id`") from None
    assert isinstance(given.part, str)
    if given.part not in pictures:
        raise _wrong(f"no field of the form has this name - at `{place}.part`")
    return Part(pictures[given.part], "image", given.weight)


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(message, "invalid_search")
