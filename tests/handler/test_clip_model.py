"""The towers on every runtime against OpenAI's module, and how a batch of texts is split into passes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Literal

import clip_model
import clip_openai
import clip_pictures
import clip_runtime
import clip_text
import numpy as np
import pytest
import torch
from clip_inputs import Pixels
from clip_limits import Limits
from clip_model import ClipModel, passes
from clip_runtime import ConfigError, Runtime, choose_device, choose_runtime
from clip_weights import MappedWeights
from safetensors.numpy import load_file

from ..support.open_clip_model import OpenClip
from ..support.openai_clip import OpenAIClip
from ..support.samples import PHOTOGRAPHS, SENTENCES

TOKENIZER = clip_text.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))


@pytest.fixture(scope="module")
def weights(clip_mar: Path) -> Path:
    (path,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    return path


@pytest.mark.parametrize(
    ("runtime", "precision", "lowest"),
    [
        ("openvino", "fp32", 0.99999),
        ("openvino", "int8", 0.999),
        ("openvino", "bf16", 0.999),
        ("openvino", "fp16", 0.9999),
        ("torch", "fp32", 0.99999),
        ("torch", "bf16", 0.999),
        ("torch", "fp16", 0.9999),
    ],
)
def test_a_mixed_batch_equals_openai_one_by_one(
    weights: Path, openai_clip: OpenAIClip, runtime: str, precision: str, lowest: float
) -> None:
    model = ClipModel(weights, choose_runtime(runtime, precision, "cpu", 2), "quick_gelu")
    sentences = [*SENTENCES[:6], *SENTENCES[-7:], SENTENCES[0]]
    texts = model.encode_texts([TOKENIZER.tokenize(sentence.encode()).ids for sentence in sentences])
    expected = np.stack([openai_clip.encode_text(sentence) for sentence in sentences])
    assert np.sum(texts * expected, axis=1).min() >= lowest
    photographs = PHOTOGRAPHS[:9] if (runtime, precision) == ("openvino", "fp32") else PHOTOGRAPHS[:2]  # 9: two passes
    pixels = np.stack(
        [Pixels.of(clip_pictures.decode_image(path.read_bytes(), Limits())).array for path in photographs]
    )
    images = model.encode_images(pixels)
    expected = np.stack([openai_clip.encode_pixels(each) for each in pixels])
    assert np.sum(images * expected, axis=1).min() >= lowest
    for rows in (texts, images):
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_both_activations_equal_open_clip(
    weights: Path, runtime: str, activation: Literal["quick_gelu", "gelu"]
) -> None:
    oracle = OpenClip(weights, activation)
    model = ClipModel(weights, choose_runtime(runtime, "fp32", "cpu", 2), activation)
    tokens = [TOKENIZER.tokenize(sentence.encode()).ids for sentence in SENTENCES[::5]]
    texts, expected_texts = model.encode_texts(tokens), oracle.encode_tokens(tokens)
    pixels = np.stack(
        [Pixels.of(clip_pictures.decode_image(path.read_bytes(), Limits())).array for path in PHOTOGRAPHS[:2]]
    )
    images, expected_images = model.encode_images(pixels), oracle.encode_pixels(pixels)
    assert np.sum(texts * expected_texts, axis=1).min() >= 0.99999
    assert np.sum(images * expected_images, axis=1).min() >= 0.99999
    # The comparison can tell the two apart, also on untrained weights, on which they differ little.
    other = OpenClip(weights, "gelu" if activation == "quick_gelu" else "quick_gelu")
    assert np.sum(texts * other.encode_tokens(tokens), axis=1).max() < 0.99999
    assert np.sum(images * other.encode_pixels(pixels), axis=1).max() < 0.99999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_equals_openai_on_the_cpu_also_when_its_graphs_are_replayed(
    weights: Path, openai_clip: OpenAIClip
) -> None:
    last = torch.cuda.device_count() - 1  # not the current one, where there are several
    model = ClipModel(weights, choose_runtime("auto", "auto", choose_device("auto", last), 2), "quick_gelu")
    tokens = [TOKENIZER.tokenize(sentence.encode()).ids for sentence in SENTENCES]
    pixels = np.stack(
        [Pixels.of(clip_pictures.decode_image(path.read_bytes(), Limits())).array for path in PHOTOGRAPHS[:10]]
    )
    texts, images = openai_clip.encode_texts(SENTENCES), np.stack([openai_clip.encode_pixels(each) for each in pixels])
    # Two batch sizes, each recorded once and replayed with other contents: what is left of the last ones would show.
    for start, end in ((0, 5), (5, 10), (0, 2), (2, 4), (3, 8), (7, 9)):
        rows = slice(start, end)
        for vectors, oracle in ((model.encode_texts(tokens[rows]), texts), (model.encode_images(pixels[rows]), images)):
            assert np.sum(vectors * oracle[rows], axis=1).min() >= 0.999
    assert np.sum(model.encode_texts(tokens) * texts, axis=1).min() >= 0.999


def _cost(split: list[list[int]], lengths: list[int]) -> int:
    return sum(len(rows) * max(lengths[row] for row in rows) + clip_model._PASS_TOKENS for rows in split)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_split_into_passes_is_cheaper(seed: int) -> None:
    numbers = random.Random(seed)
    lengths = [numbers.choice((3, 5, 9, 10, 30, 77)) for _ in range(numbers.randrange(1, 9))]
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    split = passes(order, lengths)
    assert [row for rows in split for row in rows] == order
    cuts = itertools.product((False, True), repeat=len(order) - 1)
    others = [
        [order[a:b] for a, b in itertools.pairwise([0, *(i + 1 for i, cut in enumerate(each) if cut), len(order)])]
        for each in cuts
    ]
    assert _cost(split, lengths) == min(_cost(other, lengths) for other in others)


def test_one_long_text_does_not_stretch_31_short_ones() -> None:
    lengths = [8] * 16 + [77] + [8] * 15
    assert [len(rows) for rows in passes(sorted(range(32), key=lambda row: lengths[row]), lengths)] == [31, 1]
    assert passes([], []) == []


@pytest.mark.parametrize(
    ("asked", "device", "chosen"),
    [
        (("auto", "auto"), "cpu", ("openvino", "fp32")),
        (("auto", "auto"), "cuda:1", ("torch", "fp16")),
        (("openvino", "int8"), "cpu", ("openvino", "int8")),
        (("torch", "bf16"), "cuda:0", ("torch", "bf16")),
    ],
)
def test_auto_is_resolved(asked: tuple[str, str], device: str, chosen: tuple[str, str]) -> None:
    assert choose_runtime(*asked, device, 3) == Runtime(*chosen, device, 3)


@pytest.mark.parametrize(
    ("asked", "device", "message"),
    [
        (("onnx", "auto"), "cpu", "runtime is 'onnx', but must be one of auto, openvino, torch"),
        (("torch", "int8"), "cpu", "precision is 'int8', but the runtime torch has auto, fast, fp32, fp16, bf16"),
        (("openvino", "auto"), "cuda:0", "the runtime openvino is for the CPU"),
    ],
)
def test_a_wrong_setting_names_its_fix(asked: tuple[str, str], device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_runtime(*asked, device, 0)


@pytest.mark.parametrize(
    ("flags", "runtime", "chosen"),
    [
        ("fpu avx2 avx512f avx512_vnni avx512_bf16", "auto", "bf16"),
        ("fpu avx2 avx_vnni amx_bf16", "auto", "bf16"),
        ("fp asimd fphp asimdhp", "auto", "fp16"),
        ("fpu avx2 avx512f avx512_vnni", "auto", "int8"),
        ("fpu avx2 avx512f avx512_vnni", "torch", "fp32"),
        ("fpu avx2", "auto", "fp32"),
    ],
)
def test_fast_is_what_the_cpu_computes_natively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, runtime: str, chosen: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : some CPU\nflags : {flags}\n")
    monkeypatch.setattr(clip_runtime, "_CPUINFO", tmp_path / "cpuinfo")
    assert choose_runtime(runtime, "fast", "cpu", 2).precision == chosen
    monkeypatch.setattr(clip_runtime, "_CPUINFO", tmp_path / "missing")
    assert choose_runtime(runtime, "fast", "cpu", 2).precision == "fp32"


def test_fast_runs_on_this_cpu(weights: Path, openai_clip: OpenAIClip) -> None:
    model = ClipModel(weights, choose_runtime("auto", "fast", "cpu", 2), "quick_gelu")
    vectors = model.encode_texts([TOKENIZER.tokenize(SENTENCES[8].encode()).ids])
    assert vectors[0] @ openai_clip.encode_text(SENTENCES[8]) >= 0.999


def test_the_device_is_the_cpu_where_no_gpu_is_given_or_wanted() -> None:
    assert choose_device("auto", None) == "cpu"
    assert choose_device("cpu", 0) == "cpu"
    with pytest.raises(ConfigError, match="device is 'tpu', but must be one of auto, cpu, cuda"):
        choose_device("tpu", None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_torch_cannot_use_is_said_and_the_cpu_computes(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_device("auto", 0) == "cpu"
    assert "GPU 0 is not used: PyTorch" in caplog.text
    assert "the CPU computes" in caplog.text
    with pytest.raises(ConfigError, match=r"device is cuda, but PyTorch .*: mend that, or set device to auto or cpu"):
        choose_device("cuda", None)


def test_the_cores_of_this_process_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_runtime, "_CGROUP", tmp_path)
    everything = clip_runtime.usable_cores()
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert clip_runtime.usable_cores() == everything
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert clip_runtime.usable_cores() == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert clip_runtime.usable_cores() == everything
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert clip_runtime.usable_cores() == 1


def test_mapped_weights_are_those_of_the_file(weights: Path) -> None:
    mapped, loaded = MappedWeights(weights), load_file(weights)
    for name, tensor in loaded.items():
        assert np.array_equal(mapped.tensor(name), tensor)
    first = mapped.tensor("visual.proj")
    mapped.release()
    assert np.array_equal(first, loaded["visual.proj"])  # read again from the file
    with pytest.raises(KeyError):
        mapped.tensor("nothing")
