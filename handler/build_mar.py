"""Build model_store/clip.mar: get and verify the weights, then pack them with the handler by torch-model-archiver.

    python handler/build_mar.py --weights official

The archive holds everything a worker needs, so a node serves exactly what was built: weights, vocabulary, handler
modules, model-config.yaml and clip_archive.json with the fingerprint that TorchServe sends as `x-clip-model`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import clip_inputs
import clip_openai
import weights
from downloads import sha256_of
from weights_errors import Unreachable, WeightsError

_HERE = Path(__file__).parent
_HANDLER = _HERE / "clip_handler.py"
_HANDLER_FILES = sorted(set(_HERE.glob("clip_*.py")) - {_HANDLER})
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def fingerprint(chosen: weights.Weights) -> str:
    """The identity of the vectors: two archives with the same one give the same vectors for the same bytes."""
    activation = "" if chosen.activation == "quick_gelu" else f":{chosen.activation}"
    return f"clip-vit-b-32:{chosen.label}:{chosen.sha256[:16]}{activation}:p{clip_inputs.PREPROCESSING_VERSION}"


def choose_weights(source: str, cache: Path, url: str, activation: weights.Activation | None = None) -> weights.Weights:
    """`source` and `activation` as in --weights and --activation -> a weights file. Raises WeightsError."""
    if source == "official":
        return weights.official(cache, url, activation)
    if source == "untrained":
        return weights.untrained(cache)
    if source != "auto":
        return weights.custom(cache, Path(source), activation)
    try:
        return weights.official(cache, url, activation)
    except Unreachable as error:  # and nothing else: a full disk is no reason to serve random numbers
        print(f"\n{error}", file=sys.stderr)
        _warn_untrained()
        return weights.untrained(cache)


def _warn_untrained() -> None:
    lines = (
        "UNTRAINED WEIGHTS: OpenAI's checkpoint could not be reached.",
        "The archive gets seeded random weights of the same architecture, so that everything can be",
        "tried; its rankings carry NO meaning. For the real ones: make mar WEIGHTS=official",
    )
    rule = "!" * 98
    print("\n".join((rule, *(f"!! {line:<92} !!" for line in lines), rule)), file=sys.stderr)


def build(chosen: weights.Weights, model_store: Path, config: Path = _HERE / "model-config.yaml") -> Path:
    """Write `model_store`/clip.mar, replacing it in one step; returns its path."""
    model_store.mkdir(parents=True, exist_ok=True)
    identity = {
        "fingerprint": fingerprint(chosen),
        "label": chosen.label,
        "activation": chosen.activation,
        "read_from": chosen.read_from,
        "weights": "clip_weights.safetensors",
        "weights_sha256": chosen.sha256,
        "vocabulary": _VOCABULARY,
        "vocabulary_sha256": sha256_of(clip_openai.package_file(_VOCABULARY)),
        "preprocessing_version": clip_inputs.PREPROCESSING_VERSION,
    }
    with tempfile.TemporaryDirectory(dir=model_store) as temporary:
        staging = Path(temporary)
        (staging / "clip_archive.json").write_text(json.dumps(identity, indent=2))
        shutil.copyfile(chosen.path, staging / "clip_weights.safetensors")
        (staging / "clip_weights.safetensors").chmod(0o644)
        extra = [staging / "clip_archive.json", staging / "clip_weights.safetensors"]
        extra += [clip_openai.package_file(_VOCABULARY), *_HANDLER_FILES]
        command = [str(Path(sysconfig.get_path("scripts")) / "torch-model-archiver")]
        command += ["--model-name", "clip", "--version", "1.0", "--archive-format", "zip-store"]
        command += ["--handler", str(_HANDLER), "--config-file", str(config)]
        command += ["--extra-files", ",".join(map(str, extra)), "--export-path", temporary]
        # The archiver collects its files in $TMPDIR/clip, which two builds on one machine would share.
        subprocess.run(command, check=True, env={**os.environ, "TMPDIR": temporary})
        return (staging / "clip.mar").replace(model_store / "clip.mar")


def main() -> None:
    """Parse the arguments, build, print what was built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights",
        default="official",
        metavar="official|untrained|auto|PATH",
        help="official (default): OpenAI's checkpoint, its SHA-256 verified. PATH: a ViT-B/32 of yours, as"
        " safetensors, TorchScript or torch.save's state dict, in OpenAI's, open_clip's or Hugging Face's names."
        " untrained: seeded random weights, for trying and testing. auto: official, or untrained"
        " with a loud warning when it cannot be reached",
    )
    parser.add_argument(
        "--activation",
        choices=weights.ACTIVATIONS,
        help="of a PATH: gelu for LAION-2B's, DataComp's and CommonPool's; quick_gelu for OpenAI's, LAION-400M's,"
        " MetaCLIP's and what was tuned from them. Of OpenAI's own file it is known",
    )
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="default: model_store")
    parser.add_argument("--cache", type=Path, default=weights.CACHE, help="default: ~/.cache/clip")
    parser.add_argument("--url", default=weights.OFFICIAL_URL, help="a mirror of the checkpoint: .../SHA256/NAME.pt")
    arguments = parser.parse_args()
    try:
        chosen = choose_weights(arguments.weights, arguments.cache, arguments.url, arguments.activation)
        print(f"read {chosen.read_from}; activation {chosen.activation}")
        path = build(chosen, arguments.model_store)
    except (WeightsError, OSError) as error:
        sys.exit(f"build_mar: {error}")
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {fingerprint(chosen)}")


if __name__ == "__main__":
    main()
