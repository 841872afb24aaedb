"""The stand-in for trained weights: seeded random numbers in the true architecture, the same bytes on every machine.

Only integer arithmetic and exact products make them, so no libm and no vector unit can make a difference. Scales follow
OpenAI's `CLIP.initialize_parameters`; matrices are exact in float16, as in OpenAI's file.
"""

from __future__ import annotations

import hashlib

import checkpoints
import numpy as np
import torch

_SEED = 20210105
SHA256 = "e400a4e3cf905fa5e3281899e4743cba2d5d1028f64d7d3792fad6aa46ab2c04"  # of the safetensors file


def tensors() -> checkpoints.Tensors:
    """By OpenAI's names, in float32."""
    made: checkpoints.Tensors = {}
    for name, shape, dtype in checkpoints.layout():
        if name.endswith((".bias", "in_proj_bias")):
            values = torch.zeros(shape)
        elif ".ln_" in f".{name}":
            values = torch.ones(shape)
        elif name == "logit_scale":
            values = torch.tensor(2.6592600)  # log(1 / 0.07)
        else:
            values = _seeded(name, shape)
        made[name] = values.to(dtype).float()
    return made


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
    seed = int.from_bytes(hashlib.sha256(f"{_SEED} {name}".encode()).digest()[:8])
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))  # a raw stream numpy promises not to change
    uniform = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)  # exact, [-1, 1)
    return torch.from_numpy(uniform * np.float32(3**0.5 * std)).reshape(shape)
