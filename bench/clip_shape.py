"""Vectors of the shape CLIP gives: texts and images in two narrow cones apart from each other, and neighbourhoods.

The mean cosines are those known of CLIP ViT-B/32: two texts 0.6, two images 0.5, a text and an image 0.2 (the modality
gap, Liang et al. 2022). Both cones share 20,000 subjects of unequal frequency; what a text and an image of one subject
have in common is little, as it is in CLIP: the best of a million images scores about 0.4 for a text. Variance falls as
1/rank over the directions. No trained weights were at hand to check more than these figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

DIMENSION = 512
_SUBJECTS = 20_000
_AXIS_COSINE = 0.365  # of the two cones: 0.365 * sqrt(0.6 * 0.5) = 0.2
# The parts of the variance: axis of the cone, shared subject, subject as this type shows it, noise.
_PARTS = {"text": (0.6, 0.12, 0.16, 0.12), "image": (0.5, 0.2, 0.18, 0.12)}
_OF_SUBJECT = 0.7  # the rest is the single content's
_ROWS_A_BLOCK = 16_384

Vectors = npt.NDArray[np.float32]


def clip_like(kind: str, rows: int, seed: int) -> Vectors:
    """(rows, 512) unit vectors of texts or images; another seed gives other contents of the same subjects."""
    return np.concatenate(list(_blocks(kind, rows, seed)))


def _blocks(kind: str, rows: int, seed: int) -> Iterator[Vectors]:
    world = np.random.default_rng(7)
    spectrum = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.5
    spectrum /= np.linalg.norm(spectrum)
    shared, own_of = _subjects(world, spectrum), {each: _subjects(world, spectrum) for each in ("text", "image")}
    base = np.linalg.qr(world.standard_normal((DIMENSION, 2)))[0].astype(np.float32)
    axes = {"text": base[:, 0], "image": _AXIS_COSINE * base[:, 0] + (1 - _AXIS_COSINE**2) ** 0.5 * base[:, 1]}
    frequency = np.arange(1, _SUBJECTS + 1) ** -0.6
    numbers = np.random.default_rng((seed, kind == "text"))
    axis, common, private, noise = (np.float32(part) for part in _PARTS[kind])
    for first in range(0, rows, _ROWS_A_BLOCK):
        size = min(_ROWS_A_BLOCK, rows - first)
        subject = numbers.choice(_SUBJECTS, size, p=frequency / frequency.sum())
        block = np.sqrt(common * _OF_SUBJECT) * shared[subject] + np.sqrt(private * _OF_SUBJECT) * own_of[kind][subject]
        single = numbers.standard_normal((size, DIMENSION), dtype=np.float32)
        block += np.sqrt((common + private) * (1 - _OF_SUBJECT)) * spectrum * single
        block += np.sqrt(noise / DIMENSION) * numbers.standard_normal((size, DIMENSION), dtype=np.float32)
        block += np.sqrt(axis) * axes[kind]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        yield block.astype(np.float32)


def _subjects(world: np.random.Generator, spectrum: Vectors) -> Vectors:
    """(20000, 512): 200 topics, around each of which 100 subjects gather."""
    topics = world.standard_normal((200, DIMENSION)) * spectrum
    subjects = world.standard_normal((_SUBJECTS, DIMENSION)) * spectrum
    mixed: Vectors = (np.sqrt(0.4) * topics[np.arange(_SUBJECTS) % 200] + np.sqrt(0.6) * subjects).astype(np.float32)
    return mixed
