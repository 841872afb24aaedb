"""The vectors TorchServe sends are those of OpenAI's own code on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..support.openai_clip import OpenAIClip
from ..support.pictures import file
from ..support.real_servers import TorchServe
from ..support.samples import PHOTOGRAPHS, SENTENCES


def _served(torchserve: TorchServe, data: bytes, content_type: str) -> npt.NDArray[np.float32]:
    reply = torchserve.predict(data, content_type)
    assert (reply.status, len(reply.body)) == (200, 2048)
    return np.frombuffer(reply.body, "<f4")


def _worst_other(vectors: npt.NDArray[np.float32]) -> float:
    """The highest similarity of two different inputs: parity means nothing if all of them are alike."""
    return float((vectors @ vectors.T - 2 * np.eye(len(vectors), dtype=np.float32)).max())


def test_texts_equal_openai(torchserve: TorchServe, openai_clip: OpenAIClip) -> None:
    served = np.stack([_served(torchserve, sentence.encode(), "text") for sentence in SENTENCES])
    oracle = np.stack([openai_clip.encode_text(sentence) for sentence in SENTENCES])
    cosines = np.sum(served * oracle, axis=1)
    print("texts: lowest cosine to OpenAI's code", cosines.min())
    assert cosines.min() >= 0.99999
    different = [i for i, sentence in enumerate(SENTENCES) if sentence != "A PHOTO OF A CAT"]  # CLIP ignores case
    assert _worst_other(served[different]) < 0.999


def test_photographs_equal_openai(torchserve: TorchServe, openai_clip: OpenAIClip) -> None:
    served = np.stack([_served(torchserve, path.read_bytes(), "image") for path in PHOTOGRAPHS])
    oracle = np.stack([openai_clip.encode_image(Image.open(path)) for path in PHOTOGRAPHS])
    cosines = np.sum(served * oracle, axis=1)
    print("photographs: lowest cosine to OpenAI's code", cosines.min())
    assert cosines.min() >= 0.9999
    assert _worst_other(served) < 0.9999


def test_transparent_palette_and_one_bit_pictures_equal_openai_on_what_a_viewer_shows(
    torchserve: TorchServe, openai_clip: OpenAIClip
) -> None:
    folder = PHOTOGRAPHS[0].parent
    files: list[bytes] = []
    shown: list[Image.Image] = []
    for name in ("horse.png", "logo.png"):
        with Image.open(folder / name) as image:
            white = Image.new("RGBA", image.size, "white")
            files.append((folder / name).read_bytes())
            shown.append(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
    for name, mode in (("chelsea.png", "P"), ("coffee.png", "P"), ("text.png", "1"), ("page.png", "1")):
        with Image.open(folder / name) as image:
            stored = image.quantize(64) if mode == "P" else image.convert(mode)
        files.append(file(stored, "PNG"))
        shown.append(stored.convert("RGB"))
    served = np.stack([_served(torchserve, data, "image") for data in files])
    oracle = np.stack([openai_clip.encode_image(image) for image in shown])
    assert np.sum(served * oracle, axis=1).min() >= 0.9999
    assert _worst_other(served) < 0.9999


def test_a_rotated_photograph_is_embedded_as_it_was_taken(torchserve: TorchServe, tmp_path: Path) -> None:
    with Image.open(PHOTOGRAPHS[-2]) as photograph:
        upright = photograph.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: viewers turn the stored pixels by 90 degrees to the right
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "rotated.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    stored.save(tmp_path / "stored.png")
    rotated, right, wrong = (
        _served(torchserve, (tmp_path / f"{name}.png").read_bytes(), "image")
        for name in ("rotated", "upright", "stored")
    )
    assert rotated @ right >= 0.99999
    assert rotated @ wrong < 0.999
