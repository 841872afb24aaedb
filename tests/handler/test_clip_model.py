"""The towers on every runtime against OpenAI's module, and how a batch of texts is split into passes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import clip_inputs
import clip_model
import clip_openai
import numpy as np
import pytest
import torch
from clip_model import ClipModel, ConfigError, Runtime, choose_runtime, passes
from clip_weights import MappedWeights
from safetensors.numpy import load_file

from ..support.openai_clip import OpenAIClip
from ..support.samples import PHOTOGRAPHS, SENTENCES

TOKENIZER = clip_inputs.Tokenizer(clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz"))


@pytest.fixture(scope="module")
def weights(clip_mar: Path) -> Path:
    (path,) = (clip_mar.parent.parent / "cache").glob("untrained-*.safetensors")
    return path


@pytest.mark.parametrize(
    ("runtime", "precision", "lowest"),
    [
        ("openvino", "fp32", 0.99999),
        ("openvino", "int8", 0.999),
        ("torch", "fp32", 0.99999),
        ("torch", "bf16", 0.999),
        ("torch", "fp16", 0.9999),
    ],
)
def test_a_mixed_batch_equals_openai_one_by_one(
    weights: Path, openai_clip: OpenAIClip, runtime: str, precision: str, lowest: float
) -> None:
    model = ClipModel(weights, choose_runtime(runtime, precision, "cpu", 2))
    sentences = [*SENTENCES[:6], *SENTENCES[-7:], SENTENCES[0]]
    texts = model.encode_texts([TOKENIZER.tokenize(sentence.encode())[0] for sentence in sentences])
    expected = np.stack([openai_clip.encode_text(sentence) for sentence in sentences])
    assert np.sum(texts * expected, axis=1).min() >= lowest
    photographs = PHOTOGRAPHS[:9] if (runtime, precision) == ("openvino", "fp32") else PHOTOGRAPHS[:2]  # 9: two passes
    pixels = np.stack([clip_inputs.decode_image(path.read_bytes(), 10**8) for path in photographs])
    images = model.encode_images(pixels)
    expected = np.stack([openai_clip.encode_pixels(each) for each in pixels])
    assert np.sum(images * expected, axis=1).min() >= lowest
    for rows in (texts, images):
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_equals_openai_on_the_cpu_also_when_its_graphs_are_replayed(
    weights: Path, openai_clip: OpenAIClip
) -> None:
    model = ClipModel(weights, choose_runtime("auto", "auto", "cuda:0", 2))
    tokens = [TOKENIZER.tokenize(sentence.encode())[0] for sentence in SENTENCES]
    pixels = np.stack([clip_inputs.decode_image(path.read_bytes(), 10**8) for path in PHOTOGRAPHS[:5]])
    expected = openai_clip.encode_texts(SENTENCES), np.stack([openai_clip.encode_pixels(each) for each in pixels])
    for _ in range(3):
        for vectors, oracle in zip((model.encode_texts(tokens), model.encode_images(pixels)), expected, strict=True):
            assert np.sum(vectors * oracle, axis=1).min() >= 0.999
        assert np.sum(model.encode_images(pixels[3:]) * expected[1][3:], axis=1).min() >= 0.999


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
        (("torch", "int8"), "cpu", "precision is 'int8', but the runtime torch has auto, fp32, fp16, bf16"),
        (("openvino", "auto"), "cuda:0", "the runtime openvino is for the CPU"),
    ],
)
def test_a_wrong_setting_names_its_fix(asked: tuple[str, str], device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_runtime(*asked, device, 0)


def test_the_cores_of_this_process_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_model, "_CGROUP", tmp_path)
    everything = clip_model.usable_cores()
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert clip_model.usable_cores() == everything
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert clip_model.usable_cores() == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert clip_model.usable_cores() == everything
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert clip_model.usable_cores() == 1


def test_mapped_weights_are_those_of_the_file(weights: Path) -> None:
    mapped, loaded = MappedWeights(weights), load_file(weights)
    for name, tensor in loaded.items():
        assert np.array_equal(mapped.tensor(name), tensor)
    first = mapped.tensor("visual.proj")
    mapped.release()
    assert np.array_equal(first, loaded["visual.proj"])  # read again from the file
    with pytest.raises(KeyError):
        mapped.tensor("nothing")
