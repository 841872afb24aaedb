"""What parameters may be, whichever call takes them; and what each call says of one it does not know."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from index_sidecar.archive.errors import InvalidInput
from index_sidecar.http.call import Call
from index_sidecar.http.parameters import DIVERSITY, K_RECOMMENDED, MIN_SCORE, RANK, SEED, TARGET, TYPE, K, Parameter
from index_sidecar.http.query import Query
from index_sidecar.http.routes import CALLS

from ..support.sidecar import Sidecar


@pytest.mark.parametrize(("value", "k"), [("1", 1), ("007", 7), ("1000", 1000)])
def test_k(value: str, k: int) -> None:
    assert K.read(value) == k
    assert Query([])[K] == 10


@pytest.mark.parametrize("value", ["0", "1001", "-1", "abc", "", "1.0", "٣", "²", "1_0", " 1", "9" * 5000])
def test_k_out_of_bounds(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        K.read(value)
    assert (caught.value.code, str(caught.value)) == ("invalid_k", "k must be a whole number from 1 to 1000")


def test_types_and_targets() -> None:
    assert [TYPE.read(each) for each in ("text", "image")] == ["text", "image"]
    assert [TARGET.read(each) for each in ("", "any", "text", "image", "each")] == [
        *("any", "any", "text", "image", "each")
    ]
    assert Query([])[TARGET] == "any"
    for wrong in ("", "Text", "video"):
        with pytest.raises(InvalidInput) as caught:
            TYPE.read(wrong)
        assert caught.value.code == "invalid_type"
    with pytest.raises(InvalidInput) as caught:
        TARGET.read("all")
    assert caught.value.code == "invalid_target"


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (MIN_SCORE, "0,25"),
        (MIN_SCORE, "+0.2"),
        (MIN_SCORE, "2.5e-1"),
        (MIN_SCORE, "nan"),
        (MIN_SCORE, "-1.1"),
        (MIN_SCORE, "٠.٥"),
        (DIVERSITY, "-0.1"),
        (SEED, "1000000000"),
        (K_RECOMMENDED, "101"),
        (RANK, "cosine"),
        (RANK, ""),
    ],
)
def test_a_value_out_of_order_says_what_would_be_in_order(parameter: Parameter[Any], value: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^{parameter.name} must be ") as caught:
        parameter.read(value)
    assert caught.value.code == f"invalid_{parameter.name}"


def test_every_default_is_within_its_own_bounds() -> None:
    for parameter in {parameter for call in CALLS for parameter in call.takes}:
        assert parameter.help
        if parameter.default is not None:
            assert parameter.read(str(parameter.default)) == parameter.default
            assert parameter.schema()["default"] == parameter.default


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
async def test_each_call_takes_what_its_table_says_and_nothing_else(sidecar: Sidecar, call: Call) -> None:
    path = call.path.format(id="x", user="x", file="main.js")
    reply = await sidecar.call(call.method, path + "?nonsense=1", b"text")
    assert (call.lenient and "nonsense" not in str(reply)) or reply.error == (400, "unknown_parameter")
    for name in (parameter.name for parameter in call.takes):
        reply = await sidecar.call(call.method, f"{path}?{name}=%FF", b"text")
        if f"{{{name}}}" in call.path:
            assert reply.error == (400, "repeated_parameter")
        else:
            assert reply.error == (400, f"invalid_{name}")
            assert "UTF-8" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/retrieve?type=text&K=5", "there is no parameter 'K' here: did you mean k?"),
        ("/retrieve?type=text&tipe=text", "there is no parameter 'tipe' here: did you mean type?"),
        ("/recommend?usr=ann", "there is no parameter 'usr' here: did you mean user?"),
        (
            "/retrieve?type=text&skip=10",
            "there is no parameter 'skip' here: this call takes type, k, user, ",
        ),
        ("/retrieve?type=text&%0A%22%FF=", "there is no parameter '\\n\"\\ufffd' here: "),
    ],
)
async def test_an_unknown_parameter_is_named_with_the_nearest_known_one(
    sidecar: Sidecar, path: str, message: str
) -> None:
    reply = await sidecar.call("POST", path, b"text")
    assert reply.error == (400, "unknown_parameter")
    assert reply.json["error"]["message"].startswith(message)


async def test_a_parameter_given_twice_is_named(sidecar: Sidecar) -> None:
    for query in ("type=text&type=text", "type=text&k=1&k=2", "type=text&%6B=1&k=1"):
        reply = await sidecar.call("POST", f"/retrieve?{query}", b"text")
        assert reply.error == (400, "repeated_parameter")
        assert reply.json["error"]["message"] == f"{'type' if 'k=' not in query else 'k'} is given twice"


async def test_existing_clients_may_send_what_they_always_did(sidecar: Sidecar) -> None:
    path = "/mv_retrieval/v0.1/add_content?id=a&type=text&project=x&id=b&%FF=%FF"
    assert (await sidecar.call("POST", path, b"text")).json["id"] == "a"
    path = "/mv_retrieval/v0.1/retrieve_contents?type=text&target=all&k=1&offset=7"
    assert (await sidecar.call("POST", path, b"text")).json["text"]["contents"] == ["a"]


async def test_an_id_as_a_parameter_does_what_it_does_in_the_path(sidecar: Sidecar) -> None:
    for content_id in ("a/b", "a//b", "preview", "similar"):
        await sidecar.add(content_id, content_id.encode(), user=f"u/{content_id}")
        quoted = content_id.replace("/", "%2F")
        one = await sidecar.call("GET", f"/contents?id={content_id}")
        assert (one.status, one.json["id"]) == (200, content_id)
        assert one.json == (await sidecar.call("GET", f"/contents/{quoted}")).json
        for what in ("preview", "similar"):
            path, parameter = f"/contents/{quoted}/{what}", f"/contents/{what}?id={content_id}"
            async with (
                sidecar.client.get(parameter) as by_parameter,
                sidecar.client.session.get(URL(sidecar.url + path, encoded=True)) as by_path,
            ):
                assert by_parameter.status == by_path.status == 200
                if what == "preview":
                    assert await by_parameter.read() == await by_path.read() == content_id.encode()
        assert (await sidecar.call("DELETE", f"/contents?id={content_id}")).status == 204
        assert (await sidecar.call("GET", f"/contents?id={content_id}")).error == (404, "not_found")
        await sidecar.add(content_id, b"again", user=f"u/{content_id}")
        assert (await sidecar.call("DELETE", f"/users/contents?user=u/{content_id}")).json == {"deleted": 1}
    assert (await sidecar.call("GET", "/contents?id=a&limit=5")).error == (400, "unknown_parameter")
    assert (await sidecar.call("DELETE", "/contents")).error == (400, "invalid_id")
    assert (await sidecar.call("DELETE", "/users/contents")).error == (400, "invalid_user")
