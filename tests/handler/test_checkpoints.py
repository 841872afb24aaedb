"""Checkpoints are read by names and shapes, whoever wrote them; what is no ViT-B/32 is refused by name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import checkpoints
import pytest
import torch
from weights_errors import WeightsError

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def numbered() -> Tensors:
    """Every tensor full of a number of its own (one float on disk); what is cut or turned on the way is random."""
    tensors: Tensors = {}
    for number, (name, shape, _) in enumerate(checkpoints.layout()):
        mixed = name.endswith(("proj", "in_proj_weight", "in_proj_bias", "text_projection"))
        tensors[name] = torch.randn(shape) if mixed else torch.tensor(float(number)).expand(shape)
    return tensors


def _custom_text(tensors: Tensors) -> Tensors:
    ours = ("visual.", "logit_scale")
    return {name if name.startswith(ours) else f"text.{name}": tensor for name, tensor in tensors.items()}


def _hugging_face(tensors: Tensors) -> Tensors:
    """As transformers' CLIPModel names them, with the buffers of its older versions."""
    renamed: Tensors = {"logit_scale": tensors["logit_scale"]}
    for theirs, ours in (("text_model", ""), ("vision_model", "visual.")):
        for layer in range(12):
            block, target = f"{ours}transformer.resblocks.{layer}", f"{theirs}.encoder.layers.{layer}"
            for kind in ("weight", "bias"):
                query, key, value = tensors[f"{block}.attn.in_proj_{kind}"].chunk(3)
                for name, part in (("q_proj", query), ("k_proj", key), ("v_proj", value)):
                    renamed[f"{target}.self_attn.{name}.{kind}"] = part.clone()
                renamed[f"{target}.self_attn.out_proj.{kind}"] = tensors[f"{block}.attn.out_proj.{kind}"]
                renamed[f"{target}.layer_norm1.{kind}"] = tensors[f"{block}.ln_1.{kind}"]
                renamed[f"{target}.layer_norm2.{kind}"] = tensors[f"{block}.ln_2.{kind}"]
                renamed[f"{target}.mlp.fc1.{kind}"] = tensors[f"{block}.mlp.c_fc.{kind}"]
                renamed[f"{target}.mlp.fc2.{kind}"] = tensors[f"{block}.mlp.c_proj.{kind}"]
    for kind in ("weight", "bias"):
        renamed[f"text_model.final_layer_norm.{kind}"] = tensors[f"ln_final.{kind}"]
        renamed[f"vision_model.pre_layrnorm.{kind}"] = tensors[f"visual.ln_pre.{kind}"]
        renamed[f"vision_model.post_layernorm.{kind}"] = tensors[f"visual.ln_post.{kind}"]
    renamed["text_model.embeddings.token_embedding.weight"] = tensors["token_embedding.weight"]
    renamed["text_model.embeddings.position_embedding.weight"] = tensors["positional_embedding"]
    renamed["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    renamed["vision_model.embeddings.class_embedding"] = tensors["visual.class_embedding"]
    renamed["vision_model.embeddings.patch_embedding.weight"] = tensors["visual.conv1.weight"]
    renamed["vision_model.embeddings.position_embedding.weight"] = tensors["visual.positional_embedding"]
    renamed["vision_model.embeddings.position_ids"] = torch.arange(50)[None]
    renamed["text_projection.weight"] = tensors["text_projection"].T.clone()
    renamed["visual_projection.weight"] = tensors["visual.proj"].T.clone()
    return renamed


@pytest.mark.parametrize(
    ("write", "naming"),
    [
        (lambda tensors: tensors | {"input_resolution": torch.tensor(224), "attn_mask": torch.zeros(77, 77)}, "OpenAI"),
        (
            lambda tensors: {
                "epoch": 32,
                "name": "laion2b",
                "state_dict": {
                    f"module.{name}": tensor
                    for name, tensor in (tensors | {"logit_scale": tensors["logit_scale"].reshape(1)}).items()
                },
            },
            "OpenAI",
        ),
        (_custom_text, "open_clip's (custom text)"),
        (_hugging_face, "Hugging Face's"),
    ],
    ids=["openai", "open_clip training", "open_clip custom text", "hugging face"],
)
def test_every_naming_gives_the_same_tensors(
    numbered: Tensors, tmp_path: Path, write: Callable[[Tensors], object], naming: str
) -> None:
    torch.save(write(numbered), tmp_path / "weights.pt")
    read = checkpoints.read(tmp_path / "weights.pt")
    assert read.kind == "a state dict of torch.save"
    assert naming in read.naming
    assert read.tensors.keys() == numbered.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in numbered.items())


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_never_run(numbered: Tensors, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    torch.save({**numbered, "optimizer": _Bomb(mark)}, tmp_path / "bomb.pt")
    with pytest.raises(WeightsError, match="nothing of it was run") as caught:
        checkpoints.read(tmp_path / "bomb.pt")
    assert "save_file" in str(caught.value)  # how to convert it, where it is trusted
    (tmp_path / "old.pt").write_bytes(pickle.dumps(_Bomb(mark)))
    with pytest.raises(WeightsError, match="is a pickle, which is never read"):
        checkpoints.read(tmp_path / "old.pt")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"visual.conv1.weight": torch.zeros(768, 3, 16, 16)},
            r"1 tensors .*shape: \['visual.conv1.weight'\]",
        ),
        ({"visual.proj": None}, r"1 tensors are missing, .*\['visual.proj'\]"),
        ({"adapter.weight": torch.zeros(2)}, r"\['adapter.weight'\]"),
        ({"ln_final.bias": torch.full((512,), torch.nan)}, "ln_final.bias .* finite"),
        ({"ln_final.bias": torch.zeros(512, dtype=torch.int8)}, "ln_final.bias is of torch.int8"),
        ({"ln_final.bias": "a string"}, "is no state dict"),
    ],
)
def test_what_does_not_fit_is_named(numbered: Tensors, tmp_path: Path, change: dict[str, object], message: str) -> None:
    changed = {name: tensor for name, tensor in {**numbered, **change}.items() if tensor is not None}
    torch.save(changed, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=message):
        checkpoints.read(tmp_path / "weights.pt")


def test_a_part_that_is_missing_of_hugging_face_is_named(numbered: Tensors, tmp_path: Path) -> None:
    renamed = _hugging_face(numbered)
    del renamed["text_model.encoder.layers.3.self_attn.v_proj.weight"]
    torch.save(renamed, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"\['transformer.resblocks.3.attn.in_proj_weight'\]"):
        checkpoints.read(tmp_path / "weights.pt")


def test_a_pointer_of_git_lfs_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(WeightsError, match="pointer of Git LFS, not the file itself: git lfs pull"):
        checkpoints.read(tmp_path / "weights.pt")
