"""CLIP ViT-B/32 on CPUs: OpenAI's two towers written as OpenVINO graphs (https://arxiv.org/abs/2103.00020).

The graphs are built on the mapped weights when a worker starts, which takes a second, so that the archive holds one set
of weights for every runtime. Beside OpenAI's module (clip/model.py) they leave out what cannot change the result: an
image's vector depends on its class token alone and a text's on its end token alone, so the last block computes only
that token's row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from clip_weights import MappedWeights
from openvino import opset15 as op

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
_Node = Any  # OpenVINO's nodes and outputs, which its functions take for each other
_PRECISIONS = {"fp32": "f32", "int8": "f32", "bf16": "bf16", "fp16": "f16"}
_IMAGES_A_PASS = 8  # more make the activations outgrow the caches: from 16 on an image takes a fifth longer
_LAYERS = 12
_HEAD_WIDTH = 64
_CONTEXT_LENGTH = 77


class OpenVinoTowers:
    """Both towers, compiled for this machine's CPU."""

    def __init__(self, weights: Path, threads: int, precision: str, activation: str) -> None:
        core = ov.Core()
        options = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the cores are shared with Java and the decoding of images
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        }
        mapped = MappedWeights(weights)
        graph = _Graph(mapped.tensor, quantise=precision == "int8", activation=_ACTIVATIONS[activation])
        self._images = core.compile_model(graph.image_tower(), "CPU", options)
        self.images(np.zeros((_IMAGES_A_PASS, 3, 224, 224), np.float32))
        # The matrices are packed for this CPU by now, at the latest in the first pass: the file's are not needed again.
        mapped.release()
        self._texts = core.compile_model(graph.text_tower(), "CPU", options)
        self.texts(np.zeros((1, _CONTEXT_LENGTH), np.int32), np.zeros(1, np.int32))
        mapped.release()
        logger.info("openvino %s on %s", ov.get_version(), core.get_property("CPU", "FULL_DEVICE_NAME"))

    def images(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """(n, 3, 224, 224) -> (n, 512), rows of unit length."""
        passes = range(0, len(pixels), _IMAGES_A_PASS)
        return np.concatenate([self._run(self._images, pixels[start : start + _IMAGES_A_PASS]) for start in passes])

    def texts(self, tokens: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> Vectors:
        """(n, length) tokens and the place of each row's end token -> (n, 512), rows of unit length."""
        return self._run(self._texts, tokens, ends)

    @staticmethod
    def _run(tower: ov.CompiledModel, *inputs: npt.NDArray[Any]) -> Vectors:
        rows: Vectors = tower(inputs)[0]  # a copy of its own, which the next call does not overwrite
        return rows


class _Graph:
    """Builds the towers; `tensor` gives a weight by OpenAI's name."""

    def __init__(
        self, tensor: Callable[[str], npt.NDArray[np.float32]], quantise: bool, activation: Callable[[_Node], _Node]
    ) -> None:
        self._tensor = tensor
        self._activation = activation
        self._quantise = quantise

    def image_tower(self) -> ov.Model:
        pixels = op.parameter([-1, 3, 224, 224], ov.Type.f32, name="pixels")
        patches = op.convolution(pixels, self._weight("visual.conv1.weight"), [32, 32], [0, 0], [0, 0], [1, 1])
        x = op.transpose(op.reshape(patches, _ints(0, 0, -1), True), _ints(0, 2, 1))  # (n, 49, 768)
        positions = self._tensor("visual.positional_embedding")
        x = op.add(x, _constant(positions[1:]))
        class_token = _constant((self._tensor("visual.class_embedding") + positions[0]).reshape(1, 1, -1))
        rows = op.gather(op.shape_of(pixels), _ints(0), _axis(0))
        x = op.concat([op.broadcast(class_token, op.concat([rows, _ints(1, 768)], 0)), x], 1)  # (n, 50, 768)
        x = self._norm(x, "visual.ln_pre")
        x = self._blocks(x, "visual.transformer", lambda t: op.slice(t, _ints(0), _ints(1), _ints(1), _ints(1)))
        return ov.Model([self._project(x, "visual.ln_post", "visual.proj")], [pixels], "images")

    def text_tower(self) -> ov.Model:
        tokens = op.parameter([-1, -1], ov.Type.i32, name="tokens")
        ends = op.parameter([-1], ov.Type.i32, name="ends")
        length = op.gather(op.shape_of(tokens), _ints(1), _axis(0))
        x = op.gather(self._weight("token_embedding.weight"), tokens, _axis(0))  # (n, length, 512)
        x = op.add(x, _first(self._weight("positional_embedding"), length, 0))
        causal = _constant(np.triu(np.full((_CONTEXT_LENGTH, _CONTEXT_LENGTH), -np.inf), 1))
        causal = _first(_first(causal, length, 0), length, 1)
        place = op.unsqueeze(ends, _ints(1))  # (n, 1)
        causal_of_end = op.unsqueeze(op.gather(causal, place, _axis(0)), _ints(1))  # (n, 1, 1, length)
        x = self._blocks(x, "transformer", lambda t: op.gather(t, place, _axis(1), 1), causal, causal_of_end)
        return ov.Model([self._project(x, "ln_final", "text_projection")], [tokens, ends], "texts")

    def _blocks(
        self,
        x: _Node,
        name: str,
        the_token: Callable[[_Node], _Node],
        mask: _Node | None = None,
        mask_of_the_token: _Node | None = None,
    ) -> _Node:
        """(n, length, width) -> (n, 1, width): all blocks, the last one for `the_token` alone."""
        for layer in range(_LAYERS - 1):
            x = self._block(x, x, f"{name}.resblocks.{layer}", mask)
        return self._block(the_token(x), x, f"{name}.resblocks.{_LAYERS - 1}", mask_of_the_token)

    def _block(self, x: _Node, context: _Node, name: str, mask: _Node | None) -> _Node:
        """OpenAI's ResidualAttentionBlock for the tokens `x`, which attend to the tokens `context`."""
        query, key, value = self._heads_of(x, context, name)
        width = query.get_output_partial_shape(0)[1].get_length() * _HEAD_WIDTH
        scores = op.matmul(op.multiply(query, _constant(_HEAD_WIDTH**-0.5)), key, False, True)
        attention = op.matmul(op.softmax(scores if mask is None else op.add(scores, mask), -1), value, False, False)
        merged = op.reshape(op.transpose(attention, _ints(0, 2, 1, 3)), _ints(0, 0, width), True)
        x = op.add(x, self._linear(merged, f"{name}.attn.out_proj.weight", f"{name}.attn.out_proj.bias"))
        hidden = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc.weight", f"{name}.mlp.c_fc.bias")
        return op.add(x, self._linear(self._activation(hidden), f"{name}.mlp.c_proj.weight", f"{name}.mlp.c_proj.bias"))

    def _heads_of(self, x: _Node, context: _Node, name: str) -> Sequence[_Node]:
        """Query, key and value, each (n, heads, length, 64); one product for all three where they are of one input."""
        weight, bias = f"{name}.attn.in_proj_weight", f"{name}.attn.in_proj_bias"
        width = self._tensor(bias).shape[0] // 3
        normed = self._norm(context, f"{name}.ln_1")
        if x is context:
            parts = op.split(self._linear(normed, weight, bias), _axis(2), 3).outputs()
        else:
            query = self._linear(self._norm(x, f"{name}.ln_1"), weight, bias, slice(0, width))
            parts = [query, *op.split(self._linear(normed, weight, bias, slice(width, None)), _axis(2), 2).outputs()]
        heads = _ints(0, 0, width // _HEAD_WIDTH, _HEAD_WIDTH)
        return [op.transpose(op.reshape(part, heads, True), _ints(0, 2, 1, 3)) for part in parts]

    def _project(self, x: _Node, norm: str, weight: str) -> _Node:
        """(n, 1, width) -> (n, 512), rows of unit length."""
        x = self._norm(op.squeeze(x, _ints(1)), norm)
        return op.normalize_l2(op.matmul(x, self._weight(weight), False, False), _ints(1), 1e-12, "max")

    def _norm(self, x: _Node, name: str) -> _Node:
        normed = op.mvn(x, _ints(-1), True, 1e-5, "inside_sqrt")
        scaled = op.multiply(normed, self._weight(f"{name}.weight"))
        return op.add(scaled, self._weight(f"{name}.bias"))

    def _linear(self, x: _Node, weight: str, bias: str, rows: slice = slice(None)) -> _Node:
        matrix = self._tensor(weight)[rows]
        constant = _int8_rows(matrix) if self._quantise else _constant(matrix)
        return op.add(op.matmul(x, constant, False, True), _constant(self._tensor(bias)[rows]))

    def _weight(self, name: str) -> _Node:
        return _constant(self._tensor(name))


def _int8_rows(matrix: npt.NDArray[np.float32]) -> _Node:
    """A matrix as int8 with one symmetric scale a row; OpenVINO keeps it so and multiplies as the CPU does best."""
    scales = np.abs(matrix).max(axis=1, keepdims=True) / 127
    whole = np.round(matrix / np.maximum(scales, 1e-30)).astype(np.int8)
    return op.multiply(op.convert(op.constant(whole), "f32"), _constant(scales))


def _constant(values: npt.ArrayLike) -> _Node:
    array = np.asarray(values, np.float32, order="C")
    return op.constant(array, shared_memory=array.ndim > 0)  # OpenVINO keeps the array, and with it the mapping


def _ints(*values: int) -> _Node:
    return op.constant(np.array(values, np.int64))


def _axis(axis: int) -> _Node:
    return op.constant(np.int64(axis))


def _first(x: _Node, length: _Node, axis: int) -> _Node:
    return op.slice(x, _ints(0), length, _ints(1), _ints(axis))


_ACTIVATIONS: dict[str, Callable[[_Node], _Node]] = {
    "quick_gelu": lambda x: op.swish(x, _constant(1.702)),  # x * sigmoid(1.702 x)
    "gelu": lambda x: op.gelu(x, "erf"),
}
