"""Downloads: resumed, verified, shared by builds at once; this machine's faults are not called the server's."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from downloads import download, sha256_of
from weights_errors import Unreachable, WeightsError

from ..support.mirror import Mirror, serving
from ..support.sidecar import ROOT


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving(os.urandom(3 << 20)) as mirror:
        yield mirror


def test_a_server_may_tell_no_length(mirror: Mirror, tmp_path: Path) -> None:
    mirror.tells_length = False
    download(mirror.url, tmp_path / "file", mirror.sha256)
    assert sha256_of(tmp_path / "file") == mirror.sha256


def test_what_was_cut_off_without_a_length_is_refused_with_the_likely_reason(mirror: Mirror, tmp_path: Path) -> None:
    mirror.tells_length, mirror.break_after = False, 1000
    with pytest.raises(WeightsError, match=r"no length, so it may have been cut off\): refused and deleted") as caught:
        download(mirror.url, tmp_path / "file", mirror.sha256)
    assert not isinstance(caught.value, Unreachable)
    assert list(tmp_path.iterdir()) == []


def test_builds_at_once_download_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.pause_s = 0.3
    arguments = (mirror.url, tmp_path / "file", mirror.sha256)
    builds = [threading.Thread(target=download, args=arguments) for _ in range(4)]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    assert sha256_of(tmp_path / "file") == mirror.sha256
    assert mirror.ranges == [None]


def test_a_folder_that_cannot_be_written_is_no_unreachable_server(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where the cache should be")
    with pytest.raises(WeightsError, match=r"cannot be written: .*another folder with --cache") as caught:
        download(mirror.url, tmp_path / "occupied" / "file", mirror.sha256)
    assert not isinstance(caught.value, Unreachable)


@pytest.mark.slow
def test_a_full_disk_never_ends_in_untrained_weights(mirror: Mirror, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "handler" / "build_mar.py"), "--weights", "auto", "--url", mirror.url]
    command += ["--activation", "gelu", "--cache", str(tmp_path / "cache"), "--model-store", str(tmp_path / "store")]

    def fill_the_disk() -> None:  # the kernel refuses to write past this, as it does when there is no room
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=fill_the_disk)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Make room" in done.stderr
    assert "UNTRAINED" not in done.stderr + done.stdout
    assert not (tmp_path / "store" / "clip.mar").exists()
