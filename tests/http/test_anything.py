"""Whatever is sent: ids come back as they went, and what is out of order is a clear error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from index_sidecar.archive.errors import InvalidInput
from index_sidecar.http.parameters import MIN_SCORE, OWNER, SEED, K, Parameter
from index_sidecar.http.query import Query
from index_sidecar.settings import Settings

from ..support.fake_torchserve import PNG
from ..support.profiles import IS_CAMPAIGN
from ..support.sidecar import Sidecar, running
from ..support.wire import FORM, field, file, form, request, send

REQUESTS = 2000 if IS_CAMPAIGN else 1000
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
IDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters=BIDI), min_size=1, max_size=256
).filter(lambda content_id: content_id not in (".", ".."))


def _every_byte(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@given(content_id=IDS, encode=st.sampled_from([lambda text: quote(text, safe=""), _every_byte]))
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_id_goes_and_comes_back_over_the_wire(
    runner: asyncio.Runner, sidecar: Sidecar, content_id: str, encode: Callable[[str], str]
) -> None:
    async def round_trip() -> None:
        quoted = encode(content_id)
        added = await send(sidecar, request(f"/add_content?type=text&id={quoted}", b"a cat"))
        assert (added.status, added.json["id"]) == (201, content_id)
        for path in (f"/contents/{quoted}", f"/contents?id={quoted}"):
            answer = await send(sidecar, request(path, None, method="GET"))
            assert (answer.status, answer.json["id"]) == (200, content_id)
        (listed,) = (await sidecar.call("GET", "/contents")).json["contents"]
        assert listed | {"original": True} == answer.json
        assert (await send(sidecar, request(f"/contents?id={quoted}", None, method="DELETE"))).status == 204

    runner.run(round_trip())


def _is_name(raw: bytes) -> bool:
    """The rule of ids and users, told in another way."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return False
    categories = {unicodedata.category(character) for character in text}
    fits = 1 <= len(text) <= 256 and text not in (".", "..")
    return fits and not categories & {"Cc", "Cs", "Zl", "Zp"} and not set(text) & set(BIDI)


@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_a_name_is_taken_as_it_is_or_refused(raw: bytes) -> None:
    query = Query([OWNER])
    if _is_name(raw):
        query.add("user", raw)
        assert query[OWNER].encode() == raw
    else:
        with pytest.raises(InvalidInput) as caught:
            query.add("user", raw)
        assert caught.value.code == "invalid_user"


@given(st.text(max_size=20), st.sampled_from([K, SEED, MIN_SCORE]))
def test_a_number_is_within_its_bounds_or_refused(value: str, parameter: Parameter[float]) -> None:
    number = None
    with contextlib.suppress(InvalidInput):
        number = parameter.read(value)
    schema = parameter.schema()
    assert number is None or schema["minimum"] <= number <= schema["maximum"]


@given(st.floats(-1, 1))
def test_a_number_in_decimals_is_read_as_what_it_is(number: float) -> None:
    assert MIN_SCORE.read(f"{number:.17f}") == pytest.approx(number, abs=1e-16)


SOUND = [
    request("/add_content?id=a&type=text&user=ann", b"a cat"),
    request("/add_content?id=b&type=image", PNG + b"pixels", "Content-Type: image/png"),
    request("/add_content?near=0.9", form(field("id", "c"), field("type", "text"), file(b"a dog")), FORM),
    request("/retrieve?type=text&k=3&target=each&min_score=-0.5", b"a cat", "X-Request-ID: abc"),
    request("/retrieve?type=text", None, "Transfer-Encoding: chunked") + b"5\r\na cat\r\n0\r\n\r\n",
    request("/recommend?user=nobody&k=2&seed=7", b""),
    request("/contents?limit=2&type=text", None, method="GET"),
    request("/contents/a%2Fb/similar?k=2", None, method="GET"),
    request("/contents?id=a", None, "Expect: 100-continue", method="DELETE"),
    request("/mv_retrieval/v0.1/retrieve_contents?type=text&x=y", b"a cat", "Content-Encoding: identity"),
]


SIGNS = b"aZ09%=&/?+.,-_;:'\"<>{}~ \t\r\n\x00\x7f\xc3\xff"


def _mutated(data: bytes, numbers: random.Random) -> bytes:
    mutated = bytearray(data)
    for _ in range(numbers.randint(1, 2)):
        at, length = numbers.randrange(len(mutated) + 1), numbers.randint(1, 4)
        elsewhere = numbers.randrange(len(mutated) + 1)
        match numbers.randrange(5):
            case 0:
                mutated[at : at + 1] = bytes(numbers.choices(SIGNS, k=1))
            case 1:
                mutated[at:at] = bytes(numbers.choices(SIGNS, k=length))
            case 2:
                mutated[at : at + length] = mutated[elsewhere : elsewhere + length]
            case 3:
                del mutated[at : at + length]
            case 4:
                mutated[at:at] = mutated[elsewhere : elsewhere + length]
    return bytes(mutated)


async def test_no_request_breaks_anything(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(settings, body_idle_s=1, idle_timeout_s=1, max_inflight_bytes=1 << 20, max_image_bytes=1 << 20)
    numbers, statuses, at_once = random.Random(5), Counter[int](), asyncio.Semaphore(50)

    async def send_anything(sidecar: Sidecar, data: bytes) -> None:
        async with at_once:
            try:
                answer = await send(sidecar, data)
            except TimeoutError:
                pytest.fail(f"neither an answer nor an end for {data!r}")
            except (asyncio.IncompleteReadError, ConnectionError):
                statuses[0] += 1  # closed: it waited for a rest that never came
                return
        statuses[answer.status] += 1
        with contextlib.suppress(json.JSONDecodeError):  # the answer to HEAD
            assert answer.status < 400 or answer.error[0] == answer.status

    async with running(settings) as sidecar:
        mutations = (_mutated(numbers.choice(SOUND), numbers) for _ in range(REQUESTS))
        await asyncio.gather(*(send_anything(sidecar, data) for data in mutations))
        assert {status for status in statuses if status >= 500} <= {503}
        assert set(statuses) >= {200, 201, 400, 404, 408}  # it comes deep enough in
        assert (await sidecar.add("full", PNG.ljust(1 << 20, b"\x00"), "image")).status in (200, 201)
        assert (await sidecar.call("GET", "/health")).json["ready"] is True
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
