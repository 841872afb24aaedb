"""Decide how the parts of a question are put together, in planted worlds: python -m bench.questions.

No trained weights are at hand, so nothing here is a judgement of photographs and captions. What is known of CLIP is the
gap: how near two texts, two images, and a text and an image are on average, and how much nearer when they are about the
same (Liang et al. 2022). Worlds with several such gaps are planted, contents about one theme or two in each, and asked
what people ask: a picture plus words, and something less a part of it. What is right is known, for it was planted.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from index_sidecar.archive.content import CONTENT_TYPES, DIMENSION, ContentType, Vector
from index_sidecar.archive.questions import Term, combined

Way = Literal["plain", "freed", "freed, to unit length"]
WAYS: tuple[Way, ...] = ("plain", "freed", "freed, to unit length")

_RESULTS = Path(__file__).parent / "questions.json"
_THEMES = 24
_EACH = 6  # contents of a type about a theme, and about each two themes
_K = 4
_LESS = 0.7
_SAMPLE = 512  # contents of a kind that its mean is known by, as relevance.py takes


@dataclass(frozen=True)
class Gap:
    """Mean cosines of two contents by chance, and how much nearer two are that share their theme."""

    text_text: float
    image_image: float
    text_image: float
    shared: dict[str, float] = field(default_factory=lambda: {"text": 0.2, "image": 0.2, "both": 0.12})


WORLDS = {
    "no gap": Gap(0.25, 0.25, 0.25),
    "texts 0.25, images 0.5, between 0.2": Gap(0.25, 0.5, 0.2),
    "texts 0.3, images 0.3, between 0.2": Gap(0.3, 0.3, 0.2),
    "texts 0.6, images 0.5, between 0.2": Gap(0.6, 0.5, 0.2),
    "texts 0.6, images 0.5, between 0.05": Gap(0.6, 0.5, 0.05),
}


class World:
    """Contents of both types about themes and pairs of them, and new ones to ask with."""

    def __init__(self, gap: Gap, seed: int) -> None:
        self._numbers = np.random.default_rng(seed)
        basis = np.linalg.qr(self._numbers.standard_normal((DIMENSION, 2 + 3 * _THEMES)))[0].T
        cosine = gap.text_image / (gap.text_text * gap.image_image) ** 0.5
        between = cosine * basis[0] + max(0.0, 1 - cosine**2) ** 0.5 * basis[1]
        self._axes = {"text": gap.text_text**0.5 * basis[0], "image": gap.image_image**0.5 * between}
        self._shared = basis[2 : 2 + _THEMES]
        self._own = {"text": basis[2 + _THEMES :][:_THEMES], "image": basis[2 + 2 * _THEMES :]}
        self._common = gap.shared["both"] ** 0.5
        self._private = {each: (gap.shared[each] - gap.shared["both"]) ** 0.5 for each in CONTENT_TYPES}
        pairs = list(itertools.combinations(range(_THEMES), 2))
        self.about = [themes for themes in [(each,) for each in range(_THEMES)] + pairs for _ in range(_EACH)]
        self.vectors = {each: np.stack([self.content(each, themes) for themes in self.about]) for each in CONTENT_TYPES}
        chosen = self._numbers.choice(len(self.about), min(_SAMPLE, len(self.about)), replace=False)
        self.means: dict[ContentType, Vector] = {
            each: vectors[chosen].mean(axis=0) for each, vectors in self.vectors.items()
        }

    def content(self, content_type: ContentType, themes: tuple[int, ...]) -> Vector:
        """A new one about these: a (512,) unit vector."""
        shared = self._common * self._shared[list(themes)].sum(axis=0)
        own = self._private[content_type] * self._own[content_type][list(themes)].sum(axis=0)
        theme = (shared + own) / len(themes) ** 0.5
        rest = 1 - float(self._axes[content_type] @ self._axes[content_type]) - float(theme @ theme)
        noise = self._numbers.standard_normal(DIMENSION)
        vector = self._axes[content_type] + theme + max(rest, 0.05) ** 0.5 * noise / np.linalg.norm(noise)
        unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit

    def best(self, query: Vector, target: ContentType) -> list[tuple[int, ...]]:
        """What the k best of a type are about."""
        return [self.about[row] for row in np.argsort(-(self.vectors[target] @ query), kind="stable")[:_K]]


def put_together(terms: list[Term], means: Mapping[ContentType, Vector], way: Way) -> Vector:
    """The question's vector, as the product makes it with means or without, or with freed parts of unit length."""
    if way != "freed, to unit length":
        return combined(terms, means if way == "freed" else {})
    freed = [term.vector - means[term.type] for term in terms]
    total = sum(term.weight * part / np.linalg.norm(part) for term, part in zip(terms, freed, strict=True))
    vector: Vector = np.asarray(total / np.linalg.norm(total), np.float32)
    return vector


def _plus(world: World, one: int, other: int, kinds: tuple[ContentType, ContentType]) -> list[Term]:
    first, second = (world.content(kind, (theme,)) for kind, theme in zip(kinds, (one, other), strict=True))
    return [Term(first, kinds[0], 1.0), Term(second, kinds[1], 1.0)]


def _minus(world: World, one: int, other: int, kinds: tuple[ContentType, ContentType]) -> list[Term]:
    whole, less = world.content(kinds[0], (min(one, other), max(one, other))), world.content(kinds[1], (other,))
    return [Term(whole, kinds[0], 1.0), Term(less, kinds[1], -_LESS)]


_TASKS = {"plus": _plus, "minus": _minus}


def _right(task: str, about: tuple[int, ...], one: int, other: int) -> bool:
    """`plus` is about both; `minus` about the one and not the other."""
    return (one in about) and ((other in about) == (task == "plus"))


def measure(questions: int) -> list[dict[str, Any]]:
    """For each world, task, kinds of the parts and kind looked for: the part of the four best that is right."""
    cells = []
    for name, gap in WORLDS.items():
        world = World(gap, 1)
        for task, kinds, target in itertools.product(
            _TASKS, itertools.product(CONTENT_TYPES, CONTENT_TYPES), CONTENT_TYPES
        ):
            right: dict[Way, list[float]] = {way: [] for way in WAYS}
            numbers = np.random.default_rng(2)
            for _ in range(questions):
                one, other = numbers.choice(_THEMES, 2, replace=False).tolist()
                terms = _TASKS[task](world, one, other, kinds)
                for way in WAYS:
                    best = world.best(put_together(terms, world.means, way), target)
                    right[way].append(np.mean([_right(task, about, one, other) for about in best]).item())
            cells.append(
                {"world": name, "task": task, "parts": list(kinds), "target": target}
                | {way: float(np.mean(each)) for way, each in right.items()}
            )
    return cells


def _print(cells: list[dict[str, Any]]) -> None:
    print(f"{'of the four best, right':<74}{'plain':>8}{'freed':>8}{'unit':>8}")
    for world, task in itertools.product(WORLDS, _TASKS):
        some = [cell for cell in cells if (cell["world"], cell["task"]) == (world, task)]
        for mixed in (False, True):
            those = [cell for cell in some if (len(set(cell["parts"])) > 1) == mixed]
            label = f"{world}: {task}, {'parts of both kinds' if mixed else 'parts of one kind'}"
            figures: list[npt.NDArray[np.float64]] = [np.array([cell[way] for cell in those]) for way in WAYS]
            print(f"{label:<74}" + "".join(f"{each.mean():>8.3f}" for each in figures))


def main() -> None:
    """Measure, print, and keep what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.questions", description=__doc__)
    parser.add_argument("--questions", type=int, default=200, help="of each kind (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"write the figures, too ({_RESULTS.name} is kept)")
    arguments = parser.parse_args()
    cells = measure(arguments.questions)
    _print(cells)
    if arguments.json:
        arguments.json.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
