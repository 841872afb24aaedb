"""Whom limits count: the address a request really comes from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from index_sidecar.http.peers import Peers

TRUSTED = [ip_network("10.8.0.0/16"), ip_network("10.0.0.1"), ip_network("fd00::/8")]


def peer(remote: str, *forwarded: str, trusted: object = TRUSTED) -> str:
    headers = CIMultiDict([("X-Forwarded-For", line) for line in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote)
    return Peers(trusted).of(request)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("10.8.0.3", ["6.6.6.6, 198.51.100.7, 10.0.0.1"], "198.51.100.7"),
        ("10.8.0.3", ["6.6.6.6", "198.51.100.7, 10.0.0.1"], "198.51.100.7"),
        ("203.0.113.9", ["6.6.6.6"], "203.0.113.9"),  # nobody trusts who says so
        ("10.8.0.3", ["10.8.0.9, 10.0.0.1"], "10.8.0.9"),  # all are trusted: a browser on the proxy's own host
        ("10.8.0.3", ["6.6.6.6, nonsense, 10.0.0.1"], "10.0.0.1"),
        ("10.8.0.3", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.8.0.3", ["[2001:db8:1:2:3::4]:443"], "2001:db8:1:2::/64"),
        ("::ffff:10.8.0.3", ["198.51.100.7"], "198.51.100.7"),
        ("fd00::1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
    ],
)
def test_the_address_it_comes_from(remote: str, forwarded: list[str], expected: str) -> None:
    assert peer(remote, *forwarded) == expected


def test_a_forgotten_proxy_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    peers = Peers([])
    for _ in range(2):
        request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "6.6.6.6"}).clone(remote="10.8.0.3")
        assert peers.of(request) == "10.8.0.3"
    assert ["TRUSTED_PROXIES" in record.message for record in caplog.records] == [True]
