"""Decoding in processes of their own: bounded in memory and time, and nobody suffers from another's file."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import clip_decode_pool
import numpy as np
import pytest
from clip_decode_pool import DecodePool
from clip_inputs import Pixels, Refusal
from clip_limits import Budget, Limits
from clip_pictures import decode_image
from clip_runtime import ConfigError
from PIL import Image

from ..support.pictures import file, scene

SCENE = file(scene(), "JPEG")


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(Limits(), 2)
    yield pool
    pool.close()


def _until_read(pool: DecodePool, files: list[bytes]) -> list[Pixels | Refusal]:
    """As the sidecar does: ask again for what takes long."""
    answers: dict[int, Pixels | Refusal] = {}
    while len(answers) < len(files):
        missing = [place for place in range(len(files)) if place not in answers]
        for place, answer in zip(missing, pool.read([files[place] for place in missing]), strict=True):
            if not (isinstance(answer, Refusal) and answer.code == "still_decoding"):
                answers[place] = answer
    return [answers[place] for place in range(len(files))]


def _large(mode: str = "RGB", side: int = 9000) -> bytes:
    return file(Image.new(mode, (side, side), 128), "PNG", compress_level=1)


def _codes(answers: list[Pixels | Refusal]) -> list[str]:
    return [answer.code if isinstance(answer, Refusal) else "pixels" for answer in answers]


def test_a_batch_is_decoded_in_order_and_each_row_for_itself(pool: DecodePool) -> None:
    files = [SCENE, b"no picture", file(scene(), "PNG"), b"", SCENE[:500], SCENE]
    answers = _until_read(pool, files)
    assert _codes(answers) == ["pixels", "unsupported_image", "pixels", "empty_image", "unreadable_image", "pixels"]
    assert isinstance(answers[0], Pixels)
    assert np.array_equal(answers[0].array, Pixels.of(decode_image(SCENE, Limits())).array)


def test_nothing_to_read_is_read(pool: DecodePool) -> None:
    assert pool.read([]) == []


def test_what_can_never_fit_is_refused_and_the_next_picture_read() -> None:
    pool = DecodePool(Limits(max_decode_bytes=200 << 20), 1)
    try:
        (refusal,) = _until_read(pool, [_large()])
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (413, "too_costly")
        assert "MB allowed" in refusal.message
        assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
    finally:
        pool.close()


def test_a_picture_waits_for_memory_that_others_hold() -> None:
    budget, order = Budget(100), []
    with budget.hold(60):

        def later() -> None:
            with budget.hold(50):
                order.append("second")

        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    with pytest.raises(Refusal, match="send it smaller"), budget.hold(101):
        pass
    with budget.hold(100):  # all of it is free again
        pass


def test_a_batch_goes_on_without_a_picture_that_takes_long_and_finds_it_later(pool: DecodePool) -> None:
    large = _large(side=9900)
    started = time.monotonic()
    answers = pool.read([large, SCENE])
    assert time.monotonic() - started < clip_decode_pool._MOST_PATIENCE_S + 1
    assert _codes(answers) in (["still_decoding", "pixels"], ["pixels", "pixels"], ["still_decoding", "still_decoding"])
    first = answers[0]
    if isinstance(first, Refusal):
        assert first.status == 503
    assert _codes(_until_read(pool, [large, SCENE])) == ["pixels", "pixels"]
    assert len(pool._left) <= 1


@pytest.mark.slow
def test_eight_pictures_of_100_megapixels_at_once_stay_within_the_budget_and_hold_no_batch_up(pool: DecodePool) -> None:
    # Two in colour, which are decoded at the same time and take the most memory; grey ones compute less.
    files = [_large(mode, side=10_000) + bytes([number]) for number, mode in enumerate(["RGB"] * 2 + ["L"] * 6)]
    answers: dict[int, str] = {}
    longest_s = 0.0
    while len(answers) < 8:
        missing = [place for place in range(8) if place not in answers]
        started = time.monotonic()
        codes = _codes(pool.read([files[place] for place in missing]))
        longest_s = max(longest_s, time.monotonic() - started)
        answers |= {place: code for place, code in zip(missing, codes, strict=True) if code != "still_decoding"}
    assert set(answers.values()) == {"pixels"}
    assert longest_s < clip_decode_pool._MOST_PATIENCE_S + 1  # the rest is for a machine that is busy with others
    peaks = [_peak_bytes(decoder._process.pid) for decoder in pool._all]
    assert sum(peaks) < Limits().max_decode_bytes + 2 * (100 << 20)  # and what two processes are made of


def _peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_who_asks_again_is_not_waited_for_and_small_pictures_do_not_wait_for_large_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = DecodePool(Limits(), 1)
    try:
        first, second = _large(side=9900), _large(side=9901)
        monkeypatch.setattr(clip_decode_pool, "_PATIENCE_S", 0.05)
        assert _codes(pool.read([first])) == ["still_decoding"]
        for name in ("_PATIENCE_S", "_MOST_PATIENCE_S"):
            monkeypatch.setattr(clip_decode_pool, name, 60)  # long enough for all to be done
        assert _codes(pool.read([first, second, SCENE])) == ["still_decoding", "still_decoding", "pixels"]
        assert len(pool._left) == 1  # of the second one nothing is kept, until there is room for it
        assert _codes(_until_read(pool, [second, first])) == ["pixels", "pixels"]
    finally:
        pool.close()


def test_a_file_that_computes_too_long_is_refused_and_its_process_replaced() -> None:
    pool = DecodePool(Limits(decode_seconds=0.25), 1)
    try:
        (refusal,) = _until_read(pool, [_large(side=9900)])
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == (413, "too_costly")
        assert "0.25 s" in refusal.message
        assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(signal.SIGSEGV, (400, "unreadable_image")), (signal.SIGKILL, (500, "decoding_failed"))],
)
def test_a_process_that_dies_takes_one_picture_along(
    sent: signal.Signals, expected: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    pool = DecodePool(Limits(), 1)
    try:
        assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
        victim = pool._all[0]._process
        os.kill(victim.pid, signal.SIGSTOP)  # so that it dies with a picture in hand, and not before
        killer = threading.Timer(0.1, os.kill, (victim.pid, sent))
        continuer = threading.Timer(0.15, os.kill, (victim.pid, signal.SIGCONT))
        killer.start()
        if sent != signal.SIGKILL:
            continuer.start()
        with caplog.at_level(logging.ERROR):
            (refusal,) = _until_read(pool, [SCENE])
        killer.join()
        assert isinstance(refusal, Refusal)
        assert (refusal.status, refusal.code) == expected
        assert sent.name in caplog.text
        assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
    finally:
        pool.close()


def test_our_own_mistake_is_logged_with_its_type_and_no_fault_of_the_senders(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Every decoder is started with these limits; a side of pixels that is no number fails in our own code.
    pool = DecodePool(Limits(max_pixels="many"), 1)  # type: ignore[arg-type]
    try:
        with caplog.at_level(logging.ERROR):
            (refusal,) = _until_read(pool, [SCENE])
    finally:
        pool.close()
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (500, "decoding_failed")
    assert "TypeError" in caplog.text


def test_the_libraries_complaints_reach_no_log(pool: DecodePool, capfd: pytest.CaptureFixture[str]) -> None:
    whole = file(scene(), "TIFF", compression="tiff_lzw")
    random = np.random.default_rng(5)
    for _ in range(40):
        broken = bytearray(whole)
        for place in random.integers(8, len(whole), 20):
            broken[place] = random.integers(256)
        _until_read(pool, [bytes(broken)])
    assert capfd.readouterr() == ("", "")


def test_the_processes_end_with_their_pool(pool: DecodePool) -> None:
    assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
    processes = [decoder._process for decoder in pool._all]
    pool.close()
    assert all(process.poll() is not None for process in processes)


def test_a_decoder_ends_when_nobody_is_at_the_other_end() -> None:
    pool = DecodePool(Limits(), 1)
    process = pool._all[0]._process
    assert _codes(_until_read(pool, [SCENE])) == ["pixels"]
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdin = io.BytesIO()
    pool.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("formats", ["JPG"]), ("formats", []), ("max_pixels", 0), ("max_decode_bytes", "1G"), ("decode_seconds", True)],
)
def test_a_wrong_setting_is_named(setting: str, value: object) -> None:
    options = {"formats": ["JPEG"], "max_pixels": 10, "max_decode_bytes": 10, "decode_seconds": 1.5}
    assert Limits.from_options(options) == Limits(("JPEG",), 10, 10, 1.5)
    with pytest.raises(ConfigError, match=setting):
        Limits.from_options({**options, setting: value})
