"""What the model sees of a picture file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from clip_inputs import Refusal
from clip_limits import Limits
from clip_pictures import decode_image


def seen_of(data: bytes) -> npt.NDArray[np.int16]:
    return decode_image(data, Limits()).astype(np.int16)


def refusal_of(data: bytes, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decode_image(data, limits or Limits())
    return caught.value


def apart(one: bytes | npt.NDArray[np.int16], other: bytes | npt.NDArray[np.int16]) -> float:
    """The mean difference of what is seen, in grey levels."""
    first, second = (seen_of(each) if isinstance(each, bytes) else each for each in (one, other))
    return float(np.abs(first - second).mean())
