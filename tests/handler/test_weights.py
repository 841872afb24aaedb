"""Weights: the untrained ones are the same everywhere, the official ones are verified or refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import build_mar
import clip_openai
import pytest
import torch
import weights
from downloads import sha256_of
from safetensors.torch import load_file
from weights_errors import Unreachable, WeightsError

from ..support.mirror import Mirror, serving

# TorchScript is what OpenAI's checkpoint is; torch would rather have everybody use something newer.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


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
    with serving(checkpoint) as mirror:
        yield mirror


def test_download_verify_convert_and_cache(mirror: Mirror, tmp_path: Path, clip_mar: Path) -> None:
    chosen = weights.official(tmp_path, mirror.url, "quick_gelu")
    (original,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    assert chosen.sha256 == sha256_of(original)  # through TorchScript and back: the very same tensors
    assert chosen.label == "custom"  # a mirror of something that is not OpenAI's file is not called official
    assert weights.official(tmp_path, mirror.url, "quick_gelu") == chosen
    assert mirror.ranges == [None]  # the second call found the file in the cache


def test_a_broken_download_is_resumed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.break_after = 1_000_000
    with pytest.raises(Unreachable, match="resumes"):
        weights.official(tmp_path, mirror.url, "quick_gelu")
    mirror.break_after = None
    assert weights.official(tmp_path, mirror.url, "quick_gelu").path.exists()
    assert mirror.ranges == [None, "bytes=1000000-"]


def test_a_server_that_cannot_resume_starts_over(mirror: Mirror, tmp_path: Path) -> None:
    mirror.break_after, mirror.resumes = 1_000_000, False
    with pytest.raises(Unreachable):
        weights.official(tmp_path, mirror.url, "quick_gelu")
    mirror.break_after = None
    assert weights.official(tmp_path, mirror.url, "quick_gelu").path.exists()


def test_wrong_bytes_are_refused_and_deleted(mirror: Mirror, tmp_path: Path) -> None:
    right = mirror.data
    mirror.data = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(WeightsError, match="refused and deleted") as caught:
        weights.official(tmp_path, mirror.url, "quick_gelu")
    assert not isinstance(caught.value, Unreachable)  # so that auto does not hide it
    assert list(tmp_path.iterdir()) == []


def test_a_url_must_name_its_checksum(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.official(tmp_path, "http://127.0.0.1:9/ViT-B-32.pt")


def test_another_architecture_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    module.save(str(tmp_path / "other.pt"))
    with pytest.raises(WeightsError, match="not a CLIP ViT-B/32: in a TorchScript archive"):
        weights.custom(tmp_path / "cache", tmp_path / "other.pt", "gelu")
    (tmp_path / "text.pt").write_text("not weights at all")
    with pytest.raises(WeightsError, match="neither safetensors nor"):
        weights.custom(tmp_path / "cache", tmp_path / "text.pt", "gelu")
    with pytest.raises(WeightsError, match="not a file"):
        weights.custom(tmp_path / "cache", tmp_path / "missing.pt")


def test_auto_falls_back_loudly(
    tmp_path: Path, clip_mar: Path, capsys: pytest.CaptureFixture[str], unused_url: str
) -> None:
    cache = clip_mar.parent.parent / "cache"
    chosen = build_mar.choose_weights("auto", cache, unused_url, "quick_gelu")
    assert chosen.label == "untrained"
    assert "UNTRAINED WEIGHTS" in capsys.readouterr().err


@pytest.fixture
def unused_url() -> str:
    return f"http://127.0.0.1:9/{'0' * 64}/ViT-B-32.pt"


def test_the_same_inputs_give_the_same_fingerprint(clip_mar: Path, tmp_path: Path) -> None:
    cache = clip_mar.parent.parent / "cache"
    chosen = weights.untrained(cache)
    assert build_mar.fingerprint(chosen) == "clip-vit-b-32:untrained:e400a4e3cf905fa5:p3"
    again = weights.custom(tmp_path, chosen.path)
    assert again.sha256 == chosen.sha256
    assert (again.label, again.activation) == ("untrained", "quick_gelu")  # known by the file's SHA-256
    assert "safetensors, OpenAI's (and open_clip's) names, 302 tensors, 151.3 M parameters" in again.read_from


def test_the_activation_is_part_of_the_fingerprint(clip_mar: Path) -> None:
    chosen = replace(weights.untrained(clip_mar.parent.parent / "cache"), label="custom", activation="gelu")
    assert build_mar.fingerprint(chosen) == "clip-vit-b-32:custom:e400a4e3cf905fa5:gelu:p3"


def test_the_activation_is_told_or_known_and_never_guessed(
    mirror: Mirror, checkpoint: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "given.pt"
    path.write_bytes(checkpoint)
    with pytest.raises(WeightsError, match=r"ACTIVATION=gelu .* for LAION-2B's, .*; ACTIVATION=quick_gelu for"):
        weights.custom(tmp_path, path)
    with pytest.raises(WeightsError, match=r"ACTIVATION=gelu .*; ACTIVATION=quick_gelu for"):
        weights.official(tmp_path, mirror.url)
    assert mirror.ranges == []  # said before anything is fetched
    told = weights.custom(tmp_path, path, "gelu")
    assert (told.label, told.activation) == ("custom", "gelu")
    assert build_mar.fingerprint(told).endswith(f"{told.sha256[:16]}:gelu:p3")
    # OpenAI's own file cannot be fetched by a test: this one takes its place in the list of known ones.
    monkeypatch.setitem(weights._KNOWN, hashlib.sha256(checkpoint).hexdigest(), ("official", "quick_gelu"))
    by_path, downloaded = weights.custom(tmp_path, path), weights.official(tmp_path, mirror.url)
    assert by_path.label == downloaded.label == "official"
    assert build_mar.fingerprint(by_path) == build_mar.fingerprint(downloaded)
    with pytest.raises(WeightsError, match="is official and has the activation quick_gelu, not gelu"):
        weights.custom(tmp_path, path, "gelu")


def test_the_command_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["build_mar.py", "--weights", str(tmp_path / "nothing.pt")])
    with pytest.raises(SystemExit, match=r"is not a file: give a \.safetensors"):
        build_mar.main()
