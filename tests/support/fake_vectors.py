"""Vectors made from a hash, which lie as CLIP's do where a content names its theme."""

from __future__ import annotations

import functools
import hashlib
import re

import numpy as np
import numpy.typing as npt

_PLANTED = re.compile(rb"theme=(\d+(?:\+\d+)*) seed=\d+")


def vector_of(data: bytes, content_type: str) -> npt.NDArray[np.float32]:
    """The (512,) unit vector of a content: the same in every process, unlike that of any other content.

    Contents that say `theme=3 seed=17` lie as CLIP's do: what is about one theme is near each other, and each type
    has a region of its own. Unrelated texts score 0.56 and related ones 0.77, images 0.36 and 0.61, a text and an image
    0.18 and 0.40. `theme=3+4 seed=17` is about both.
    """
    planted = _PLANTED.search(data)
    if planted is None:
        return _unit(_direction(content_type.encode() + b":" + data))
    own, common = _direction(content_type.encode()), _direction(b"common")
    themes = sum(_direction(b"theme " + each) for each in planted[1].split(b"+"))
    theme, noise = themes / np.linalg.norm(themes), _direction(content_type.encode() + planted[0])
    if content_type == "text":
        return _unit(0.75 * common + 0.45 * theme + 0.48 * noise)
    return _unit(0.24 * common + 0.55 * own + 0.5 * theme + 0.62 * noise)


@functools.lru_cache(1000)
def _direction(name: bytes) -> npt.NDArray[np.float64]:
    vector = np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest())).standard_normal(512)
    vector /= np.linalg.norm(vector)
    vector.flags.writeable = False  # everybody gets the same one
    return vector


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
