"""What a request becomes: a picture's pixels, a text's tokens, or a refusal. Nothing here knows how it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Part of the model's fingerprint: raise it whenever the same bytes would give other arrays.
PREPROCESSING_VERSION = 3

IMAGE_SIDE = 224
CONTEXT_LENGTH = 77


_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)

Picture = npt.NDArray[np.uint8]  # (224, 224, 3), RGB


@dataclass(frozen=True)
class Pixels:
    """A picture for the image tower."""

    array: npt.NDArray[np.float32]  # (3, 224, 224)

    @classmethod
    def of(cls, picture: Picture) -> Pixels:
        """Normalised as OpenAI's transform does."""
        unit = (picture / np.float32(255) - _MEAN) / _STD  # (224, 224, 3)
        return cls(np.ascontiguousarray(unit.transpose(2, 0, 1)))


@dataclass(frozen=True)
class Tokens:
    """A text for the text tower."""

    ids: list[int]  # 3 to 77 of them, with start and end
    cut: bool  # whether the text had more


class Refusal(Exception):
    """A request that gets no vector: `status`, a stable `code` and a sentence for its sender.

    4xx for what the sender can mend; 500 for our own failures and 503 for what time mends.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


Row = Pixels | Tokens | Refusal
