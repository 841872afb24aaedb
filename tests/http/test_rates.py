"""How much a caller may ask for: each limit for itself, at a cost that does not grow with the callers."""

from __future__ import annotations

import time

import pytest

from index_sidecar.archive.errors import TooManyRequests
from index_sidecar.http.rates import Rates, rate


def _rates(requests: str = "", model: str = "") -> Rates:
    return Rates(rate(requests), rate(model), 0)


def test_limits_that_are_alike_are_counted_apart() -> None:
    rates = _rates("3/hour", "3/hour")
    for _ in range(3):
        rates.take("requests", "key a")
        rates.take("model", "key a")
    for name in ("requests", "model"):
        with pytest.raises(TooManyRequests):
            rates.take(name, "key a")
    assert rates.policy == '"requests";q=3;w=3600, "model";q=3;w=3600'
    assert rates.state("key a") == '"requests";r=0;t=3600, "model";r=0;t=3600'


def test_what_is_refused_costs_nothing() -> None:
    rates = _rates(model="9/hour")
    rates.take("model", "a", 2)
    for _ in range(5):
        with pytest.raises(TooManyRequests):
            rates.take("model", "a", 8)
    for _ in range(7):
        rates.take("model", "a")
    with pytest.raises(TooManyRequests):
        rates.take("model", "a")


def test_what_costs_more_than_there_is_takes_all_of_it() -> None:
    rates = _rates(model="5/hour")
    rates.take("model", "a", 128)
    assert rates.state("a").startswith('"model";r=0;')


def test_a_window_ends() -> None:
    rates = _rates("1/second")
    rates.take("requests", "a")
    with pytest.raises(TooManyRequests) as caught:
        rates.take("requests", "a")
    assert caught.value.retry_after_s == 1
    time.sleep(1.01)
    rates.take("requests", "a")


def test_past_ten_thousand_callers_new_ones_share_what_one_may_have() -> None:
    rates = _rates("2/second")
    for number in range(10_000):
        rates.take("requests", f"peer {number}")
    rates.take("requests", "peer 9999")  # a known one has its own
    rates.take("requests", "new")
    rates.take("requests", "newer")
    with pytest.raises(TooManyRequests):
        rates.take("requests", "newest")
    time.sleep(1.01)
    for number in range(3):  # those before have gone
        rates.take("requests", f"later {number}")


def test_a_request_costs_no_more_beside_ten_thousand_callers() -> None:
    def seconds(callers: int) -> float:
        rates = _rates("100000000/hour", "100000000/hour")
        for number in range(callers):
            rates.take("requests", f"peer {number}")
        best = float("inf")
        for _ in range(30):
            began = time.perf_counter()
            for _ in range(100):
                rates.take("requests", "peer 0")
                rates.state("peer 0")
            best = min(best, time.perf_counter() - began)
        return best

    few, many = seconds(10), seconds(9_000)
    assert many < 2 * few, f"{1e4 * few:.1f} us beside 10 callers, {1e4 * many:.1f} us beside 9,000"
