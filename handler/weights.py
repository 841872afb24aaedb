"""Where the weights come from: OpenAI's checkpoint, a file of the operator's, or the untrained stand-in.

Whatever the source, the result is one safetensors file with the state dict in OpenAI's names, in a cache folder, and
the activation it was trained with: a state dict does not tell it, and with the wrong one the vectors are quietly worse.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import checkpoints
import untrained as stand_in
from downloads import download, sha256_of
from safetensors import SafetensorError
from safetensors.torch import save_file
from weights_errors import WeightsError

# clip._MODELS["ViT-B/32"] of https://github.com/openai/CLIP; the SHA-256 is the last folder of the URL.
OFFICIAL_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
OFFICIAL_URL = f"https://openaipublic.azureedge.net/clip/models/{OFFICIAL_SHA256}/ViT-B-32.pt"
CACHE = Path.home() / ".cache" / "clip"

Label = Literal["official", "custom", "untrained"]
Activation = Literal["quick_gelu", "gelu"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
# Files whose label and activation are known for sure; of any other the operator has to say the activation.
_KNOWN: dict[str, tuple[Label, Activation]] = {
    OFFICIAL_SHA256: ("official", "quick_gelu"),
    stand_in.SHA256: ("untrained", "quick_gelu"),
}


@dataclass(frozen=True)
class Weights:
    """A safetensors file, the SHA-256 of its bytes, and what a person should know about it."""

    path: Path
    sha256: str
    label: Label
    activation: Activation
    read_from: str


def official(cache: Path, url: str = OFFICIAL_URL, activation: Activation | None = None) -> Weights:
    """OpenAI's ViT-B/32, downloaded once. `url` may name a mirror; its last folder must be the file's SHA-256.

    A broken download is resumed by the next call. Raises Unreachable, or WeightsError when the bytes are wrong.
    """
    expected = url.split("/")[-2] if url.count("/") > 3 else ""
    if not re.fullmatch("[0-9a-f]{64}", expected):
        raise WeightsError(f"{url} does not name its SHA-256 as its last folder: .../<64 hex digits>/ViT-B-32.pt")
    _identify(expected, activation, url)  # before 350 MB are fetched in vain
    checkpoint = cache / f"{expected[:16]}-{url.rsplit('/', 1)[1]}"
    download(url, checkpoint, expected)
    return _converted(cache, checkpoint, expected, activation)


def custom(cache: Path, path: Path, activation: Activation | None = None) -> Weights:
    """A ViT-B/32 in a file, its activation told or known by its SHA-256. OpenAI's own file is official.

    Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not a file: give a .safetensors state dict, or a .pt (TorchScript, torch.save)")
    return _converted(cache, path, sha256_of(path), activation)


def untrained(cache: Path) -> Weights:
    """The true architecture with seeded random weights: the same bytes on every machine."""
    label, activation = _KNOWN[stand_in.SHA256]
    read_from = "seeded random numbers, not trained"
    cached = _path(cache, label, stand_in.SHA256)
    if cached.exists() and sha256_of(cached) == stand_in.SHA256:
        return Weights(cached, stand_in.SHA256, label, activation, read_from)
    made = _stored(stand_in.tensors(), cache, label, activation, read_from)
    if made.sha256 != stand_in.SHA256:
        raise WeightsError(f"the untrained weights came out as {made.sha256}, not as on every other machine")
    return made


def _converted(cache: Path, checkpoint: Path, sha256: str, told: Activation | None) -> Weights:
    label, activation = _identify(sha256, told, str(checkpoint))
    read = checkpoints.read(checkpoint)
    return _stored(read.tensors, cache, label, activation, f"{checkpoint.name}: {read}")


def _identify(sha256: str, told: Activation | None, name: str) -> tuple[Label, Activation]:
    """Label and activation of a file. Raises WeightsError where the activation is not known, or known to be another."""
    if sha256 in _KNOWN:
        label, activation = _KNOWN[sha256]
        if told not in (None, activation):
            raise WeightsError(f"{name} is {label} and has the activation {activation}, not {told}: leave it out")
        return label, activation
    if told is None:
        raise WeightsError(
            f"{name}: a checkpoint does not tell its activation, so you have to. ACTIVATION=gelu (--activation gelu)"
            " for LAION-2B's, DataComp's and CommonPool's; ACTIVATION=quick_gelu for OpenAI's, LAION-400M's, MetaCLIP's"
            " and what was tuned from them. With the wrong one the vectors are quietly worse: docs/weights.md"
        )
    return "custom", told


def _stored(tensors: checkpoints.Tensors, cache: Path, label: Label, activation: Activation, read_from: str) -> Weights:
    """Write the tensors as safetensors (same tensors, same bytes), named by SHA-256; builds at once do no harm.

    All are float32: a CPU's worker then maps the file as it is.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            written = Path(folder) / "weights.safetensors"
            save_file(tensors, written)
            sha256 = sha256_of(written)
            path = written.replace(_path(cache, label, sha256))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{cache} cannot be written ({error}): make room (2 GB), or name another --cache") from error
    return Weights(path, sha256, label, activation, read_from)


def _path(cache: Path, label: Label, sha256: str) -> Path:
    return cache / f"{label}-{sha256[:16]}.safetensors"
